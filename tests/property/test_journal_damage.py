"""Random damage to random pages: whatever it is, mending ends well or says why not, and invents nothing."""

import asyncio
from pathlib import Path

import pytest

from dcnios_daemon.core.errors import JournalError
from tests.property.journal_damage import check, check_with_log, contents, killed, pristine, without_log

SEEDS = 300


@pytest.mark.timeout(300)
async def test_what_random_damage_leaves_is_mended_and_nothing_is_invented(tmp_path: Path) -> None:
    whole = await pristine(tmp_path)
    made = [await asyncio.to_thread(check, whole, tmp_path, seed) for seed in range(SEEDS)]
    assert not [one for one in made if isinstance(one, JournalError)]


@pytest.mark.timeout(300)
async def test_a_damaged_log_costs_what_is_in_it_and_no_more(tmp_path: Path) -> None:
    """SQLite's log ends where it is damaged: what was moved into the file before is there."""
    whole = await killed(tmp_path)
    least, most = (
        await asyncio.to_thread(without_log, whole, tmp_path),
        await asyncio.to_thread(contents, whole),
    )
    assert len(most.events) == len(least.events) + 60
    for seed in range(60):
        made = await asyncio.to_thread(check_with_log, whole, tmp_path, seed)
        if made is not None:
            assert least.events.items() <= made.events.items() <= most.events.items()
