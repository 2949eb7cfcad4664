"""Files that were still incomplete when they were given up: looked at again, less and less often. Pure.

A pool tells of an upload's end under the name that it had at its beginning (``NotificationAmplifier``). So of
one that was renamed while it was under way the end may never be told where it can be found. Most of what is
kept here will never be complete, though: broken-off uploads, empty files made over NFS. So it holds up
nothing, and is forgotten a day after the file was made.
"""

import heapq
from collections.abc import Iterator

import msgspec

from dcnios_daemon.sources.dcache.checks import Check
from dcnios_daemon.sources.dcache.client.namespace import Entry
from dcnios_daemon.sources.dcache.timing import Timing

_MOST = 10_000
"""Files kept; beyond it the one kept longest is forgotten."""
_AT_ONCE = 100
"""Files that are looked at before it is seen what else is due."""
_HURRY = 10.0
"""Seconds between such handfuls that are looked at before their time."""


class Unfinished:
    """One connection's."""

    def __init__(self, timing: Timing | None = None, *, most: int = _MOST) -> None:
        self._timing = timing or Timing()
        self._most = most
        self._kept: dict[str, Check] = {}
        """By PNFS-ID, which a rename leaves as it is."""
        self._queue: list[tuple[float, int, str]] = []
        self._serial = 0
        self._next_hurry = 0.0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._kept)

    def knows(self, entry: Entry, path: str) -> bool:
        """Whether this file will be looked at again at this path anyway."""
        kept = self._kept.get(entry.pnfsid)
        return kept is not None and kept.path == path

    def keep(self, check: Check, entry: Entry, *, now: float, today: float) -> None:
        """Look again, later each time, at what this check found incomplete; until the file is too old for
        that. It is ``now`` by the monotonic clock, and ``today`` since the epoch."""
        timing, before = self._timing, self._kept.pop(entry.pnfsid, None)
        since = (before or check).given_up or check.given_up or now
        age = max(now - since, today - entry.created / 1000 if entry.created > 0 else 0.0)
        if age >= timing.given_up:
            return
        pause = min(check.pause * 2, timing.longest_unfinished) if check.pause else timing.unfinished
        again = msgspec.structs.replace(
            check, id=None, found_at=today, pause=pause, given_up=since, tries=0, done=False, is_taken=False
        )
        self._kept[entry.pnfsid] = again
        self._push(entry.pnfsid, again, now + pause)
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    def forget(self, pnfsid: str) -> None:
        """It is complete, or no more."""
        self._kept.pop(pnfsid, None)

    def hurry(self, watch: str, now: float) -> None:
        """An upload has ended in this watch under a name that is gone: it may be any of these. Some of them
        are looked at before their time, those first that were not for longest."""
        due = max(now, self._next_hurry)
        if due > now + self._timing.unfinished:
            return
        early = [key for key, one in self._kept.items() if one.place.watch == watch and one.due > due]
        for pnfsid in early[:_AT_ONCE]:
            self._push(pnfsid, self._kept[pnfsid], due)
        if early:
            self._next_hurry = due + _HURRY

    def due(self, now: float) -> Iterator[Check]:
        """Take out those to look at now, a handful at most."""
        for _ in range(_AT_ONCE):
            if next(self.next_due(), now + 1) > now:
                return
            _, _, pnfsid = heapq.heappop(self._queue)
            check = self._kept.pop(pnfsid)
            check.until = now + self._timing.patience
            yield check

    def next_due(self) -> Iterator[float]:
        """When the next is due, if there is one."""
        while self._queue:
            due, _, pnfsid = self._queue[0]
            kept = self._kept.get(pnfsid)
            if kept is not None and kept.due == due:
                yield due
                return
            heapq.heappop(self._queue)

    def _push(self, pnfsid: str, check: Check, due: float) -> None:
        check.due = due
        self._serial += 1
        heapq.heappush(self._queue, (due, self._serial, pnfsid))
