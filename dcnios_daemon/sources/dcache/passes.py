"""When everything is to be listed: after a loss, on the period, and never without rest. Pure.

A storm makes every subscription say that it overflowed, again and again. So whatever is lost while a pass is
under way makes one more, not many, and after a pass comes as much rest as it took.
"""

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.sources.dcache.timing import Timing

_PERIOD_IF_UNWATCHED = 900.0


class Pass(msgspec.Struct):
    """A listing of everything."""

    number: int
    cause: str
    began: float
    """Seconds since the epoch."""
    begun: float
    """The same by the monotonic clock."""
    found: int = 0
    """Complete files and those that may become so."""
    unwatched: int = 0
    """Directories for which there was no watch left."""
    is_whole: bool = True
    """Whether all directories could be listed."""


class Passes:
    """One connection's passes: the one under way, and when the next begins.

    Args:
        clock: Tells the time.
        period: Seconds from the beginning of one to the next; 0: only after a loss.
        timing: How long to rest.
    """

    def __init__(self, clock: Clock, *, period: float, timing: Timing) -> None:
        self._clock = clock
        self._period = period
        self._timing = timing
        self._owed: str | None = None
        self._periodic: float | None = None
        self._rested = 0.0
        self._number = 0
        self.current: Pass | None = None
        self.listed_at: float | None = None
        """When the last pass began that has seen everything, seconds since the epoch; None: something may
        have been lost since."""

    @property
    def is_owed(self) -> bool:
        """Whether one should be under way, or begin at once."""
        return self.current is not None or (self._owed is not None and self._is_over(self._rested))

    @property
    def next(self) -> float | None:
        """The monotonic second in which the next begins; None: when something is lost."""
        if self._owed is not None:
            return self._rested
        return None if self._periodic is None else max(self._periodic, self._rested)

    def owe(self, cause: str) -> None:
        """Something may have been lost."""
        self._owed = self._owed or cause
        self.listed_at = None

    def resume(self, listed_at: float) -> None:
        """Nothing was lost since the last one began, at this second since the epoch."""
        self.listed_at = listed_at
        elapsed = min(max(self._clock.now() - listed_at, 0.0), self._period)
        self._repeat(self._clock.monotonic() - elapsed, self._period)

    def begin(self) -> bool:
        """Begin one if it is time."""
        if self.current is not None or self.next is None or not self._is_over(self.next):
            return False
        now = self._clock.monotonic()
        self._number += 1
        self.current = Pass(self._number, self._owed or "period", self._clock.now(), now)
        self._owed = self.listed_at = None
        self._repeat(now, self._period)
        return True

    def unwatched(self) -> None:
        """There is a directory without a watch: only another pass will tell of it again."""
        if self.current is not None:
            self.current.unwatched += 1
        if self._periodic is None:
            self._repeat(self._clock.monotonic(), _PERIOD_IF_UNWATCHED)

    def end(self) -> Pass | None:
        """The one under way has come to its end; None: there was none."""
        ended, self.current = self.current, None
        if ended is None:
            return None
        now, rest = self._clock.monotonic(), self._timing.rest
        if not ended.is_whole:
            self.owe("incomplete")
            rest = self._timing.retry
        elif self._owed is None:
            self.listed_at = ended.began
        self._rested = now + max(rest, now - ended.begun)
        return ended

    def _repeat(self, begun: float, period: float) -> None:
        self._periodic = begun + period if period else None

    def _is_over(self, moment: float) -> bool:
        return self._clock.monotonic() >= moment
