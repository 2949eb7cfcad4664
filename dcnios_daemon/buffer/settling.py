"""From claim to settlement, and back: started, released, finished, replayed, dropped."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from dcnios_daemon.buffer import intake, views
from dcnios_daemon.buffer.records import IN_FLIGHT, QUEUED, SETTLED, Code, clean, pack, shortened, why
from dcnios_daemon.buffer.transaction import Transaction, as_json
from dcnios_daemon.core.ports import Dead, Decision, MakeResult, Outcome, Retry, Succeed


class Release(msgspec.Struct, frozen=True):
    """Claims to give back."""

    deliveries: Sequence[int]
    delay: float | None
    """Seconds from now before which they may not be claimed again."""
    note: str
    orders: frozenset[str] | None = None
    """Only what still belongs to these orders and was not taken since. None: whatever is in flight."""


class Finish(msgspec.Struct, frozen=True):
    """An outcome and what follows from it."""

    deliveries: Sequence[int]
    outcome: Outcome
    decision: Decision


class Drop(msgspec.Struct, frozen=True):
    """Deliveries that shall never run."""

    deliveries: Sequence[int]
    reason: str


class Row(msgspec.Struct, array_like=True):
    """A delivery as it stands, with what its event needs for settling."""

    id: int
    route: int
    state: int
    """A :class:`Code`, left a plain number: there are many of these."""
    attempt: int
    name: str
    together: int | None
    note: str
    event: int
    open: int
    bytes: int
    key: str
    retry_at: float | None = None
    turn: int | None = None
    outcome: str | None = None


class _Changes:
    """Looks all deliveries of a transaction's calls up at once, and writes them back at once."""

    def __init__(self, tx: Transaction, deliveries: set[int]) -> None:
        self._tx = tx
        rows = tx.listed(Row, "look", ids=as_json(sorted(deliveries))) if deliveries else []
        self._rows = {row.id: row for row in rows}
        self._open = {row.event: row.open for row in rows}
        self._open_before = dict(self._open)
        self._changed: dict[int, Row] = {}

    def pick(self, deliveries: Sequence[int]) -> list[Row]:
        """Those of the deliveries that exist, each once."""
        return [self._rows[one] for one in dict.fromkeys(deliveries) if one in self._rows]

    def move(self, row: Row, code: Code) -> None:
        """Bring a delivery into another state, with all that follows for its event and the counts."""
        tx = self._tx
        tx.count(row.route, row.state, -1)
        tx.count(row.route, code, 1)
        row.state = code
        self._changed[row.id] = row
        tx.changed = True
        if code in SETTLED:
            row.turn = tx.add("turn", 1)
            tx.add("history", 1)
            self._close(row)

    def queue(self, row: Row, delay: float | None) -> None:
        """Queue a delivery, perhaps for later."""
        row.retry_at = None if delay is None or delay <= 0 else self._tx.steady + delay
        self.move(row, Code.QUEUED if row.retry_at is None else Code.WAITING)

    def _close(self, row: Row) -> None:
        self._open[row.event] -= 1
        if self._open[row.event] == 0:
            self._tx.add("events", -1)
            self._tx.add("bytes", -row.bytes)
            self._tx.remember(row.key)

    def write(self) -> None:
        """Put the changes down."""
        if not self._changed:
            return
        self._tx.run_rows("change", [self._stored(row) for row in self._changed.values()])
        moved = [(event, n) for event, n in self._open.items() if self._open_before[event] != n]
        closed = [event for event, n in moved if n == 0]
        if closed:
            self._tx.run("close_events", ids=as_json(closed))
        self._tx.run_rows("close_in_part", [(event, n) for event, n in moved if n > 0])

    def _stored(self, row: Row) -> tuple[object, ...]:
        settled = None if row.turn is None else self._tx.now
        return (
            row.id,
            row.state,
            row.attempt,
            row.name,
            row.together,
            row.note,
            row.retry_at,
            row.turn,
            settled,
            row.outcome,
        )


def _all(calls: Sequence[Any]) -> set[int]:
    return {one for call in calls for one in call.deliveries}


def started(tx: Transaction, calls: Sequence[Sequence[int]]) -> list[None]:
    """Submitting becomes running; anything else is left alone."""
    ids = as_json(sorted({one for call in calls for one in call}))
    taken = tx.listed(tuple[int, int], "submitting", ids=ids)
    for route, n in Counter(route for _, route in taken).items():
        tx.count(route, Code.SUBMITTING, -n)
        tx.count(route, Code.RUNNING, n)
    if taken:
        tx.run("start", ids=as_json([one for one, _ in taken]), now=tx.now)
    return [None] * len(calls)


def release(tx: Transaction, calls: Sequence[Release]) -> list[None]:
    """In flight becomes queued, with the same attempt and place; the order's name stays as a trace."""
    changes = _Changes(tx, _all(calls))
    for call in calls:
        for row in changes.pick(call.deliveries):
            ours = call.orders is None or (row.state == Code.SUBMITTING and row.name in call.orders)
            if row.state in IN_FLIGHT and ours:
                row.note = clean(call.note)
                changes.queue(row, call.delay)
    changes.write()
    return [None] * len(calls)


def finish(tx: Transaction, calls: Sequence[Finish], *, make: MakeResult | None = None) -> list[int]:
    """Settle, retry or bury what is in flight for the outcome's order; ``make`` says what tells of that."""
    changes = _Changes(tx, _all(calls))
    finished = [_finish(changes, call) for call in calls]
    changes.write()
    if make is not None:
        decided = [call.decision for call, rows in zip(calls, finished, strict=True) for _ in rows]
        moved = [row.id for rows in finished for row in rows]
        ended = [one for one, how in zip(moved, decided, strict=True) if not isinstance(how, Retry)]
        results = (make(delivery, tx.now) for delivery in views.picked(tx, ended))
        intake.add(tx, [result for result in results if result is not None])
    return [len(rows) for rows in finished]


def _finish(changes: _Changes, call: Finish) -> list[Row]:
    rows = [
        row
        for row in changes.pick(call.deliveries)
        if row.state in IN_FLIGHT and row.name == call.outcome.order
    ]
    record = pack(shortened(call.outcome)).decode() if rows else None
    for row in rows:
        row.outcome = record
        row.note = "" if isinstance(call.decision, Succeed) else why(call.outcome)
        if isinstance(call.decision, Succeed):
            changes.move(row, Code.SUCCEEDED)
        elif isinstance(call.decision, Dead):
            changes.move(row, Code.DEAD)
        else:
            _next_attempt(row)
            changes.queue(row, call.decision.after)
    return rows


def _next_attempt(row: Row) -> None:
    row.attempt += 1
    row.name = ""
    row.together = None


def replay(tx: Transaction, calls: Sequence[Sequence[int]]) -> list[int]:
    """Dead becomes queued, as the next attempt."""
    changes = _Changes(tx, {one for call in calls for one in call})
    results = []
    for call in calls:
        rows = [row for row in changes.pick(call) if row.state == Code.DEAD]
        for row in rows:
            _next_attempt(row)
            row.note = ""
            changes.queue(row, None)
        results.append(len(rows))
    changes.write()
    return results


def drop(tx: Transaction, calls: Sequence[Drop]) -> list[int]:
    """Queued or dead becomes dropped, for good."""
    changes = _Changes(tx, _all(calls))
    results = []
    for call in calls:
        rows = [row for row in changes.pick(call.deliveries) if row.state in QUEUED or row.state == Code.DEAD]
        for row in rows:
            row.note = clean(call.reason)
            changes.move(row, Code.DROPPED)
        results.append(len(rows))
    changes.write()
    return results
