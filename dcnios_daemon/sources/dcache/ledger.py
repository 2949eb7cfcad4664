"""What is still to be looked at, what can be given, and how far the stream has been dealt with. Pure.

The stream's position that goes into the journal is the last id before the first that still waits: events may
be given out of order, and then come again after a crash, known by their keys, but none is passed over.
"""

import asyncio
import heapq
from collections import Counter, deque

import msgspec

from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Batch
from dcnios_daemon.sources.dcache.checks import Check
from dcnios_daemon.sources.dcache.unfinished import Unfinished

_BATCH = 500
_MOST = 10_000
"""Happenings kept at once. Beyond it the stream is read no further, and the server tells of its overflow."""
_FORGIVEN = 4 * 3600.0
"""Seconds after which it is forgotten that another client took the channel."""


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """The cursor."""

    channel: str = ""
    """The channel's URL."""
    id: int | None = None
    """Its last event that has been dealt with; None: none yet."""
    listed: bool = False
    """Whether all that was there has been listed since the last possible loss."""
    listed_at: float = 0.0
    """When, in seconds since the epoch."""
    contests: int = 0
    """How often in a row another client took the channel from us."""
    contested_at: float = 0.0
    """When it last did, in seconds since the epoch."""

    @classmethod
    def decode(cls, cursor: str | None) -> "Position":
        """From what the journal stored; the beginning if that is nothing or nothing of ours."""
        try:
            return msgspec.json.decode(cursor or "{}", type=cls)
        except msgspec.DecodeError:
            return cls()

    def encode(self) -> str:
        """For the journal."""
        return msgspec.json.encode(self).decode()


class Ledger:
    """The bookkeeping of one connection."""

    def __init__(
        self, position: Position, *, store_every: float = 30.0, unfinished: Unfinished | None = None
    ) -> None:
        """Seconds between positions that are stored without an event: ``store_every``."""
        self._store_every = store_every
        self.unfinished = Unfinished() if unfinished is None else unfinished
        """Given up, and not forgotten: as long as there are any, a restart lists."""
        self.to_give = asyncio.Event()
        """Set when there may be something to give."""
        self.to_look = asyncio.Event()
        """Set when there may be something to look at."""
        self._room = asyncio.Event()
        self._room.set()
        self._position = position
        self._stored = position
        self._stored_at = 0.0
        self._is_contested = False
        self._last = position.id
        self._checks: list[tuple[float, int, Check]] = []
        self._by_path: dict[str, Check] = {}
        self._open = 0
        """Checks that have not come to an end."""
        self._ready: deque[tuple[int | None, Event]] = deque()
        self._held: Counter[int] = Counter()
        self._from_listing = 0
        """Checks and events of listings that are not given yet."""
        self._serial = 0
        self._listed_at: float | None = position.listed_at if position.listed else None

    # --- the stream and the listings ------------------------------------------------------------------

    def passed(self, number: int) -> None:
        """The stream's event with this id has been dealt with, or is now in a check."""
        self._last = number
        self.to_give.set()

    def park(self, number: int) -> None:
        """The stream's event with this id is kept by someone for later: see :meth:`unpark`."""
        self._hold(number)

    def unpark(self, number: int) -> None:
        """It has been dealt with, or is now in a check."""
        self._let_go(number)
        self.to_give.set()

    def owes_listing(self) -> None:
        """Something may have been lost."""
        self._listed_at = None

    def listed(self, at: float) -> None:
        """All that is there has been listed, beginning ``at`` seconds since the epoch."""
        self._listed_at = at
        self.to_give.set()

    def contested(self, at: float) -> None:
        """Another client took the channel, ``at`` seconds since the epoch. Whoever goes on in it will have
        missed what that one was told, and must not name ids that it has gone beyond."""
        before = self._position.contests if at - self._position.contested_at < _FORGIVEN else 0
        self._position = Position(channel=self._position.channel, contests=before + 1, contested_at=at)
        self._is_contested = True
        self.to_give.set()

    @property
    def contests(self) -> int:
        """How often in a row the channel was taken from us, once the journal knows it of this one; else 0."""
        return self._stored.contests if self._is_contested and self._stored == self._position else 0

    async def has_room(self) -> None:
        """Return once more may be added."""
        await self._room.wait()

    # --- checks ---------------------------------------------------------------------------------------

    def look(self, check: Check) -> None:
        """Look at a path when the check is due; an earlier one of the same path goes on beside it."""
        self._hold(check.id)
        self._open += 1
        self._push(check)
        if not check.is_change or check.path not in self._by_path:
            self._by_path[check.path] = check

    def again(self, check: Check, due: float) -> None:
        """Not now: look again."""
        check.due, check.is_taken = due, False
        self._push(check)

    def settle(self, check: Check) -> None:
        """The check has come to an end, whatever it brought."""
        if not check.done:
            check.done = True
            self._open -= 1
            self._let_go(check.id)
            self._limit()
        if self._by_path.get(check.path) is check:
            del self._by_path[check.path]
        self.to_give.set()

    def waiting(self, path: str) -> Check | None:
        """The check of this path that has not come to an end."""
        return self._by_path.get(path)

    def due(self, now: float) -> list[Check]:
        """Take out the checks whose time has come."""
        for unfinished in self.unfinished.due(now):
            self.look(unfinished)
        taken: list[Check] = []
        while self._checks:
            due, _, check = self._checks[0]
            if due > now and not check.done:
                break
            heapq.heappop(self._checks)
            if not check.done:
                check.is_taken = True
                taken.append(check)
        return taken

    def next_due(self) -> float | None:
        """When the next check is due; None if there is none."""
        first = [self._checks[0][0]] if self._checks else []
        return min([*first, *self.unfinished.next_due()], default=None)

    def _push(self, check: Check) -> None:
        self._serial += 1
        heapq.heappush(self._checks, (check.due, self._serial, check))
        self.to_look.set()
        self._limit()

    # --- events ---------------------------------------------------------------------------------------

    def give(self, event: Event, number: int | None) -> None:
        """An event is certain; ``number`` is the stream's id that told of it, None for a listing."""
        self._hold(number)
        self._ready.append((number, event))
        self.to_give.set()
        self._limit()

    def batch(self, now: float) -> Batch | None:
        """What can be given now. None: nothing, and no position worth storing either."""
        events: list[Event] = []
        while self._ready and len(events) < _BATCH:
            number, event = self._ready.popleft()
            self._let_go(number)
            events.append(event)
        self._limit()
        position = self._reached()
        news = _milestones(position) != _milestones(self._stored)
        late = position != self._stored and now - self._stored_at >= self._store_every
        if not events and not news and not late:
            return None
        self._stored, self._stored_at = position, now
        return Batch(events=tuple(events), cursor=position.encode())

    def _reached(self) -> Position:
        if self._is_contested:
            return self._position
        number = min(self._held) - 1 if self._held else self._last
        is_listed = self._listed_at is not None and not self._from_listing and not self.unfinished
        return msgspec.structs.replace(
            self._position,
            id=number if number is not None and number >= 0 else None,
            listed=is_listed,
            listed_at=self._listed_at or 0.0 if is_listed else 0.0,
        )

    def _hold(self, number: int | None) -> None:
        if number is None:
            self._from_listing += 1
        else:
            self._held[number] += 1

    def _let_go(self, number: int | None) -> None:
        if number is None:
            self._from_listing -= 1
            return
        self._held[number] -= 1
        if not self._held[number]:
            del self._held[number]

    def _limit(self) -> None:
        if self._open + len(self._ready) < _MOST:
            self._room.set()
        else:
            self._room.clear()


def _milestones(position: Position) -> tuple[object, ...]:
    """What is stored as soon as it changes."""
    return position.listed, position.id is None, position.contested_at
