"""An event loop whose time jumps to the next moment at which something happens: hours pass in no time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Jumping(selectors.DefaultSelector):
    """Does not wait: tells the loop how long it would have waited."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Nothing outside ever happens."""
        assert timeout is not None, "nothing will ever happen any more"
        self.loop.seconds += max(self.loop.turn, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """For what awaits only time and itself: no sockets, no threads."""

    turn = 0.0
    """The least that a turn of the loop takes. Timers come up to a clock tick early: who then waits for the
    rest of the moment would wait for ever, were it to take no time at all."""

    def __init__(self) -> None:
        self.seconds = 5_000.0
        jumping = _Jumping()
        jumping.loop = self
        super().__init__(jumping)

    def time(self) -> float:
        """See :class:`asyncio.AbstractEventLoop`."""
        return self.seconds


class LoopClock:
    """The running loop's time, as a clock. The wall clock can be set."""

    def __init__(self) -> None:
        self.ahead = 1_000_000.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return asyncio.get_running_loop().time() + self.ahead

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return asyncio.get_running_loop().time()


def run(main: Coroutine[Any, Any, None]) -> None:
    """As :func:`asyncio.run`, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)
