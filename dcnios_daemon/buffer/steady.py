"""The journal's own time: seconds that run like the wall clock but never step, not even over a restart.

Retry times and the age of keys are kept in it. Were they kept in wall time, a clock set back by a day would
freeze every waiting retry for a day, and one set forward would forget keys too early. It starts at the wall
time, or at the latest time that the journal has on record if that is later, and then follows the monotonic
clock.
"""

from dcnios_daemon.core.clock import Clock

TOLERANCE = 0.001
"""Seconds that something may be early: sums of floating-point times are not exact."""


class SteadyTime:
    """Seconds since the epoch, more or less, that only grow."""

    def __init__(self, clock: Clock, *, floor: float = 0.0) -> None:
        self._clock = clock
        self._offset = max(clock.now(), floor) - clock.monotonic()

    def now(self) -> float:
        """The present."""
        return self._offset + self._clock.monotonic()

    def has_come(self, moment: float) -> bool:
        """Whether a moment is past."""
        return moment <= self.now() + TOLERANCE
