"""A clock that tests move by hand."""


class ManualClock:
    """Stands still until told; wall time and monotonic time can be moved apart."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self._now = now
        self._monotonic = 5_000.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self._monotonic

    def pass_time(self, seconds: float) -> None:
        """Let both go on."""
        self._now += seconds
        self._monotonic += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock, as an administrator or NTP would."""
        self._now += seconds
