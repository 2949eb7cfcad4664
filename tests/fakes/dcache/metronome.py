"""The metronome event stream: ticks on a channel, for anchors and heartbeats (sections 1 and 2)."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable

from .inotify import CLOSE_STREAM
from .selector import Beat
from .switches import Switches
from .tasks import Tasks

DEFAULT_MESSAGE = "tick"


class Metronome:
    """One metronome subscription; never merged, its id is a UUID."""

    def __init__(self, beat: Beat, username: str, switches: Switches, rng: random.Random) -> None:
        self.id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        self._beat = beat
        self._switches = switches
        self._message = (beat.message or DEFAULT_MESSAGE).replace("${username}", username)
        self._ticking: asyncio.Task[None] | None = None
        self._closed = False

    def described(self) -> dict[str, object]:
        """Return the selector."""
        return self._beat.described()

    def start(self, tasks: Tasks, receiver: Callable[[str, object], Awaitable[None]]) -> None:
        """Begin to tick."""
        self._ticking = tasks.start(self._tick(receiver), name=f"metronome {self.id}")

    def close(self, *, then_say_closed: bool = False) -> None:
        """Stop ticking."""
        self._closed = True
        if self._ticking is not None and self._ticking is not asyncio.current_task():
            self._ticking.cancel()

    async def _tick(self, receiver: Callable[[str, object], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        interval = self._beat.interval() * self._switches.metronome_scale
        due = loop.time()
        count = 0
        while not self._closed:
            due += interval
            await asyncio.sleep(max(0.0, due - loop.time()))
            count += 1
            await receiver(self.id, self._message.replace("${count}", str(count)))
            if 0 < self._beat.count <= count:
                await receiver(self.id, CLOSE_STREAM)
