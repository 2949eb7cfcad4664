"""The journal without a file: the same contract, gone with the process."""

import asyncio
import string
from collections.abc import Callable, Iterator, Mapping, Sequence

from dcnios_daemon.buffer.gate import WatermarkGate, Watermarks
from dcnios_daemon.buffer.grouping import Ready, group
from dcnios_daemon.buffer.records import IN_FLIGHT, QUEUED, STATES, Code, clean, shortened, why
from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import JournalError, JournalFull
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.names import KEY_HEX, batch_key, order_name
from dcnios_daemon.core.ports import (
    Admission,
    Appended,
    Claim,
    Dead,
    Decision,
    Delivery,
    InFlight,
    MakeResult,
    Outcome,
    Retry,
    State,
    Stats,
    Succeed,
)
from tests.fakes.journal_shelf import Entry, Shelf, next_attempt, ready_row

_POLL_SECONDS = 1.0
"""How often to look whether a retry has come due, should the clock not run like the event loop's."""


class MemoryJournal:
    """See :class:`dcnios_daemon.core.ports.Journal` and, for the arguments, ``SqliteJournal``."""

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        *,
        max_events: int = 1_000_000,
        max_bytes: int = 2 << 30,
        resume_at: float = 0.8,
        dedupe_for: float = 30 * 86400.0,
        clock: Clock,
        history: int = 10_000,
        gate: WatermarkGate | None = None,
    ) -> None:
        self.gate = gate if gate is not None else WatermarkGate()
        self._marks = Watermarks(max_events=max_events, max_bytes=max_bytes, resume_at=resume_at)
        self._history = history
        self._clock = clock
        self._shelf = Shelf(clock, dedupe_for=dedupe_for)
        self._callbacks: list[Callable[[], None]] = []
        self._cursors: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = False
        self._make_result: MakeResult | None = None
        self._paused: dict[str, float] = {}

    # -- life -------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._is_open = True
        self._after(changed=False)

    async def aclose(self) -> None:
        """See :class:`dcnios_daemon.core.ports.Journal`. What it holds is still there when opened again."""
        self._is_open = False
        if self._timer is not None:
            self._timer.cancel()

    def on_change(self, callback: Callable[[], None]) -> None:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._callbacks.append(callback)

    def on_finish(self, make: MakeResult | None) -> None:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._make_result = make

    def _begin(self) -> None:
        if not self._is_open:
            raise JournalError("the journal is not open")
        if self._shelf.promote():
            self._call_back()
        self._shelf.forget()

    def _after(self, *, changed: bool) -> None:
        self._shelf.prune(self._history)
        self.gate.set(self._marks.look(self._shelf.events, self._shelf.bytes))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._shelf.next_due()
        if due is not None and self._is_open:
            pause = min(max(due - self._shelf.steady.now(), 0), _POLL_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(pause, self._come_due)
        if changed:
            self._call_back()

    def _call_back(self) -> None:
        for callback in self._callbacks:
            callback()

    def _come_due(self) -> None:
        self._after(changed=self._shelf.promote())

    # -- the way of an event ----------------------------------------------------------------------------

    async def append(self, source: str, admissions: Sequence[Admission], cursor: str | None) -> Appended:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._begin()
        if self._marks.full or self._marks.reached(self._shelf.events, self._shelf.bytes):
            raise JournalFull(
                f"the journal is full: {self._shelf.events:,} events, {self._shelf.bytes:,} bytes"
            )
        accepted = sum(self._shelf.accept(admission) for admission in admissions)
        self._shelf.duplicates += len(admissions) - accepted
        if cursor is not None:
            self._cursors[source] = cursor
        self._after(changed=bool(admissions))
        return Appended(accepted=accepted, duplicates=len(admissions) - accepted)

    async def cursor(self, source: str) -> str | None:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._begin()
        return self._cursors.get(source)

    async def claim(
        self, route: str, orders: int, *, batch: int = 1, sink: str = "", keep: float | None = None
    ) -> Sequence[Claim]:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._begin()
        if route in self._paused:
            return []
        queue = [
            ready_row(self._shelf.entries[one]) for one in self._shelf.queues.get(route, ())[: orders * batch]
        ]
        groups = group(
            queue, orders=orders, batch=batch, members=lambda first: self._shelf.members(route, first)
        )
        claims = [claim for rows in groups.orders for claim in self._claim(rows, sink, keep)]
        self._after(changed=groups.cut)
        return claims

    def _claim(self, rows: Sequence[Ready], sink: str, keep: float | None) -> Iterator[Claim]:
        entries = [self._shelf.entries[row.id] for row in rows]
        key = batch_key(tuple(entry.kept.event.key for entry in entries))
        name = order_name(entries[0].route, key, entries[0].attempt)
        for entry in entries:
            self._shelf.move(entry, Code.SUBMITTING)
            entry.claimed, entry.submitted, entry.note = self._clock.now(), None, ""
            entry.sink, entry.keep = sink, keep
            entry.name, entry.together = name, entries[0].id if len(entries) > 1 else None
            yield Claim(
                delivery=entry.id,
                route=entry.route,
                attempt=entry.attempt,
                order=name,
                accepted=entry.kept.accepted,
                event=entry.kept.event,
            )

    def _pick(self, deliveries: Sequence[int], codes: frozenset[Code]) -> list[Entry]:
        self._begin()
        known = (self._shelf.entries.get(one) for one in dict.fromkeys(deliveries))
        return [entry for entry in known if entry is not None and entry.code in codes]

    async def started(self, deliveries: Sequence[int]) -> None:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        for entry in self._pick(deliveries, frozenset({Code.SUBMITTING})):
            self._shelf.move(entry, Code.RUNNING)
            entry.submitted = self._clock.now()

    async def release(self, deliveries: Sequence[int], *, after: float | None, note: str) -> None:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        entries = self._pick(deliveries, IN_FLIGHT)
        for entry in entries:
            entry.note = clean(note)
            self._shelf.queue(entry, after)
        self._after(changed=bool(entries))

    async def finish(self, deliveries: Sequence[int], outcome: Outcome, decision: Decision) -> int:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        entries = [entry for entry in self._pick(deliveries, IN_FLIGHT) if entry.name == outcome.order]
        for entry in entries:
            entry.outcome = shortened(outcome)
            entry.note = "" if isinstance(decision, Succeed) else why(outcome)
            if isinstance(decision, Retry):
                next_attempt(entry)
                self._shelf.queue(entry, decision.after)
            else:
                self._shelf.move(entry, Code.DEAD if isinstance(decision, Dead) else Code.SUCCEEDED)
                self._tell(entry)
        self._after(changed=bool(entries))
        return len(entries)

    def _tell(self, entry: Entry) -> None:
        make = self._make_result
        result = None if make is None else make(self._shown(entry), self._clock.now())
        if result is not None:
            self._shelf.accept(result)

    # -- looking and mending ----------------------------------------------------------------------------

    async def in_flight(self) -> Sequence[InFlight]:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._begin()
        return [_in_flight(self._shelf.entries[one]) for one in sorted(self._shelf.flying)]

    async def stats(self) -> Stats:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._begin()
        counts: dict[str, dict[str, int]] = {}
        for (route, state), n in self._shelf.counts.items():
            if n:
                counts.setdefault(route, {})[state.value] = n
        return Stats(
            events=self._shelf.events,
            bytes=self._shelf.bytes,
            deliveries=counts,
            duplicates=self._shelf.duplicates,
            oldest_queued=self._shelf.oldest_queued(),
            paused=dict(self._paused),
        )

    async def deliveries(
        self, *, state: State | None = None, route: str | None = None, after: int = 0, limit: int = 100
    ) -> Sequence[Delivery]:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._begin()
        wanted = (
            self._shown(entry)
            for one, entry in sorted(self._shelf.entries.items(), reverse=True)
            if (state is None or STATES[entry.code] is state)
            and (route is None or entry.route == route)
            and (after <= 0 or one < after)
        )
        return [delivery for delivery, _ in zip(wanted, range(limit), strict=False)]

    def _shown(self, entry: Entry) -> Delivery:
        event, due = entry.kept.event, entry.due
        return Delivery(
            id=entry.id,
            route=entry.route,
            state=STATES[entry.code],
            attempt=entry.attempt,
            key=event.key,
            source=event.source,
            kind=event.kind,
            subject=event.subject,
            action=event.action.value,
            time=event.time,
            size=event.size,
            accepted=entry.kept.accepted,
            claimed=entry.claimed,
            submitted=entry.submitted,
            settled=entry.settled,
            retry_at=None if due is None else due - self._shelf.steady.now() + self._clock.now(),
            order=entry.name,
            note=entry.note,
            outcome=entry.outcome,
        )

    async def show(self, key: str) -> tuple[Event | None, Sequence[Delivery]]:
        """See :class:`dcnios_daemon.core.ports.Journal`.

        Raises:
            JournalError: Several keys begin so.
        """
        self._begin()
        start = key.strip().lower()
        if not start or len(start) > KEY_HEX or not set(start) <= set(string.hexdigits):
            return None, ()
        entries = [entry for entry in self._shelf.entries.values() if entry.kept.event.key.startswith(start)]
        entries.sort(key=lambda entry: -entry.id)
        keys = sorted({entry.kept.event.key for entry in entries})
        if len(keys) > 1:
            raise JournalError(f"{len(keys)} keys or more begin with {start}: {', '.join(keys[:3])}, ...")
        events = [entry.kept.event for entry in entries if entry.kept.open > 0]
        return (events[0] if events else None), [self._shown(entry) for entry in entries]

    async def ended(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._begin()
        return self._shelf.ended(keys)

    async def replay(self, deliveries: Sequence[int]) -> int:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        entries = self._pick(deliveries, frozenset({Code.DEAD}))
        for entry in entries:
            next_attempt(entry)
            entry.note = ""
            self._shelf.queue(entry, None)
        self._after(changed=bool(entries))
        return len(entries)

    async def pause(self, route: str) -> bool:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._begin()
        is_new = route not in self._paused
        self._paused.setdefault(route, self._clock.now())
        self._after(changed=is_new)
        return is_new

    async def resume(self, route: str) -> bool:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        self._begin()
        was_paused = self._paused.pop(route, None) is not None
        self._after(changed=was_paused)
        return was_paused

    async def drop(self, deliveries: Sequence[int], reason: str) -> int:
        """See :class:`dcnios_daemon.core.ports.Journal`."""
        entries = self._pick(deliveries, QUEUED | {Code.DEAD})
        for entry in entries:
            entry.note, entry.due = clean(reason), None
            self._shelf.move(entry, Code.DROPPED)
        self._after(changed=bool(entries))
        return len(entries)


def _in_flight(entry: Entry) -> InFlight:
    return InFlight(
        delivery=entry.id,
        route=entry.route,
        attempt=entry.attempt,
        key=entry.kept.event.key,
        order=entry.name,
        state=STATES[entry.code],
        claimed=entry.claimed or 0.0,
        sink=entry.sink,
        keep=entry.keep,
    )
