"""Waiting longer and longer between tries, and saying seldom what goes on for long."""

import math
import random

from dcnios_daemon.core.clock import Clock


def backoff(attempt: int, *, first: float, most: float, dice: float) -> float:
    """Seconds to wait after the ``attempt``-th failure (from 1): doubling, capped, half of it random.

    >>> backoff(1, first=2, most=600, dice=0), backoff(3, first=2, most=600, dice=0.5)
    (1.0, 6.0)
    """
    ceiling = min(most, first * 2.0 ** min(attempt - 1, 60))
    return ceiling * (0.5 + dice / 2)


def pause_after(failures: int, *, first: float, most: float) -> float:
    """Seconds to wait after so many failures in a row (from 1): :func:`backoff` with dice of its own, so that
    those who wait for the same do not all come back at once.
    """
    return backoff(failures, first=first, most=most, dice=random.random())  # noqa: S311 - guards nothing


class Seldom:
    """Whether it is time to say something again, however often it happens."""

    def __init__(self, clock: Clock, *, every: float) -> None:
        self._clock = clock
        self._every = every
        self._said = -math.inf

    def is_time(self) -> bool:
        """True at first, and then once in ``every`` seconds at most."""
        now = self._clock.monotonic()
        if now - self._said < self._every:
            return False
        self._said = now
        return True
