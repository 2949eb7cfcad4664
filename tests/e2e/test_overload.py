"""Six thousand events into a journal for five thousand, from each source, while the receiver is away.

``DCNIOS_TEST_SCALE=full``: sixty thousand into fifty thousand; ``make bench ONLY=overload`` writes the
figures down.
"""

import os
from pathlib import Path

import pytest

from tests.bench.overload import SOURCE, CloudEvents, Files, Objects, Records, Uploads, Upstream, overload
from tests.servers.fixtures import KafkaAccess
from tests.servers.workspace import Workspace

SCALE = 10 if os.environ.get("DCNIOS_TEST_SCALE") == "full" else 1
EVENTS, BOUND = 6_000 * SCALE, 5_000 * SCALE
MOST_MEMORY = 120
"""MiB."""
IN_HAND = 4_000
"""What a source may have read when the bound was reached: it comes in whole."""


async def holds(folder: Path, upstream: Upstream) -> None:
    found = await overload(folder / "daemon", upstream, events=EVENTS, bound=BOUND)
    assert found["arrived"] == EVENTS
    assert BOUND <= found["held"] <= BOUND + IN_HAND
    for said in (found["readyz"]["reasons"], found["page"]):
        assert f"of {BOUND:,} events" in said["journal"]
        assert "paused" in said[f"source {SOURCE}"]
    assert found["readyz"]["ready"] is False
    assert found["rss_mib_after"] < MOST_MEMORY


@pytest.mark.slow
@pytest.mark.timeout(300 * SCALE)
async def test_cloudevents_that_find_no_room_arrive_in_the_end(tmp_path: Path) -> None:
    await holds(tmp_path, CloudEvents())


@pytest.mark.slow
@pytest.mark.timeout(300 * SCALE)
async def test_files_that_find_no_room_arrive_in_the_end(tmp_path: Path) -> None:
    await holds(tmp_path, Files(tmp_path / "inbox"))


@pytest.mark.slow
@pytest.mark.timeout(300 * SCALE)
async def test_records_that_find_no_room_arrive_in_the_end(tmp_path: Path, kafka: KafkaAccess) -> None:
    await holds(tmp_path, Records(kafka.bootstrap))


@pytest.mark.slow
@pytest.mark.timeout(300 * SCALE)
async def test_objects_that_find_no_room_arrive_in_the_end(tmp_path: Path, workspace: Workspace) -> None:
    await holds(tmp_path, Objects(workspace))


@pytest.mark.slow
@pytest.mark.timeout(300 * SCALE)
async def test_uploads_that_find_no_room_arrive_in_the_end(tmp_path: Path) -> None:
    await holds(tmp_path, Uploads())
