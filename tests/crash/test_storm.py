"""Whatever is killed or fails: every event has its Job, once, and no limit is ever passed. A small storm.

``make test-crash`` is the large one; it prints the seed, with which it can be repeated.
"""

from pathlib import Path

import pytest

from tests.crash.__main__ import table
from tests.crash.storm import Plan, weather


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(400)
async def test_each_event_is_one_job_and_no_limit_is_passed_whatever_fails(tmp_path: Path) -> None:
    ledger = await weather(Plan(seed=199, kills=4, outages=10, events=500), tmp_path)
    assert not ledger["violations"], table(ledger)
    assert ledger["events"] == ledger["keys"] == 500
    assert ledger["kills"] == 4
    assert ledger["outages"] >= 10
    assert min(ledger["repeated"].values()) > 0
