"""The journal on SQLite, as coroutines. What happens to the file happens in :mod:`writer`'s thread."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from dcnios_daemon.buffer import claims, intake, pauses, settling, views
from dcnios_daemon.buffer.books import Books
from dcnios_daemon.buffer.gate import WatermarkGate, Watermarks
from dcnios_daemon.buffer.transaction import Transaction
from dcnios_daemon.buffer.writer import Body, Job, News, Terms, Writer
from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import JournalError, JournalFull, JournalUnavailable
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import (
    Admission,
    Appended,
    Claim,
    Decision,
    Delivery,
    InFlight,
    MakeResult,
    Outcome,
    State,
    Stats,
)
from dcnios_daemon.telemetry.events import JournalFailed, JournalLogStuck, JournalRecovered

_WAITING = 4096
"""The most calls that wait for the thread; more wait to be let in."""
_PORTION = 2000
"""Replays and drops of more go in several transactions, so that nobody waits for a long one."""
T = TypeVar("T")


class SqliteJournal:
    """See :class:`dcnios_daemon.core.ports.Journal`.

    Args:
        path: The file; its directory is made.
        max_events: Bound on events that are not settled.
        max_bytes: Bound on their bytes.
        resume_at: The part of both bounds down to which a shut gate stays shut.
        dedupe_for: Seconds that a key is remembered after its event was settled.
        clock: Wall time for records, monotonic time for pauses.
        history: How many settled deliveries are kept for people.
        gate: What to tell when full; makes its own if none is given.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        path: Path,
        *,
        max_events: int,
        max_bytes: int,
        resume_at: float,
        dedupe_for: float,
        clock: Clock,
        history: int = 10_000,
        gate: WatermarkGate | None = None,
    ) -> None:
        self.gate = gate if gate is not None else WatermarkGate()
        self._path = path
        self._marks = Watermarks(max_events=max_events, max_bytes=max_bytes, resume_at=resume_at)
        self._dedupe_for = dedupe_for
        self._history = history
        self._clock = clock
        self._callbacks: list[Callable[[], None]] = []
        self._room = asyncio.Semaphore(_WAITING)
        self._writer: Writer | None = None
        self._books: Books
        self._failure: str | None = None
        self._log_bytes = 0
        self._said_stuck = 0
        self._make_result: MakeResult | None = None

    @property
    def commits(self) -> int:
        """Transactions written since it was opened."""
        return self._writer.commits if self._writer is not None else 0

    # -- life -------------------------------------------------------------------------------------------

    async def open(self, *, shared: bool = False) -> None:
        """See :class:`dcnios_daemon.core.ports.Journal`.

        Args:
            shared: Beside the daemon that owns the journal, to look and to mend: it must exist, is not
                locked, and only reading, :meth:`replay`, :meth:`drop`, :meth:`pause` and :meth:`resume`
                make sense.

        Raises:
            JournalError: Another process owns it; or, shared, there is none.
        """
        terms = Terms(shared=shared, marks=self._marks, dedupe_for=self._dedupe_for, history=self._history)
        writer = Writer(self._path, terms, self._clock, self._hear)
        try:
            await writer.start()
        except asyncio.CancelledError:
            writer.put(None)
            raise
        self._writer = writer

    async def aclose(self) -> None:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        if self._writer is None:
            return
        try:
            # Once this is answered, so is everything before; abandoned claims are on their way back.
            await self._ask(_nothing, None, writes=False)
        finally:
            writer, self._writer = self._writer, None
            writer.put(None)
            await writer.ended()

    def on_change(self, callback: Callable[[], None]) -> None:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._callbacks.append(callback)

    def on_finish(self, make: MakeResult | None) -> None:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._make_result = make

    # -- the way of an event ----------------------------------------------------------------------------

    async def append(self, source: str, admissions: Sequence[Admission], cursor: str | None) -> Appended:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        if self._failure is not None:
            raise JournalUnavailable(self._failure)
        result: Appended = await self._ask(self._append, intake.Arrival(source, admissions, cursor))
        return result

    async def cursor(self, source: str) -> str | None:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        result: str | None = await self._ask(views.cursors, source, writes=False)
        return result

    async def claim(
        self, route: str, orders: int, *, batch: int = 1, sink: str = "", keep: float | None = None
    ) -> Sequence[Claim]:
        """See :class:`dcnios_daemon.core.ports.Journal`. Claims of a cancelled call are given back."""
        result: Sequence[Claim] = await self._ask(
            claims.claim, claims.Request(route, orders, batch, sink, keep), undo=self._give_back
        )
        return result

    async def started(self, deliveries: Sequence[int]) -> None:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        await self._ask(settling.started, tuple(deliveries))

    async def release(self, deliveries: Sequence[int], *, after: float | None, note: str) -> None:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        await self._ask(settling.release, settling.Release(tuple(deliveries), after, note))

    async def finish(self, deliveries: Sequence[int], outcome: Outcome, decision: Decision) -> int:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        result: int = await self._ask(self._finish, settling.Finish(tuple(deliveries), outcome, decision))
        return result

    # -- looking and mending ----------------------------------------------------------------------------

    async def in_flight(self) -> Sequence[InFlight]:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        result: Sequence[InFlight] = await self._ask(views.in_flight, None, writes=False)
        return result

    async def stats(self) -> Stats:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._opened()
        return replace(self._books.stats(), log_bytes=self._log_bytes)

    async def deliveries(
        self, *, state: State | None = None, route: str | None = None, after: int = 0, limit: int = 100
    ) -> Sequence[Delivery]:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        wanted = views.Wanted(state, route, after, limit)
        result: Sequence[Delivery] = await self._ask(views.lists, wanted, writes=False)
        return result

    async def show(self, key: str) -> tuple[Event | None, Sequence[Delivery]]:
        """See :class:`dcnios_daemon.core.ports.Journal`.

        Raises:
            JournalError: Several keys begin so.
        """
        result: views.Found = await self._ask(views.shows, key, writes=False)
        return result

    async def ended(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        result: Mapping[str, bool] = await self._ask(views.ended, tuple(keys), writes=False)
        return result

    async def replay(self, deliveries: Sequence[int]) -> int:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        return sum([await self._ask(settling.replay, portion) for portion in _portions(deliveries)])

    async def drop(self, deliveries: Sequence[int], reason: str) -> int:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        return sum(
            [
                await self._ask(settling.drop, settling.Drop(portion, reason))
                for portion in _portions(deliveries)
            ]
        )

    async def pause(self, route: str) -> bool:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        result: bool = await self._ask(pauses.pause, route)
        return result

    async def resume(self, route: str) -> bool:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        result: bool = await self._ask(pauses.resume, route)
        return result

    # -- to and from the thread -------------------------------------------------------------------------

    def _append(self, tx: Transaction, arrivals: Sequence[Any]) -> Sequence[Appended | JournalFull]:
        return intake.append(tx, arrivals, marks=self._marks, dedupe_for=self._dedupe_for)

    def _finish(self, tx: Transaction, calls: Sequence[Any]) -> Sequence[int]:
        return settling.finish(tx, calls, make=self._make_result)

    def _opened(self) -> Writer:
        if self._writer is None:
            raise JournalError(f"the journal {self._path} is not open")
        return self._writer

    async def _ask(
        self,
        body: Body,
        argument: object,
        *,
        writes: bool = True,
        undo: Callable[[Any], None] | None = None,
    ) -> Any:  # noqa: ANN401 - each body has its own result
        async with self._room:
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            job = Job(body, argument, future, writes=writes)
            job.undo = undo
            self._opened().put(job)
            try:
                return await future
            except asyncio.CancelledError:
                # Cancelled between the answer and its reading: nobody else will see it.
                if undo is not None and not future.cancelled() and future.exception() is None:
                    undo(future.result())
                raise

    def _hear(self, news: News) -> None:
        self._books = news.books
        if news.failure is not None and self._failure is None:
            JournalFailed(error=news.failure).emit()
        elif news.failure is None and self._failure is not None:
            JournalRecovered().emit()
        self._failure = news.failure
        self._log_bytes = news.log
        self._complain_of_log(news.stuck)
        self.gate.set(news.failure or news.full)
        for job in news.jobs:
            _answer(job)
        if news.changed:
            for callback in self._callbacks:
                callback()

    def _complain_of_log(self, stuck: int) -> None:
        """Once it begins, and whenever it has doubled since."""
        if not stuck:
            self._said_stuck = 0
        elif stuck >= 2 * self._said_stuck:
            self._said_stuck = stuck
            JournalLogStuck(bytes=stuck).emit()

    def _give_back(self, made: Sequence[Claim]) -> None:
        if made and self._writer is not None:
            order = settling.Release(
                tuple(claim.delivery for claim in made),
                None,
                "",
                frozenset(claim.order for claim in made),
            )
            self._writer.put(Job(settling.release, order, None))


def _answer(job: Job) -> None:
    if job.future is None:
        return
    if job.future.cancelled():
        if job.undo is not None and job.error is None:
            job.undo(job.result)
    elif job.error is not None:
        job.future.set_exception(job.error)
    else:
        job.future.set_result(job.result)


def _nothing(_tx: Transaction, calls: Sequence[Any]) -> Sequence[None]:
    return [None] * len(calls)


def _portions(deliveries: Sequence[int]) -> list[tuple[int, ...]]:
    return [tuple(deliveries[start : start + _PORTION]) for start in range(0, len(deliveries), _PORTION)]
