"""Random damage to random pages: whatever it is, mending ends well or says why not, and invents nothing."""

import asyncio
from pathlib import Path

import pytest

from dcnios_daemon.core.errors import JournalError
from tests.property.journal_damage import check, pristine

SEEDS = 300


@pytest.mark.timeout(300)
async def test_what_random_damage_leaves_is_mended_and_nothing_is_invented(tmp_path: Path) -> None:
    whole = await pristine(tmp_path)
    made = [await asyncio.to_thread(check, whole, tmp_path, seed) for seed in range(SEEDS)]
    assert not [one for one in made if isinstance(one, JournalError)]
