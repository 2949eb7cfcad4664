"""Limits that are exact at the neighbour's end, not only at ours.

The API server sees a creation somewhere between our sending the request and our reading the answer. A bucket
that refills from the moment of sending would let two bursts meet there. So a token is *held* from claim to
answer and begins to leak back only from the answer on: our level is never below the true one, hence in any
window of t seconds the neighbour sees at most ``burst + rate * t`` creations.
"""

import math

import msgspec

from dcnios_daemon.core.clock import Clock


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """A rate in orders per second with its burst, and a cap of orders in flight. None: no limit."""

    rate: float | None = None
    burst: float = 1
    in_flight: int | None = None


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


class Allowance:
    """Limits at work: the bucket, and how many orders are open."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._clock = clock
        self._cap = limits.in_flight
        self.bucket = TokenBucket(limits.rate, limits.burst, clock)
        self.open = 0
        """Orders between claim and settlement, those of earlier lives included."""

    def room(self) -> float:
        """How many orders may be claimed now."""
        slots = math.inf if self._cap is None else max(0, self._cap - self.open)
        return min(slots, self.bucket.room())

    def wait(self) -> float | None:
        """Seconds until the bucket has room; None when only an answer or an outcome can make room."""
        if self._cap is not None and self.open >= self._cap:
            return None
        return self.bucket.wait()

    def change(self, limits: Limits) -> None:
        """Take new limits at run time; what is open stays counted."""
        self._cap = limits.in_flight
        self.bucket.change(limits.rate, limits.burst)


class BatchClock:
    """When an incomplete batch has waited long enough."""

    def __init__(self, size: int, wait: float, clock: Clock) -> None:
        self._size = size
        self._wait = wait
        self._clock = clock
        self._since: float | None = None

    def hold(self, queued: int) -> float:
        """Seconds to hold the queued ones back still; 0 when they may go."""
        if self._size <= 1 or queued >= self._size:
            self._since = None
            return 0.0
        if self._since is None:
            self._since = self._clock.monotonic()
        return max(0.0, self._since + self._wait - self._clock.monotonic())

    def went(self) -> None:
        """A batch was claimed: the next one waits from its own first event."""
        self._since = None
