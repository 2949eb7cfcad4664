"""Append: events, their deliveries and the source's cursor, all or nothing, and no key twice.

A key that is known makes a duplicate, with two exceptions. If no route wanted the event then and one does now,
the event is accepted after all. And if its memory has run for a while, it starts anew, because what is still
being offered (by a source that lists what is there) must not be forgotten and run again.
"""

from collections.abc import Sequence

import msgspec

from dcnios_daemon.buffer.gate import Watermarks
from dcnios_daemon.buffer.records import Code, head_of, pack, weight
from dcnios_daemon.buffer.steady import TOLERANCE
from dcnios_daemon.buffer.transaction import Transaction, as_json
from dcnios_daemon.core.errors import JournalFull
from dcnios_daemon.core.ports import Admission, Appended

_KEY_BYTES = 20


class Arrival(msgspec.Struct, frozen=True):
    """What a source hands over in one call."""

    source: str
    admissions: Sequence[Admission]
    cursor: str | None


class Known(msgspec.Struct):
    """What is stored with a key."""

    event: int
    since: float
    """When it was accepted or renewed, in the journal's own time."""
    routed: bool


def append(
    tx: Transaction, arrivals: Sequence[Arrival], *, marks: Watermarks, dedupe_for: float
) -> list[Appended | JournalFull]:
    """Take what has room, in the order of the calls; each is taken whole or refused whole."""
    keys = {key_bytes(one.event.key) for arrival in arrivals for one in arrival.admissions}
    known = {
        key: Known(event, since, routed == 1)
        for key, event, since, routed in tx.run_keys("known_keys", sorted(keys))
    }
    intake = _Intake(tx, marks, known)
    intake.renew(dedupe_for / 2)
    results = [intake.take(arrival) for arrival in arrivals]
    intake.write()
    return results


def key_bytes(key: str) -> bytes:
    """A key as it is stored.

    Raises:
        ValueError: It is none.
    """
    raw = bytes.fromhex(key)
    if len(raw) != _KEY_BYTES:
        raise ValueError(f"a key has {2 * _KEY_BYTES} hex digits, not {len(key)}: {key!r}")
    return raw


class _Intake:
    """Gathers the rows of all arrivals of a transaction, then writes them together."""

    def __init__(self, tx: Transaction, marks: Watermarks, known: dict[bytes, Known]) -> None:
        self._tx = tx
        self._marks = marks
        self._known = known
        self._put: set[bytes] = set()
        self._events: list[tuple[object, ...]] = []
        self._deliveries: list[tuple[int, int, int, int]] = []
        self._unrouted: list[tuple[int, int, float, int]] = []

    def take(self, arrival: Arrival) -> Appended | JournalFull:
        """Put one call's events down, unless a bound was reached before it."""
        tx = self._tx
        events, size = tx.books.number("events"), tx.books.number("bytes")
        if self._marks.full or self._marks.reached(events, size):
            return JournalFull(f"the journal is full: {events:,} events, {size:,} bytes")
        source = tx.number(arrival.source)
        accepted = sum(self._take_one(source, admission) for admission in arrival.admissions)
        duplicates = len(arrival.admissions) - accepted
        if arrival.cursor is not None:
            cursor = arrival.cursor.encode("utf-8", "surrogatepass")
            tx.run("set_cursor", source=source, cursor=cursor)
        if duplicates:
            tx.add("duplicates", duplicates)
        tx.changed = tx.changed or bool(arrival.admissions)
        return Appended(accepted=accepted, duplicates=duplicates)

    def _take_one(self, source: int, admission: Admission) -> bool:
        tx, event = self._tx, admission.event
        key = key_bytes(event.key)
        if key in self._known:
            return False
        self._known.add(key)
        routes = tuple(dict.fromkeys(admission.routes))
        first = tx.add("next", max(len(routes), 1))
        head, data = pack(head_of(event)), event.data if routes else None
        size = weight(head, event.data) if routes else 0
        self._keys.append((key, first))
        self._events.append((first, key, source, tx.now, max(len(routes), 1), len(routes), size, head, data))
        for place, route in enumerate(routes, start=first):
            number = tx.number(route)
            self._deliveries.append((place, first, number, Code.QUEUED.value))
            tx.count(number, Code.QUEUED, 1)
        if routes:
            tx.add("events", 1)
            tx.add("bytes", size)
        else:
            self._unrouted.append((first, first, tx.now, tx.add("turn", 1)))
            tx.add("history", 1)
            tx.count(0, Code.UNROUTED, 1)
            tx.remember(event.key)
        return True

    def write(self) -> None:
        """Put all rows down."""
        tx = self._tx
        tx.run_rows("add_keys", sorted(self._keys))
        tx.run_rows("add_events", self._events)
        tx.run_rows("add_deliveries", self._deliveries)
        tx.run_rows("add_unrouted", self._unrouted)
