"""Keeps our calls below the rate at which dCache shuts the door.

Since 11.2 a frontend answers 429 above 250 requests a second and client address
(``RateLimitedHandlerList``), and an address may be shared by a whole site. So there is a rate of our own
below it; whoever walks and whoever looks take turns, so that neither waits for all that the other has to ask.
"""

import asyncio
from typing import Literal
from weakref import WeakValueDictionary

Caller = Literal["walk", "look"]
"""Who asks: the one who goes through directories, or the one who looks at single files."""

_LEAST = 1.0
_RECOVERY = 1.01
"""How much faster after each call that was let in."""
_of_all: WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str, float], "Pace"] = WeakValueDictionary()
"""By event loop, too: whoever waits in one cannot be woken from another."""


class Pace:
    """Calls a second, at most ``rate``; less for a while after the server said that it was too fast."""

    def __init__(self, rate: float) -> None:
        self._most = rate
        self._rate = rate
        self._next = 0.0
        self._queues: dict[Caller, asyncio.Lock] = {"walk": asyncio.Lock(), "look": asyncio.Lock()}
        self._turn = asyncio.Lock()

    @classmethod
    def of(cls, origin: str, rate: float) -> "Pace":
        """The one for this server: sources that ask the same one share it, as they share our address."""
        key = (asyncio.get_running_loop(), origin, rate)
        pace = _of_all.get(key)
        if pace is None:
            pace = _of_all[key] = cls(rate)
        return pace

    async def turn(self, caller: Caller) -> None:
        """Wait for leave to make one call. Of each kind of caller only the first competes with the other's,
        and locks are fair: so their turns alternate."""
        async with self._queues[caller], self._turn:
            clock = asyncio.get_running_loop()
            while (pause := self._next - clock.time()) > 0:  # noqa: ASYNC110 - it may be put off meanwhile
                await asyncio.sleep(pause)
            self._next = clock.time() + 1 / self._rate

    def let_in(self) -> None:
        """The server took a call."""
        self._rate = min(self._rate * _RECOVERY, self._most)

    def refused(self, pause: float) -> None:
        """The server let none in, and wants to be left alone for so many seconds: by everybody here."""
        self._rate = max(self._rate / 2, min(_LEAST, self._most))
        self._next = max(self._next, asyncio.get_running_loop().time() + pause)
