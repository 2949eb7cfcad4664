"""A backup beside a journal that is being written to: whole, of one moment, and nobody waits for it."""

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dcnios_daemon.buffer import backup as module
from dcnios_daemon.buffer.backup import Backup, backup
from dcnios_daemon.buffer.fsck import fsck
from dcnios_daemon.buffer.journal import SqliteJournal
from dcnios_daemon.core.errors import JournalCorrupt, JournalError, JournalUnavailable
from dcnios_daemon.core.ports import Succeed
from tests.clocks import ManualClock
from tests.contract.journal_rig import admit, good, make_journal, numbers


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


@contextlib.asynccontextmanager
async def opened(path: Path, clock: ManualClock) -> AsyncIterator[SqliteJournal]:
    journal = make_journal("sqlite", path, clock)
    assert isinstance(journal, SqliteJournal)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.aclose()


async def made(path: Path, to: Path, *, force: bool = False) -> Backup:
    return await asyncio.to_thread(backup, path, to, force=force)


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


async def test_a_backup_is_a_journal_of_one_moment_however_much_is_written_meanwhile(
    path: Path, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon writes between any two steps of the copy, and the copy neither waits nor begins anew."""
    monkeypatch.setattr(module, "_PAGES", 16)
    to, steps = tmp_path / "copy.db", []
    async with opened(path, clock) as journal:
        await journal.append("uploads", admit(*range(50), data=b"x" * 9000), "fifty")
        (claim,) = await journal.claim("train", 1, sink="job", keep=60.0)
        loop, number = asyncio.get_running_loop(), 100

        def between(done: int, total: int) -> None:
            nonlocal number
            number += 1
            written = journal.append("uploads", admit(number, data=b"y" * 9000), f"at {number}")
            assert asyncio.run_coroutine_threadsafe(written, loop).result(10).accepted == 1
            steps.append((done, total))

        said = await asyncio.to_thread(backup, path, to, progress=between)
        assert await journal.finish([claim.delivery], good(claim), Succeed()) == 1
        assert (await journal.stats()).events == 49 + len(steps)
    assert len(steps) > 5
    assert steps == sorted(set(steps))
    assert {total for _, total in steps} == {steps[0][1]}
    assert said == Backup(str(to), steps[0][1] * 4096, 50)
    assert await asyncio.to_thread(names, tmp_path) == {"state", "copy.db"}
    assert await asyncio.to_thread(fsck, to) == []
    async with opened(to, clock) as journal:
        assert await journal.cursor("uploads") == "fifty"
        assert [item.order for item in await journal.in_flight()] == [claim.order]
        assert numbers(await journal.claim("train", 100)) == list(range(1, 50))


async def test_what_is_there_is_replaced_only_if_that_is_wanted(
    path: Path, tmp_path: Path, clock: ManualClock
) -> None:
    to = tmp_path / "copy.db"
    async with opened(path, clock) as journal:
        await made(path, to)
        await journal.append("uploads", admit(1), None)
        with pytest.raises(JournalError, match=r"copy\.db is there already: --force"):
            await made(path, to)
        assert (await made(path, to, force=True)).events == 1
        with pytest.raises(JournalError, match="is the journal itself"):
            await made(path, path.with_name("journal.db"), force=True)
    async with opened(to, clock):
        with pytest.raises(JournalError, match=r"copy\.db-wal is there"):
            await made(path, to, force=True)


async def test_a_damaged_journal_gives_no_backup(path: Path, tmp_path: Path, clock: ManualClock) -> None:
    async with opened(path, clock) as journal:
        await journal.append("uploads", admit(*range(40), data=os.urandom(3000)), None)

    def damage() -> None:
        with path.open("r+b") as file:
            file.seek(4096 * 30)
            file.write(os.urandom(4096 * 5))

    await asyncio.to_thread(damage)
    with pytest.raises(JournalCorrupt, match=r"no backup.*fsck --repair"):
        await made(path, tmp_path / "copy.db")
    assert await asyncio.to_thread(names, tmp_path) == {"state"}


async def test_a_place_that_takes_nothing_is_named(path: Path, tmp_path: Path, clock: ManualClock) -> None:
    async with opened(path, clock):
        with pytest.raises(JournalUnavailable, match=r"no backup of .* at .*nowhere/copy"):
            await made(path, tmp_path / "nowhere" / "copy.db")
        with pytest.raises(JournalError, match="no journal"):
            await made(tmp_path / "other.db", tmp_path / "copy.db")
    assert await asyncio.to_thread(names, tmp_path) == {"state"}


async def test_two_backups_to_one_name_leave_one(path: Path, tmp_path: Path, clock: ManualClock) -> None:
    """Both saw that nothing was there; the second to end finds that something is."""
    to, first = tmp_path / "copy.db", threading.Event()

    def late(_done: int, _total: int) -> None:
        if not first.is_set():
            first.set()
            shutil.copy(path, to)

    async with opened(path, clock):
        with pytest.raises(JournalError, match="is there already"):
            await asyncio.to_thread(backup, path, to, progress=late)
    assert await asyncio.to_thread(names, tmp_path) == {"state", "copy.db"}
