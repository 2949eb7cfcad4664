"""Wall time for records, monotonic time for durations; both can be replaced in tests."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> float:
        """Wall time in seconds since the epoch. May step; use it for records only."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever grow. Use it for durations."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """See :class:`Clock`."""
        return time.time()

    def monotonic(self) -> float:
        """See :class:`Clock`."""
        return time.monotonic()


def iso(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds, as CloudEvents wants it.

    >>> iso(0)
    '1970-01-01T00:00:00.000Z'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
