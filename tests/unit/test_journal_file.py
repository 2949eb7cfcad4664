# ruff: noqa: ASYNC240 - these tests move files about, and nothing else runs meanwhile
"""The journal's file: who may have it, what is wrong with it, what happens when its disk fails."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from dcnios_daemon.buffer import store, writer
from dcnios_daemon.buffer.fsck import fsck
from dcnios_daemon.buffer.journal import SqliteJournal
from dcnios_daemon.core.errors import JournalCorrupt, JournalError, JournalFull, JournalUnavailable
from dcnios_daemon.core.ports import Dead, State, Succeed
from dcnios_daemon.core.results import ResultRule
from tests.clocks import ManualClock
from tests.contract.journal_rig import admit, bad, good, make_event, make_journal, numbers


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


def made(path: Path, clock: ManualClock) -> SqliteJournal:
    journal = make_journal("sqlite", path, clock)
    assert isinstance(journal, SqliteJournal)
    return journal


@contextlib.asynccontextmanager
async def opened(path: Path, clock: ManualClock, *, shared: bool = False) -> AsyncIterator[SqliteJournal]:
    journal = made(path, clock)
    await journal.open(shared=shared)
    try:
        yield journal
    finally:
        await journal.aclose()


@pytest_asyncio.fixture
async def journal(path: Path, clock: ManualClock) -> AsyncIterator[SqliteJournal]:
    async with opened(path, clock) as journal:
        yield journal


def limit_pages(journal: SqliteJournal, pages: int) -> None:
    """Let the file grow no further, as a full disk does. Run on the journal's own connection."""
    assert journal._writer is not None
    journal._writer._connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()


# --- who may have it ----------------------------------------------------------------------------------


async def test_only_one_process_dispatches_from_it(
    journal: SqliteJournal, path: Path, clock: ManualClock
) -> None:
    with pytest.raises(JournalError, match=rf"{path} is in use by process {os.getpid()}"):
        await made(path, clock).open()
    with pytest.raises(JournalError, match="is in use"):
        await asyncio.to_thread(fsck, path)


async def test_a_lock_left_by_a_dead_process_holds_nobody_up(path: Path, clock: ManualClock) -> None:
    code = (
        "import os, sys; from pathlib import Path; from dcnios_daemon.buffer.store import Lock\n"
        "Path(sys.argv[1]).parent.mkdir(); Lock(Path(sys.argv[1])).take(); os.kill(os.getpid(), 9)"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code, str(path)], check=False)
    assert path.with_name("journal.db.lock").exists()
    async with opened(path, clock) as journal:
        assert (await journal.append("uploads", admit(1), None)).accepted == 1


async def test_others_look_and_mend_beside_the_daemon_and_the_daemon_notices(
    journal: SqliteJournal, path: Path, clock: ManualClock
) -> None:
    await journal.append("uploads", admit(1, 2), None)
    (claim,) = await journal.claim("train", 1)
    await journal.finish([claim.delivery], bad(claim), Dead())
    changed = asyncio.Event()
    async with opened(path, clock, shared=True) as beside:
        assert (await beside.stats()) == (await journal.stats())
        assert len(await beside.deliveries()) == 2
        assert (await beside.show(claim.event.key))[0] == claim.event
        journal.on_change(changed.set)
        assert await beside.replay([claim.delivery]) == 1
        assert await beside.drop([claim.delivery + 1], "not wanted") == 1
    async with asyncio.timeout(10):
        await changed.wait()
        while (await journal.stats()).deliveries != {"train": {"queued": 1, "dropped": 1}}:
            changed.clear()
            await changed.wait()
    assert numbers(await journal.claim("train", 5)) == [1]


async def test_a_pause_made_beside_the_daemon_counts_from_its_very_next_claim(
    journal: SqliteJournal, path: Path, clock: ManualClock
) -> None:
    await journal.append("uploads", admit(1, 2, 3), None)
    async with opened(path, clock, shared=True) as beside:
        for _ in range(2):
            assert await beside.pause("train")
            assert await journal.claim("train", 1) == []
            assert (await journal.stats()).paused == (await beside.stats()).paused == {"train": clock.now()}
            assert await beside.resume("train")
            assert len(await journal.claim("train", 1)) == 1
            assert (await journal.stats()).paused == {}


async def test_beside_nothing_there_is_nothing_to_see(path: Path, clock: ManualClock) -> None:
    with pytest.raises(JournalError, match=f"no journal at {path}"):
        await made(path, clock).open(shared=True)
    assert not path.exists()


# --- what is wrong with it ----------------------------------------------------------------------------


async def test_a_file_that_is_no_database_is_named_and_left_alone(path: Path, clock: ManualClock) -> None:
    path.parent.mkdir()
    path.write_bytes(b"dear diary, " * 1000)
    with pytest.raises(JournalCorrupt, match=f"{path}.*not a database.*restore a backup"):
        await made(path, clock).open()
    assert path.read_bytes() == b"dear diary, " * 1000


async def test_somebody_else_s_database_is_left_alone(path: Path, clock: ManualClock) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE diary (day)")
    with pytest.raises(JournalCorrupt, match="no journal"):
        await made(path, clock).open()


async def test_a_newer_version_s_journal_is_left_alone(path: Path, clock: ManualClock) -> None:
    async with opened(path, clock):
        pass
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 3")
    with pytest.raises(JournalCorrupt, match="schema version 3, this program knows 2"):
        await made(path, clock).open()


async def test_damage_met_while_running_is_told_and_shuts_the_gate_for_good(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "POLL_SECONDS", 0.01)
    async with opened(path, clock) as journal:
        for number in range(40):
            await journal.append("uploads", admit(number, data=os.urandom(3000)), None)

    def damage() -> bytes:
        with path.open("r+b") as file:
            for page in range(20, path.stat().st_size // 4096):
                file.seek(page * 4096)
                file.write(os.urandom(4096))
        return path.read_bytes()

    damaged = await asyncio.to_thread(damage)
    async with opened(path, clock) as journal:
        for _ in range(20):
            with pytest.raises(JournalUnavailable, match="fsck --repair"):
                await journal.claim("train", 40)
            assert journal.gate.reason is not None
            assert "malformed" in journal.gate.reason
            with pytest.raises(JournalUnavailable, match="malformed"):
                await journal.append("uploads", admit(100), None)
            assert await journal.cursor("uploads") is None  # what can be read is
            await asyncio.sleep(0.01)  # so that it looks around
    assert await asyncio.to_thread(path.read_bytes) == damaged


async def test_an_empty_file_becomes_a_journal(path: Path, clock: ManualClock) -> None:
    path.parent.mkdir()
    path.touch()
    async with opened(path, clock) as journal:
        assert (await journal.append("uploads", admit(1), None)).accepted == 1


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalUnavailable, match="file"):
        await made(tmp_path / "file" / "journal.db", clock).open()


# --- when its disk fails ------------------------------------------------------------------------------


async def test_a_full_disk_refuses_shuts_the_gate_and_is_tried_again(journal: SqliteJournal) -> None:
    await journal.append("uploads", admit(1), "one")
    limit_pages(journal, 40)
    with pytest.raises(JournalUnavailable, match="full"):
        await journal.append("uploads", admit(2, data=b"x" * 500_000), "two")
    assert journal.gate.reason is not None
    assert "full" in journal.gate.reason
    with pytest.raises(JournalUnavailable, match="full"):
        await journal.append("uploads", admit(3), "three")
    assert await journal.cursor("uploads") == "one"
    limit_pages(journal, 1 << 30)
    async with asyncio.timeout(10):
        await journal.gate.wait_open()
    assert (await journal.append("uploads", admit(2), "two")).accepted == 1


async def test_one_call_that_does_not_fit_harms_no_other(journal: SqliteJournal) -> None:
    await journal.append("uploads", admit(1), None)
    (claim,) = await journal.claim("train", 1)
    limit_pages(journal, 40)
    large, small, outcome = await asyncio.gather(
        journal.append("uploads", admit(2, data=b"x" * 500_000), None),
        journal.append("uploads", admit(3), None),
        journal.finish([claim.delivery], good(claim), Succeed()),
        return_exceptions=True,
    )
    assert isinstance(large, JournalUnavailable)
    assert not isinstance(small, BaseException)
    assert outcome == 1
    assert (await journal.stats()).deliveries == {"train": {"queued": 1, "succeeded": 1}}


class Disk:
    """What is said of the disk's room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 1 << 30
        monkeypatch.setattr("os.statvfs", lambda _: self)

    f_frsize = 4096
    f_blocks = 1 << 20

    @property
    def f_bavail(self) -> int:
        return self.left // self.f_frsize


async def test_the_last_room_on_the_disk_is_left_to_settling(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that the journal itself has filled to the brim, nothing could ever be settled again."""
    disk = Disk(monkeypatch)
    async with opened(path, clock) as journal:
        await journal.append("uploads", admit(1, 2), None)
        disk.left = 60 << 20
        async with asyncio.timeout(10):
            await journal.gate.wait_shut()
        assert journal.gate.reason is not None
        assert "60 MiB of disk left" in journal.gate.reason
        with pytest.raises(JournalFull, match="60 MiB of disk left"):
            await journal.append("uploads", admit(3), "three")
        (claim,) = await journal.claim("train", 1)
        assert await journal.finish([claim.delivery], good(claim), Succeed()) == 1
        assert (await journal.stats()).deliveries == {"train": {"queued": 1, "succeeded": 1}}
        disk.left = 90 << 20
        async with asyncio.timeout(10):
            await journal.gate.wait_open()
        assert (await journal.append("uploads", admit(3), "three")).accepted == 1


async def test_the_room_is_looked_at_before_a_flood_has_taken_it(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    disk.left = 65 << 20
    for number in range(20):
        try:
            await journal.append("uploads", admit(number, data=b"x" * (1 << 20)), None)
        except JournalFull:
            break
        disk.left -= 1 << 20
    assert 58 << 20 < disk.left < 64 << 20


async def test_free_pages_inside_the_file_are_room(
    path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "RESERVE", 1 << 20)
    disk = Disk(monkeypatch)
    async with opened(path, clock) as journal:
        await journal.append("uploads", admit(1, data=b"x" * (2 << 20)), None)
        disk.left = 0
        async with asyncio.timeout(10):
            await journal.gate.wait_shut()
        (claim,) = await journal.claim("train", 1)
        await journal.finish([claim.delivery], good(claim), Succeed())
        async with asyncio.timeout(10):
            await journal.gate.wait_open()


async def test_another_process_that_writes_for_long_does_not_stop_the_daemon_for_good(
    journal: SqliteJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert journal._writer is not None
    journal._writer._connection.execute("PRAGMA busy_timeout = 50").fetchall()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnavailable, match="another process"):
            await journal.append("uploads", admit(1), None)
        other.execute("ROLLBACK")
    async with asyncio.timeout(10):
        await journal.gate.wait_open()
    assert (await journal.append("uploads", admit(1), None)).accepted == 1


async def test_a_file_taken_away_under_us_is_noticed(journal: SqliteJournal, path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))
    async with asyncio.timeout(10):
        await journal.gate.wait_shut()
    with pytest.raises(JournalUnavailable):
        await journal.append("uploads", admit(1), None)
    path.with_name("elsewhere.db").rename(path)
    async with asyncio.timeout(10):
        await journal.gate.wait_open()


# --- results ------------------------------------------------------------------------------------------


async def test_an_end_and_its_result_are_one_transaction(path: Path, clock: ManualClock) -> None:
    """After a crash there are both or none; and what is there is sound."""
    copy = path.parent / "copy" / "journal.db"
    async with opened(path, clock) as journal:
        journal.on_finish(ResultRule(instance="here").admission)
        await journal.append("uploads", admit(*range(40)), None)
        claims = await journal.claim("train", 40)
        async with asyncio.TaskGroup() as group:
            endings = [
                group.create_task(
                    journal.finish([claim.delivery], good(claim), Succeed() if number % 3 else Dead())
                )
                for number, claim in enumerate(claims)
            ]
            await endings[0]
            copy.parent.mkdir()
            for part in ("", "-wal"):  # as a crash at this moment would leave them
                shutil.copy(f"{path}{part}", f"{copy}{part}")
        ended = await journal.deliveries(route="train", limit=100)
        assert len(await journal.deliveries(route="results", limit=100)) == len(ended) == 40
    for file in (path, copy):
        assert await asyncio.to_thread(fsck, file) == []
        async with opened(file, clock) as journal:
            stats = (await journal.stats()).deliveries
            assert stats["results"]["queued"] == sum(
                stats["train"].get(end, 0) for end in ("succeeded", "dead")
            )


# --- fsck ---------------------------------------------------------------------------------------------


async def _filled(path: Path, clock: ManualClock) -> None:
    async with opened(path, clock) as journal:
        await journal.append("uploads", admit(*range(20), routes=("a", "b")), None)
        await journal.append("uploads", admit(20, routes=()), None)
        claims = await journal.claim("a", 4)
        await journal.finish([claims[0].delivery], good(claims[0]), Succeed())
        await journal.finish([claims[1].delivery], bad(claims[1]), Dead())
        await journal.drop([one.id for one in await journal.deliveries(route="b", limit=3)], "")


async def test_a_sound_journal_has_no_findings(path: Path, clock: ManualClock) -> None:
    await _filled(path, clock)
    assert await asyncio.to_thread(fsck, path) == []


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("UPDATE counters SET n = n + 5 WHERE state = 0", "not"),
        ("DELETE FROM counters", "not 0"),
        ("UPDATE meta SET n = 3 WHERE name = 'events'", "there are"),
        ("UPDATE meta SET n = 1 WHERE name = 'next'", "is taken"),
        ("DELETE FROM keys", "could come twice"),
        ("DELETE FROM deliveries WHERE id BETWEEN 5 AND 6", "has no delivery"),
        ("DELETE FROM events WHERE id = 5", "has no event"),
        ("UPDATE events SET open = 7 WHERE id = 9", "open deliveries"),
        ("UPDATE events SET data = NULL WHERE id = 9", "body is lost"),
    ],
)
async def test_what_is_damaged_is_found_and_mended(
    path: Path, clock: ManualClock, damage: str, finding: str
) -> None:
    await _filled(path, clock)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.executescript(damage)
    assert any(finding in one.what for one in await asyncio.to_thread(fsck, path))
    assert all(one.mended or one.remark for one in await asyncio.to_thread(fsck, path, repair=True))
    assert await asyncio.to_thread(fsck, path) == []
    async with opened(path, clock) as journal:
        assert (await journal.append("uploads", admit(*range(19, 30), routes=("a",)), None)).accepted >= 9
        before = (await journal.stats()).in_flight("a")
        claims = await journal.claim("a", 100)
        assert (await journal.stats()).in_flight("a") == before + len(claims)
    assert await asyncio.to_thread(fsck, path) == []


async def test_an_event_whose_deliveries_are_lost_is_kept_where_people_see_it(
    path: Path, clock: ManualClock
) -> None:
    await _filled(path, clock)
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("DELETE FROM deliveries WHERE event = 9")
    assert all(one.mended or one.remark for one in await asyncio.to_thread(fsck, path, repair=True))
    async with opened(path, clock) as journal:
        (shown,) = await journal.deliveries(state=State.DEAD, route="")
        assert "lost" in shown.note
        assert (await journal.show(shown.key))[0] == make_event(4)


async def test_a_page_that_is_older_than_the_rest_makes_nothing_run_twice(
    path: Path, clock: ManualClock
) -> None:
    """The disk lost one write: by the table the delivery waits, by the index over it it has run."""
    async with opened(path, clock) as journal:
        await journal.append("uploads", admit(1, 2, routes=("a", "b")), None)

    def old_page(*, put: bytes | None = None) -> bytes:
        with contextlib.closing(sqlite3.connect(path)) as other:
            (page,) = other.execute("SELECT rootpage FROM sqlite_master WHERE name = 'deliveries'").fetchone()
        with path.open("r+b") as file:
            file.seek((page - 1) * 4096)
            if put is not None:
                file.write(put)
            return file.read(4096) if put is None else b""

    before = await asyncio.to_thread(old_page)
    async with opened(path, clock) as journal:
        (claim,) = await journal.claim("a", 1)
        await journal.finish([claim.delivery], good(claim), Succeed())
    await asyncio.to_thread(partial(old_page, put=before))
    assert await asyncio.to_thread(fsck, path) != []
    findings = await asyncio.to_thread(partial(fsck, path, repair=True))
    assert any("1 deliveries are dead" in one.what for one in findings)
    assert await asyncio.to_thread(fsck, path) == []
    async with opened(path, clock) as journal:
        assert numbers(await journal.claim("a", 9)) == [2]
        (dead,) = await journal.deliveries(state=State.DEAD)
        assert "it may have run" in dead.note
        assert numbers(await journal.claim("b", 9)) == [1, 2]


async def test_a_journal_copied_at_any_moment_is_whole(
    path: Path, clock: ManualClock, tmp_path: Path
) -> None:
    """What a crash leaves: the file and its log, no checkpoint."""
    async with opened(path, clock) as journal:
        await journal.append("uploads", admit(1, 2, 3), "three")
        (claim,) = await journal.claim("train", 1)
        copy = tmp_path / "copy" / "journal.db"
        copy.parent.mkdir()
        for name in ("journal.db", "journal.db-wal"):
            shutil.copy(path.with_name(name), copy.with_name(name))
    async with opened(copy, clock) as journal:
        assert [one.order for one in await journal.in_flight()] == [claim.order]
        assert await journal.cursor("uploads") == "three"
        assert numbers(await journal.claim("train", 5)) == [2, 3]
    assert await asyncio.to_thread(fsck, copy) == []
