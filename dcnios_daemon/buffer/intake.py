"""Append: events, their deliveries and the source's cursor, all or nothing, and no key twice.

A known key makes a duplicate. But if no route wanted the event when it was first seen and one does now, it is
accepted after all. And the memory of a key that has run for a while starts anew, because what is still being
offered (by a source that lists what is there) must not be forgotten and run again.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from dcnios_daemon.buffer.gate import Watermarks
from dcnios_daemon.buffer.records import Code, head_of, pack, weight
from dcnios_daemon.buffer.steady import TOLERANCE
from dcnios_daemon.buffer.transaction import Transaction, as_json
from dcnios_daemon.core.errors import JournalFull
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Admission, Appended

_KEY_BYTES = 20
_QUEUED = int(Code.QUEUED)
_EVENT_COLUMNS = 9
_DELIVERY_COLUMNS = 4
_UNROUTED_COLUMNS = 4


class Arrival(msgspec.Struct, frozen=True):
    """What a source hands over in one call."""

    source: str
    admissions: Sequence[Admission]
    cursor: str | None


class Known(msgspec.Struct, gc=False):
    """What is stored with a key."""

    event: int
    since: float
    """When it was accepted or renewed, in the journal's own time."""
    routed: bool


def append(
    tx: Transaction, arrivals: Sequence[Arrival], *, marks: Watermarks, dedupe_for: float
) -> list[Appended | JournalFull]:
    """Take what has room, in the order of the calls; each is taken whole or refused whole."""
    keys = [_keys(arrival.admissions) for arrival in arrivals]
    known = {
        key: Known(event, since, routed == 1)
        for key, event, since, routed in tx.run_keys("known_keys", sorted(set().union(*keys)))
    }
    intake = _Intake(tx, known, fading=_fading(tx, known, dedupe_for / 2))
    results = [intake.take(arrival, those, marks) for arrival, those in zip(arrivals, keys, strict=True)]
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


def _keys(admissions: Sequence[Admission]) -> list[bytes]:
    """The key of each, as it is stored; in one go, for that is half of the work."""
    texts = [admission.event.key for admission in admissions]
    raw = bytes.fromhex("".join(texts)) if set(map(len, texts)) == {2 * _KEY_BYTES} else b""
    if len(raw) != len(texts) * _KEY_BYTES:
        return [key_bytes(text) for text in texts]  # says which is none
    return [raw[start : start + _KEY_BYTES] for start in range(0, len(raw), _KEY_BYTES)]


def add(tx: Transaction, admissions: Sequence[Admission]) -> None:
    """Take events that nobody has seen before, whatever the bounds say."""
    intake = _Intake(tx, {}, fading=set())
    for admission in admissions:
        intake.take_all(admission.event.source, [admission], _keys([admission]))
    intake.write()


class _Intake:
    """Gathers the rows of all arrivals of a transaction, then writes them together."""

    def __init__(self, tx: Transaction, known: dict[bytes, Known], *, fading: set[bytes]) -> None:
        self._tx = tx
        self._known = known
        self._fading = fading
        self._routes: dict[tuple[str, ...], tuple[int, ...]] = {}
        """Their numbers, each once."""
        self._put: set[bytes] = set()
        self._renewed = False
        """Whether one of them belongs to an event that was there before."""
        self._events: list[object] = []
        """Rows back to back, like the next two: as tuples they would be work for the collector of cycles."""
        self._deliveries: list[int] = []
        self._unrouted: list[float] = []

    def take(self, arrival: Arrival, keys: Sequence[bytes], marks: Watermarks) -> Appended | JournalFull:
        """Put one call's events down, unless a bound was reached before it."""
        tx = self._tx
        events, size = tx.books.number("events"), tx.books.number("bytes")
        if marks.full or marks.reached(events, size):
            return JournalFull(marks.shortage or f"the journal is full: {events:,} events, {size:,} bytes")
        accepted = self.take_all(arrival.source, arrival.admissions, keys)
        duplicates = len(arrival.admissions) - accepted
        if arrival.cursor is not None:
            cursor = arrival.cursor.encode("utf-8", "surrogatepass")
            tx.run("set_cursor", source=tx.number(arrival.source), cursor=cursor)
        if duplicates:
            tx.add("duplicates", duplicates)
        return Appended(accepted=accepted, duplicates=duplicates)

    def take_all(self, source: str, admissions: Sequence[Admission], keys: Sequence[bytes]) -> int:
        """Put events of a source down. Returns how many were new."""
        tx, known = self._tx, self._known
        number = tx.number(source)
        tx.changed = tx.changed or bool(admissions)
        first, size, accepted, unrouted = tx.books.number("next"), 0, 0, 0
        deliveries = len(self._deliveries)
        for key, admission in zip(keys, admissions, strict=True):
            met = known.get(key)
            if met is not None and (met.routed or not admission.routes):
                self._renew(key, met)
                continue
            if met is not None:
                self._fading.discard(key)
                tx.hold(key.hex())
            known[key] = Known(first, tx.moment, bool(admission.routes))
            self._put.add(key)
            accepted += 1
            if admission.routes:
                first, weighed = self._route(first, key, number, admission)
                size += weighed
            else:
                first = self._count_only(first, key, number, admission.event)
                unrouted += 1
        tx.add("next", first - tx.books.number("next"))
        self._enter(deliveries, unrouted=unrouted)
        tx.add("events", accepted - unrouted)
        tx.add("bytes", size)
        return accepted

    def _route(self, first: int, key: bytes, source: int, admission: Admission) -> tuple[int, int]:
        """Put an event and its deliveries down. Returns the next free id, and what it weighs."""
        event, routes = admission.event, self._routes.get(admission.routes)
        if routes is None:
            routes = tuple([self._tx.number(route) for route in dict.fromkeys(admission.routes)])
            self._routes[admission.routes] = routes
        head, n = pack(head_of(event)), len(routes)
        size = weight(head, event.data)
        self._events += (first, key, source, self._tx.now, n, n, size, head, event.data)
        for place, route in enumerate(routes, start=first):
            self._deliveries += (place, first, route, _QUEUED)
        return first + n, size

    def _count_only(self, first: int, key: bytes, source: int, event: Event) -> int:
        """Put an event down that no route wants. Returns the next free id."""
        tx = self._tx
        self._events += (first, key, source, tx.now, 1, 0, 0, pack(head_of(event)), None)
        self._unrouted += (first, first, tx.now, tx.add("turn", 1))
        tx.remember(key.hex())
        return first + 1

    def _enter(self, delivery: int, *, unrouted: int) -> None:
        """Count by route and state what was put down, from this delivery's row on."""
        tx = self._tx
        for route, n in Counter(self._deliveries[delivery + 2 :: _DELIVERY_COLUMNS]).items():
            tx.count(route, _QUEUED, n)
        if unrouted:
            tx.add("history", unrouted)
            tx.count(0, Code.UNROUTED, unrouted)

    def _renew(self, key: bytes, known: Known) -> None:
        if key in self._fading:
            self._renewed = True
            self._fading.remove(key)
            known.since = self._tx.moment
            self._put.add(key)
            self._tx.remember(key.hex())

    def write(self) -> None:
        """Put all rows down."""
        tx = self._tx
        tx.run_flat("add_events", self._events, columns=_EVENT_COLUMNS)
        if self._events and not self._renewed:
            tx.run("put_new_keys", since=tx.moment, first=self._events[0])
        else:
            known = [(key, self._known[key]) for key in sorted(self._put)]
            tx.run_rows("put_keys", [(key, one.event, one.since, one.routed) for key, one in known])
        tx.run_flat("add_deliveries", self._deliveries, columns=_DELIVERY_COLUMNS)
        tx.run_flat("add_unrouted", self._unrouted, columns=_UNROUTED_COLUMNS)
