"""Nodes that did not take their last pod: perhaps what is behind them is away, and nobody knows it yet.

The virtual kubelet asks every 30 s whether its plugin is there. Until it has asked, a node whose plugin is
away shows itself ready and fails every pod within a second: all that waits would be lost to it.
"""

import msgspec

from dcnios_daemon.core.clock import Clock

FIRST, LONGEST = 45.0, 1800.0
"""Seconds that a node is sent nothing after it did not take a pod; twice as long each time again."""


class _Doubt(msgspec.Struct):
    until: float
    next: float


class Doubts:
    """Which nodes are better sent nothing for a while.

    Args:
        clock: Tells the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._of: dict[str, _Doubt] = {}

    def failed(self, node: str) -> None:
        """It did not take a pod."""
        now = self._clock.monotonic()
        known = self._of.get(node)
        if known is None:
            self._of[node] = _Doubt(now + FIRST, 2 * FIRST)
        elif known.until <= now:
            self._of[node] = _Doubt(now + known.next, min(2 * known.next, LONGEST))

    def took(self, node: str) -> None:
        """Its batch system has answered: it took a pod, or refused it with words of its own."""
        self._of.pop(node, None)

    def about(self, node: str) -> str:
        """Why nothing should be sent there now; empty when it may."""
        known = self._of.get(node)
        if known is None or known.until <= self._clock.monotonic():
            return ""
        return "did not take its last pod: what is behind it may be away"
