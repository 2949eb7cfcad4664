"""A delivery's life: its states, how attempts end, what is decided, what people are shown."""

import enum
from collections.abc import Mapping

import msgspec

from dcnios_daemon.core.event import Event


class State(enum.StrEnum):
    """The life of a delivery: queued, submitting, running, then one of the others.

    Dead waits for replay (queued again); the other three at the end are settled.
    """

    QUEUED = "queued"
    SUBMITTING = "submitting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    DROPPED = "dropped"
    UNROUTED = "unrouted"


class Failure(enum.StrEnum):
    """Why an attempt did not succeed, as far as retrying goes."""

    INFRASTRUCTURE = "infrastructure"
    """Evicted, node lost, image pull, no room before its time was up: not the script's doing."""
    SCRIPT = "script"
    """The script ended with an exit code above zero; or it took more memory than its limit, which it would
    take again."""
    DEADLINE = "deadline"
    """It began, and ran longer than the route allows."""
    UNKNOWN = "unknown"
    """It vanished before its outcome was seen: it may have run."""
    SUSPICIOUS = "suspicious"
    """It is said to have succeeded, and nothing proves it: perhaps it never ran."""
    REFUSED = "refused"
    """The sink will never take it."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an order ended. Times in seconds since the epoch."""

    order: str
    """The order's name."""
    failure: Failure | None = None
    """None: it succeeded."""
    exit_code: int | None = None
    reason: str = ""
    """A word from the neighbour: ``Completed``, ``BackoffLimitExceeded``, ``Evicted``."""
    message: str = ""
    started: float | None = None
    ended: float | None = None
    pod: str = ""
    node: str = ""
    log_tail: str = ""
    """The last 2 KiB of a failed run's log."""

    @property
    def succeeded(self) -> bool:
        """Whether it did what it should."""
        return self.failure is None


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that this process may submit, and nobody else: the journal has one dispatcher."""

    delivery: int
    route: str
    attempt: int
    """From 1. Rises only when an outcome was a failure that the policy retries."""
    order: str
    """The name of the order that it belongs to; deliveries that are batched share one."""
    accepted: float
    """When the journal committed the event, seconds since the epoch."""
    event: Event


class InFlight(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery between claim and settlement, as the journal knows it. Without its data."""

    delivery: int
    route: str
    attempt: int
    key: str
    order: str
    state: State
    claimed: float
    """Wall time of the claim, seconds since the epoch."""
    sink: str = ""
    """The kind of ``run`` that it was claimed for; empty if an older version claimed it."""
    keep: float | None = None
    """Seconds for which that sink's neighbour keeps what has ended, as it was when it was claimed."""


class Succeed(msgspec.Struct, frozen=True, tag=True):
    """Settle: done, forget the body, remember the key."""


class Retry(msgspec.Struct, frozen=True, tag=True):
    """Queue again as the next attempt, in so many seconds. No moment of the wall clock: that may step before
    the disk takes this.
    """

    after: float


class Dead(msgspec.Struct, frozen=True, tag=True):
    """Give up; keep everything for replay."""


Decision = Succeed | Retry | Dead


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery with all that is known of it, for people. Times in seconds since the epoch."""

    id: int
    route: str
    state: State
    attempt: int
    key: str
    source: str
    kind: str
    subject: str
    action: str
    time: float
    """The event's own time."""
    size: int | None
    accepted: float
    """When the journal committed the event."""
    claimed: float | None
    """When it was last claimed for submission."""
    submitted: float | None
    """When the sink had taken it."""
    settled: float | None
    retry_at: float | None
    order: str
    note: str = ""
    """Why it waits, died or was dropped."""
    outcome: Outcome | None = None


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, all of them kept up to date by the journal, none by counting rows."""

    events: int
    """Events with a delivery that is not settled (dead ones included): what the bounds count."""
    bytes: int
    """Their bodies' bytes, overhead included."""
    deliveries: Mapping[str, Mapping[str, int]]
    """Route to state to count. ``queued``, ``submitting``, ``running`` and ``dead`` are of now;
    ``succeeded``, ``dropped`` and ``unrouted`` (route ``""``) are of all time."""
    duplicates: int = 0
    """Happenings seen again and left out, of all time."""
    oldest_queued: float | None = None
    """When the oldest queued delivery's event was accepted, seconds since the epoch."""
    paused: Mapping[str, float] = {}
    """Routes that are paused, and since when, seconds since the epoch."""
    log_bytes: int = 0
    """What the log beside the journal's file takes on the disk. It is used anew from its beginning whenever
    all of it is in the file: one that only grows is not moved there."""

    def in_flight(self, route: str | None = None) -> int:
        """Deliveries between claim and settlement, of one route or of all."""
        routes = self.deliveries.values() if route is None else [self.deliveries.get(route, {})]
        return sum(counts.get(state, 0) for counts in routes for state in (State.SUBMITTING, State.RUNNING))
