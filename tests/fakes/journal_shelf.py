"""What the journal without a file holds, and how it changes. Synchronous; knows no gate and no callback."""

import bisect
from collections import Counter, deque
from collections.abc import Sequence

import msgspec

from dcnios_daemon.buffer.grouping import Ready
from dcnios_daemon.buffer.records import IN_FLIGHT, SETTLED, STATES, Code, head_of, pack, weight
from dcnios_daemon.buffer.steady import SteadyTime
from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Admission, Outcome, State


class Kept(msgspec.Struct, eq=False):
    """An event as long as anything is known of it."""

    event: Event
    accepted: float
    bytes: int
    open: int


class Known(msgspec.Struct, eq=False):
    """What is kept with a key."""

    since: float
    """When it was accepted or renewed, in the journal's own time."""
    routed: bool
    until: float | None = None
    """When it is forgotten; None while its event is open."""


class Entry(msgspec.Struct, eq=False):
    """A delivery."""

    id: int
    route: str
    kept: Kept
    code: Code
    attempt: int = 1
    due: float | None = None
    claimed: float | None = None
    submitted: float | None = None
    settled: float | None = None
    name: str = ""
    sink: str = ""
    keep: float | None = None
    together: int | None = None
    note: str = ""
    outcome: Outcome | None = None


class Shelf:
    """Events and deliveries by where they stand."""

    def __init__(self, clock: Clock, *, dedupe_for: float) -> None:
        self._clock = clock
        self._dedupe_for = dedupe_for
        self.steady = SteadyTime(clock)
        self.entries: dict[int, Entry] = {}
        self.queues: dict[str, list[int]] = {}
        """Route to what may be claimed, in order of arrival."""
        self.waiting: set[int] = set()
        self.flying: set[int] = set()
        self.counts: Counter[tuple[str, State]] = Counter()
        self.events = self.bytes = self.duplicates = 0
        self._settled: deque[int] = deque()
        self._keys: dict[str, Known] = {}
        self._remembered: deque[tuple[float, str]] = deque()
        self._next = 1

    def forget(self) -> None:
        """Keys that were kept long enough may come again."""
        while self._remembered and self.steady.has_come(self._remembered[0][0] + self._dedupe_for):
            _, key = self._remembered.popleft()
            known = self._keys.get(key)
            if known is not None and known.until is not None and self.steady.has_come(known.until):
                del self._keys[key]

    def _remember(self, key: str) -> None:
        now = self.steady.now()
        self._keys[key].until = now + self._dedupe_for
        self._remembered.append((now, key))

    def prune(self, history: int) -> None:
        """Keep only so many settled deliveries."""
        while len(self._settled) > history:
            self.entries.pop(self._settled.popleft())

    def oldest_queued(self) -> float | None:
        """When the oldest queued delivery's event was accepted."""
        first = [queue[0] for queue in self.queues.values() if queue] + sorted(self.waiting)[:1]
        return min((self.entries[one].kept.accepted for one in first), default=None)

    def next_due(self) -> float | None:
        """When the next retry may be claimed."""
        return min((self.entries[one].due or 0 for one in self.waiting), default=None)

    def promote(self) -> bool:
        """Let what has come due stand in its queue again. Returns whether there was any."""
        due = [one for one in self.waiting if self.steady.has_come(self.entries[one].due or 0)]
        for one in due:
            self.waiting.discard(one)
            entry = self.entries[one]
            entry.code, entry.due = Code.QUEUED, None
            bisect.insort(self.queues[entry.route], one)
        return bool(due)

    def accept(self, admission: Admission) -> bool:
        """Take an event. Returns False when its key is known."""
        event, routes = admission.event, tuple(dict.fromkeys(admission.routes))
        known = self._keys.get(event.key)
        if known is not None and (known.routed or not routes):
            self._renew(event.key, known)
            return False
        self._keys[event.key] = Known(self.steady.now(), routed=bool(routes))
        size = weight(pack(head_of(event)), event.data) if routes else 0
        kept = Kept(event, self._clock.now(), size, len(routes))
        self.events += bool(routes)
        self.bytes += size
        for route in routes or ("",):
            entry = Entry(self._next, route, kept, Code.QUEUED if routes else Code.UNROUTED)
            self._next += 1
            self.entries[entry.id] = entry
            self.counts[route, STATES[entry.code]] += 1
            if routes:
                self.queues.setdefault(route, []).append(entry.id)
            else:
                self._settle(entry)
        return True

    def ended(self, keys: Sequence[str]) -> dict[str, bool]:
        """Of these those that have nothing left to do, and whether all went well."""
        codes: dict[str, set[Code]] = {
            key: set() for key in keys if key in self._keys and self._keys[key].routed
        }
        for entry in self.entries.values():
            if entry.kept.event.key in codes and entry.code is not Code.UNROUTED:
                codes[entry.kept.event.key].add(entry.code)
        over = SETTLED | {Code.DEAD}
        return {key: found <= {Code.SUCCEEDED} for key, found in codes.items() if found <= over}

    def _renew(self, key: str, known: Known) -> None:
        if known.until is not None and self.steady.has_come(known.since + self._dedupe_for / 2):
            known.since = self.steady.now()
            self._remember(key)

    def _settle(self, entry: Entry) -> None:
        entry.settled = self._clock.now()
        self._settled.append(entry.id)
        kept = entry.kept
        kept.open -= 1
        if kept.open <= 0:
            self._remember(kept.event.key)
            self.events -= kept.open == 0
            self.bytes -= kept.bytes
            kept.event = msgspec.structs.replace(kept.event, data=b"")

    def members(self, route: str, first: int) -> list[Ready]:
        """What was released together, by its first delivery."""
        entries = (self.entries[one] for one in self.queues[route])
        return [ready_row(entry) for entry in entries if entry.together == first]

    def move(self, entry: Entry, code: Code) -> None:
        """Bring a delivery into another state."""
        self.counts[entry.route, STATES[entry.code]] -= 1
        self.counts[entry.route, STATES[code]] += 1
        if entry.code is Code.QUEUED:
            queue = self.queues[entry.route]
            del queue[bisect.bisect_left(queue, entry.id)]
        self.waiting.discard(entry.id)
        self.flying.discard(entry.id)
        entry.code = code
        if code is Code.QUEUED:
            bisect.insort(self.queues[entry.route], entry.id)
        elif code is Code.WAITING:
            self.waiting.add(entry.id)
        elif code in IN_FLIGHT:
            self.flying.add(entry.id)
        elif code in SETTLED:
            self._settle(entry)

    def queue(self, entry: Entry, delay: float | None) -> None:
        """Queue a delivery, perhaps for later."""
        entry.due = None if delay is None or delay <= 0 else self.steady.now() + delay
        self.move(entry, Code.QUEUED if entry.due is None else Code.WAITING)


def next_attempt(entry: Entry) -> None:
    """What it was part of is over."""
    entry.attempt += 1
    entry.name = ""
    entry.together = None


def ready_row(entry: Entry) -> Ready:
    """A delivery as :mod:`grouping` wants it."""
    return Ready(entry.id, entry.id, entry.attempt, entry.together, entry.kept.bytes)
