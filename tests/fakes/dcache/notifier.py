"""How events come from PnfsManager, pools and NFS doors to the frontend (section 3).

Each source has its own queue: order is kept within a source and never between two. What a source
does not know to be watched it does not send; what is queued when watches change may be lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from .switches import Switches
from .tasks import Tasks


class Source(StrEnum):
    """The services that tell of events."""

    PNFSMANAGER = "PnfsManager"
    POOL = "pool"
    NFS = "NFS door"


@dataclass(frozen=True, slots=True)
class Happening:
    """One event as a source tells it; ``target`` is the watched inode."""

    source: Source
    target: str
    flag: str
    is_dir: bool
    name: str | None = None
    cookie: str | None = None

    def payload(self) -> dict[str, object]:
        """Return the JSON of the event: absent keys, one flag, then IN_ISDIR (section 3)."""
        parts: dict[str, object] = {}
        if self.name is not None:
            parts["name"] = self.name
        if self.cookie is not None:
            parts["cookie"] = self.cookie
        parts["mask"] = [self.flag, "IN_ISDIR"] if self.is_dir else [self.flag]
        return parts


class Frontend(Protocol):
    """The receiving side."""

    def is_armed(self, happening: Happening) -> bool:
        """Whether the happening's source has been told that somebody watches."""

    def accept(self, happening: Happening) -> None:
        """Take one event."""

    def accept_overflow(self) -> None:
        """Take the news that a source threw events away."""


class Notifier:
    """The sources' queues."""

    def __init__(self, switches: Switches, frontend: Frontend, tasks: Tasks) -> None:
        """Send everything to ``frontend``."""
        self._switches = switches
        self._frontend = frontend
        self._tasks = tasks
        self._queues: dict[Source, deque[tuple[float, Happening]]] = {source: deque() for source in Source}
        self._overflown: set[Source] = set()
        self._pumping: set[Source] = set()

    def notify(self, happening: Happening) -> None:
        """Send ``happening`` when its source gets round to it."""
        if not self._frontend.is_armed(happening):
            return
        queue = self._queues[happening.source]
        delay = self._delay(happening.source)
        if delay <= 0 and not queue:
            self._frontend.accept(happening)
        elif len(queue) >= self._switches.dispatch_queue:
            self._overflown.add(happening.source)
        else:
            queue.append((asyncio.get_running_loop().time() + delay, happening))
            self._start_pump(happening.source)

    def drop_unsent(self) -> int:
        """Lose what is queued, without any overflow event (section 3, "Silent loss")."""
        lost = sum(len(queue) for queue in self._queues.values())
        for queue in self._queues.values():
            queue.clear()
        return lost

    def watches_changed(self) -> None:
        """Do what a source does when the ZooKeeper node changes."""
        if self._switches.drop_queue_on_change:
            self.drop_unsent()

    def _delay(self, source: Source) -> float:
        match source:
            case Source.PNFSMANAGER:
                return self._switches.delay_pnfsmanager
            case Source.POOL:
                return self._switches.delay_pools
            case Source.NFS:
                return self._switches.delay_nfs

    def _start_pump(self, source: Source) -> None:
        if source not in self._pumping:
            self._pumping.add(source)
            self._tasks.start(self._pump(source), name=f"events of {source}")

    async def _pump(self, source: Source) -> None:
        queue = self._queues[source]
        loop = asyncio.get_running_loop()
        try:
            while queue:
                due = queue[0][0]
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                    continue
                self._frontend.accept(queue.popleft()[1])
        finally:
            self._pumping.discard(source)
        if source in self._overflown:
            self._overflown.discard(source)
            self._frontend.accept_overflow()
