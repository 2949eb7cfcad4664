"""A route as the dispatcher sees it: its settings, and what they allow at this moment."""

import math

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.payload import PayloadForm
from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Plan
from dcnios_daemon.dispatch.fairness import Share
from dcnios_daemon.dispatch.limits import TokenBucket


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """A rate in orders per second with its burst, and a cap of orders in flight. None: no limit."""

    rate: float | None = None
    burst: float = 1
    in_flight: int | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """How the events of one route are run."""

    name: str
    plan: Plan
    sink: str
    """The kind of its ``run``."""
    neighbour: str = ""
    """Whom its sink talks to for it, where one kind talks to several: what fails there is no other's
    trouble. Empty: all routes of the kind talk to the same."""
    keep: float | None = None
    """Seconds for which its neighbour keeps what has ended; None: that does not matter to its sink."""
    limits: Limits = Limits()
    share: Share = Share()
    retry: RetryPolicy = RetryPolicy()
    batch_size: int = 1
    batch_wait: float = 0.0
    """Seconds that an incomplete batch waits for more."""
    payload: PayloadForm = PayloadForm.ORIGINAL


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
