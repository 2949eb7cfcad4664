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
        spent = self._level if self._rate is not None else burst
        self._level = min(max(spent + burst - self._burst, 0.0), burst)
        self._rate, self._burst = rate, burst


class Cooldown:
    """Whether a neighbour may be asked. After it failed: nobody, then one probe, then all again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0
        self.failures = 0
        """How often it failed in a row."""
        self._probing = False

    def room(self) -> float:
        """How many orders may be sent now as far as the neighbour's health goes."""
        if self.failures == 0:
            return math.inf
        return 0 if self._probing or self._clock.monotonic() < self._until else 1

    def wait(self) -> float | None:
        """Seconds until it may be asked again; None while a probe is out."""
        return None if self._probing else max(0.0, self._until - self._clock.monotonic())

    def sent(self) -> None:
        """An order is on its way; if the neighbour was failing, it is the probe."""
        self._probing = self.failures > 0

    def succeeded(self) -> None:
        """It answered as it should."""
        self.failures = 0
        self._probing = False

    def failed(self, pause: float) -> None:
        """It did not; leave it alone for ``pause`` seconds. What fails while it is left alone was sent before
        and says nothing new.
        """
        now = self._clock.monotonic()
        if self._probing or now >= self._until:
            self.failures += 1
            self._until = now + pause
        self._probing = False
