"""Append: events, their deliveries and the source's cursor, all or nothing, and no key twice.

A known key makes a duplicate. But if no route wanted the event when it was first seen and one does now, it is
accepted after all. And the memory of a key that has run for a while starts anew, because what is still being
offered (by a source that lists what is there) must not be forgotten and run again.
"""

from collections.abc import Mapping, Sequence

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
    intake = _Intake(tx, known, fading=_fading(tx, known, dedupe_for / 2))
    results = [intake.take(arrival, marks) for arrival in arrivals]
    intake.write()
    return results


def _fading(tx: Transaction, known: Mapping[bytes, Known], half: float) -> set[bytes]:
    """Keys of settled events whose memory has run for at least ``half`` seconds."""
    old = {key: one.event for key, one in known.items() if one.since + half <= tx.steady + TOLERANCE}
    still_open = set(tx.listed(int, "open_events", ids=as_json(list(old.values())))) if old else set()
    return {key for key, event in old.items() if event not in still_open}


def key_bytes(key: str) -> bytes:
    """A key as it is stored.

    Raises:
        ValueError: It is none.
    """
    raw = bytes.fromhex(key)
    if len(raw) != _KEY_BYTES:
        raise ValueError(f"a key has {2 * _KEY_BYTES} hex digits, not {len(key)}: {key!r}")
    return raw


def add(tx: Transaction, admissions: Sequence[Admission]) -> None:
    """Take events that nobody has seen before, whatever the bounds say."""
    intake = _Intake(tx, {}, fading=set())
    for admission in admissions:
        intake.take_all(admission.event.source, [admission])
    intake.write()


class _Intake:
    """Gathers the rows of all arrivals of a transaction, then writes them together."""

    def __init__(self, tx: Transaction, known: dict[bytes, Known], *, fading: set[bytes]) -> None:
        self._tx = tx
        self._known = known
        self._fading = fading
        self._put: set[bytes] = set()
        self._events: list[tuple[object, ...]] = []
        self._deliveries: list[tuple[int, int, int, int]] = []
        self._unrouted: list[tuple[int, int, float, int]] = []

    def take(self, arrival: Arrival, marks: Watermarks) -> Appended | JournalFull:
        """Put one call's events down, unless a bound was reached before it."""
        tx = self._tx
        events, size = tx.books.number("events"), tx.books.number("bytes")
        if marks.full or marks.reached(events, size):
            return JournalFull(marks.shortage or f"the journal is full: {events:,} events, {size:,} bytes")
        accepted = self.take_all(arrival.source, arrival.admissions)
        duplicates = len(arrival.admissions) - accepted
        if arrival.cursor is not None:
            cursor = arrival.cursor.encode("utf-8", "surrogatepass")
            tx.run("set_cursor", source=tx.number(arrival.source), cursor=cursor)
        if duplicates:
            tx.add("duplicates", duplicates)
        return Appended(accepted=accepted, duplicates=duplicates)

    def take_all(self, source: str, admissions: Sequence[Admission]) -> int:
        """Put events of a source down. Returns how many were new."""
        number = self._tx.number(source)
        self._tx.changed = self._tx.changed or bool(admissions)
        return sum(self._take_one(number, admission) for admission in admissions)

    def _take_one(self, source: int, admission: Admission) -> bool:
        tx, event = self._tx, admission.event
        key, routes = key_bytes(event.key), tuple(dict.fromkeys(admission.routes))
        known = self._known.get(key)
        if known is not None and (known.routed or not routes):
            self._renew(key, known)
            return False
        first = tx.add("next", max(len(routes), 1))
        self._known[key] = Known(first, tx.moment, routed=bool(routes))
        self._put.add(key)
        if known is not None:
            self._fading.discard(key)
            tx.hold(key.hex())
        head, data = pack(head_of(event)), event.data if routes else None
        size = weight(head, event.data) if routes else 0
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
            tx.remember(key.hex())
        return True

    def _renew(self, key: bytes, known: Known) -> None:
        if key in self._fading:
            self._fading.remove(key)
            known.since = self._tx.moment
            self._put.add(key)
            self._tx.remember(key.hex())

    def write(self) -> None:
        """Put all rows down."""
        tx = self._tx
        known = ((key, self._known[key]) for key in sorted(self._put))
        tx.run_rows("put_keys", [(key, one.event, one.since, one.routed) for key, one in known])
        tx.run_rows("add_events", self._events)
        tx.run_rows("add_deliveries", self._deliveries)
        tx.run_rows("add_unrouted", self._unrouted)
