"""The journal's thread: group commit, cancelled calls, and time that does not depend on the backlog."""

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from dcnios_daemon.buffer import claims, disk, writer
from dcnios_daemon.buffer.journal import SqliteJournal
from dcnios_daemon.buffer.transaction import Transaction
from dcnios_daemon.core.ports import Admission, State
from dcnios_daemon.telemetry.events import JournalLogStuck, Signal
from tests.clocks import ManualClock
from tests.contract.journal_rig import admit, make_event, make_journal, numbers
from tests.daemon import eventually


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def journal(tmp_path: Path, clock: ManualClock) -> AsyncIterator[SqliteJournal]:
    made = make_journal("sqlite", tmp_path / "journal.db", clock)
    assert isinstance(made, SqliteJournal)
    await made.open()
    yield made
    await made.aclose()


class Brake:
    """Holds the thread inside a transaction that it has already worked in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
        self.arrived = threading.Event()
        self.go_on = threading.Event()
        self._serve = getattr(claims, body)
        monkeypatch.setattr(claims, body, self._held)

    def _held(self, tx: Transaction, requests: Sequence[Any]) -> Any:
        result = self._serve(tx, requests)
        self.arrived.set()
        assert self.go_on.wait(10)
        return result


@pytest.fixture
def brake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Brake]:
    made = Brake(monkeypatch, "claim")
    yield made
    made.go_on.set()


async def test_appends_at_the_same_time_share_their_commits(journal: SqliteJournal) -> None:
    before = journal.commits
    async with asyncio.TaskGroup() as group:
        for number in range(500):
            group.create_task(journal.append("uploads", admit(number), None))
    assert (await journal.stats()).events == 500
    assert journal.commits - before <= 50


async def test_a_claim_cancelled_while_it_is_served_is_given_back(
    journal: SqliteJournal, brake: Brake
) -> None:
    """Committed, but nobody there to submit it: without this it would stay *submitting* until a restart."""
    await journal.append("uploads", admit(1, 2), None)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(journal.claim("train", 2))
        assert await asyncio.to_thread(brake.arrived.wait, 10)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        brake.go_on.set()
    assert await _eventually_claimed(journal) == [1, 2]


async def test_a_claim_cancelled_between_answer_and_reading_is_given_back(journal: SqliteJournal) -> None:
    await journal.append("uploads", admit(1, 2), None)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(journal.claim("train", 2))
        while not (await journal.stats()).in_flight():  # noqa: ASYNC110 - the very turn of the loop matters
            await asyncio.sleep(0)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
    assert call.cancelled()
    assert await _eventually_claimed(journal) == [1, 2]


async def test_a_claim_abandoned_at_the_end_is_given_back_before_closing(
    journal: SqliteJournal, brake: Brake, clock: ManualClock, tmp_path: Path
) -> None:
    await journal.append("uploads", admit(1), None)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(journal.claim("train", 1))
        assert await asyncio.to_thread(brake.arrived.wait, 10)
        call.cancel()
        closing = group.create_task(journal.aclose())
        await asyncio.sleep(0)
        brake.go_on.set()
        await closing
    await journal.open()
    assert list(await journal.in_flight()) == []
    assert [one.state for one in await journal.deliveries()] == [State.QUEUED]


async def _eventually_claimed(journal: SqliteJournal) -> list[int]:
    changed = asyncio.Event()
    journal.on_change(changed.set)
    async with asyncio.timeout(10):
        while not (found := numbers(await journal.claim("train", 5))):
            await changed.wait()
            changed.clear()
    return found


async def test_a_call_cancelled_while_it_waits_is_not_done(journal: SqliteJournal, brake: Brake) -> None:
    await journal.append("uploads", admit(1), None)
    async with asyncio.TaskGroup() as group:
        group.create_task(journal.claim("train", 1))
        assert await asyncio.to_thread(brake.arrived.wait, 10)
        call = group.create_task(journal.append("uploads", admit(2), None))
        await asyncio.sleep(0)
        call.cancel()
        brake.go_on.set()
    assert (await journal.append("uploads", admit(2), None)).accepted == 1


async def test_a_body_that_fails_harms_no_other_call(journal: SqliteJournal) -> None:
    broken = [Admission(msgspec.structs.replace(make_event(1), key="no key"), ("train",))]
    said = await asyncio.gather(
        journal.append("uploads", broken, "one"),
        journal.append("uploads", admit(2), "two"),
        return_exceptions=True,
    )
    assert isinstance(said[0], ValueError)
    assert (await journal.cursor("uploads"), (await journal.stats()).events) == ("two", 1)


async def test_a_busy_event_loop_does_not_starve_the_thread(journal: SqliteJournal) -> None:
    """A loop that lets go of the interpreter and takes it right back can keep it from the thread."""
    stop = False

    async def busy() -> None:
        while not stop:
            sum(range(2000))
            await asyncio.sleep(0)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(busy())
        for number in range(200):
            await journal.append("uploads", admit(number), None)
        stop = True
    assert (await journal.stats()).events == 200


@pytest.mark.slow
async def test_opening_and_claiming_take_no_longer_with_a_backlog(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "journal.db"
    journal = make_journal("sqlite", path, clock, max_events=1_000_000)
    await journal.open()
    for start in range(0, 100_000, 5000):
        await journal.append("uploads", admit(*range(start, start + 5000)), None)
    await journal.aclose()
    began = time.perf_counter()
    await journal.open()
    first = await journal.claim("train", 1)
    took = time.perf_counter() - began
    assert numbers(first) == [0]
    assert len(await journal.deliveries(state=State.SUBMITTING)) == 1
    await journal.aclose()
    assert took < 0.25  # a scan of 100,000 events takes longer than opening any number of them


async def test_retries_wait_no_longer_after_a_restart_under_an_earlier_wall_clock(
    tmp_path: Path, clock: ManualClock
) -> None:
    journal = make_journal("sqlite", tmp_path / "journal.db", clock)
    await journal.open()
    await journal.append("uploads", admit(1), None)
    (claim,) = await journal.claim("train", 1)
    await journal.release([claim.delivery], after=60, note="")
    await journal.aclose()
    clock.step_wall(-86_400)
    await journal.open()
    assert list(await journal.claim("train", 1)) == []
    clock.pass_time(60)
    assert numbers(await journal.claim("train", 1)) == [1]
    await journal.aclose()


async def test_a_log_that_a_reader_keeps_from_being_moved_is_said_and_shown(
    journal: SqliteJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup by another program, an ``sqlite3`` left open: nothing else tells before the disk is full."""
    said: list[Signal] = []
    monkeypatch.setattr(Signal, "emit", lambda self: said.append(self))  # noqa: PLW0108 - a method
    monkeypatch.setattr(disk, "LOG_BYTES", 500_000)
    monkeypatch.setattr(writer, "POLL_SECONDS", 0.02)
    path = tmp_path / "journal.db"
    async with contextlib.AsyncExitStack() as held:
        reader = held.enter_context(contextlib.closing(sqlite3.connect(path, check_same_thread=False)))
        await asyncio.to_thread(reader.executescript, "BEGIN; SELECT count(*) FROM events;")
        for number in range(12):
            await journal.append("uploads", admit(number, data=os.urandom(100_000)), None)

        async def stuck() -> bool:
            return any(isinstance(one, JournalLogStuck) for one in said)

        await eventually(stuck, "it is said")
        assert (await journal.stats()).log_bytes > 500_000
        assert len([one for one in said if isinstance(one, JournalLogStuck)]) <= 2
    assert journal.gate.reason is None, "nothing is lost, and there is room"

    async def moved() -> bool:
        await journal.append("uploads", admit(100), None)
        frames = await asyncio.to_thread(_not_moved, path)
        return frames == 0

    await eventually(moved, "the log is moved into the file")


def _not_moved(path: Path) -> int:
    """Frames of the log that are not in the file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        _, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(frames - moved)
