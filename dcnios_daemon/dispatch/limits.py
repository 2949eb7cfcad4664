"""Limits that are exact at the neighbour's end, not only at ours.

The API server sees a creation somewhere between our sending the request and our reading the answer. A bucket
that refills from the moment of sending would let two bursts meet there. So a token is *held* from claim to
answer and begins to leak back only from the answer on: our level is never below the true one, hence in any
window of t seconds the neighbour sees at most ``burst + rate * t`` creations.
"""

import math

from dcnios_daemon.core.clock import Clock


class TokenBucket:
    """A rate with a burst. Starts empty: a restart never gives a second burst."""

    def __init__(self, rate: float | None, burst: float, clock: Clock) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._held = 0
        self._level = burst
        self._seen = clock.monotonic()

    def _leak(self) -> None:
        now = self._clock.monotonic()
        if self._rate is not None:
            self._level = max(0.0, self._level - (now - self._seen) * self._rate)
        self._seen = now

    def room(self) -> float:
        """How many more may be taken now. Without a rate: infinitely many."""
        if self._rate is None:
            return math.inf
        self._leak()
        return max(0, math.floor(self._burst - self._level - self._held))

    def take(self, count: int = 1) -> None:
        """Hold tokens for orders that are about to be sent. The caller has asked for room."""
        self._held += count

    def answered(self, count: int = 1) -> None:
        """The neighbour has answered, or will never be asked: the tokens begin to leak back."""
        self._leak()
        self._held -= count
        self._level += count

    def wait(self) -> float | None:
        """Seconds until there is room for one; None if only an answer can make room."""
        if self.room() >= 1:
            return 0.0
        rate = self._rate or math.inf
        missing = self._level + self._held + 1 - self._burst
        return missing / rate if self._held + 1 <= self._burst else None

    def change(self, rate: float | None, burst: float) -> None:
        """Take new figures at run time, without a gift of tokens."""
        self._leak()
        spent = self._level + burst - self._burst if self._rate is not None else burst
        self._level = min(max(spent, 0.0), burst)
        self._rate, self._burst = rate, burst


class Cooldown:
    """Whether someone may be asked. After it failed: by nobody, then by one order as a probe, then by all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0
        self._probe: object | None = None
        self.failures = 0
        """How often it failed in a row."""

    def room(self) -> float:
        """How many orders may be sent now as far as this goes."""
        if self.failures == 0:
            return math.inf
        return 0 if self._probe is not None or self._clock.monotonic() < self._until else 1

    def wait(self) -> float | None:
        """Seconds until there is room; None while a probe is out."""
        if self.failures == 0:
            return 0.0
        return None if self._probe is not None else max(0.0, self._until - self._clock.monotonic())

    def chosen(self, order: object) -> None:
        """The order is about to be sent; after a failure it is the probe."""
        if self.failures and self._probe is None:
            self._probe = order

    def lets(self, order: object) -> bool:
        """Whether the order may still be sent: something may have failed since it was chosen."""
        return self.failures == 0 or self._probe is order

    def withdrawn(self, order: object) -> None:
        """The order was not sent, or its answer says nothing about this: another may be the probe."""
        if self._probe is order:
            self._probe = None

    def succeeded(self) -> None:
        """It answered as it should."""
        self.failures = 0
        self._probe = None

    def failed(self, order: object, pause: float) -> None:
        """It did not; leave it alone for ``pause`` seconds. What fails while it is left alone was sent before
        and says nothing new.
        """
        if self._probe is order or self.failures == 0:
            self.failures += 1
            self._until = self._clock.monotonic() + pause
        self.withdrawn(order)
