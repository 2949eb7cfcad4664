"""The contracts between the parts. Siblings know each other only through these; ``app`` wires them.

An event's way: a :class:`Source` gives a :class:`Batch`, the runner routes it and appends it to the
:class:`Journal` (then acknowledges it upstream), the dispatcher claims deliveries and makes an
:class:`Order` of them, a :class:`Sink` submits it, and reports an :class:`Outcome`, which settles them.
"""

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from dcnios_daemon.core.event import Event
from dcnios_daemon.core.names import batch_key, order_name

# --- sources ------------------------------------------------------------------------------------------


class Batch(msgspec.Struct, frozen=True):
    """Events read together, and the place in the source after them."""

    events: tuple[Event, ...] = ()
    cursor: str | None = None
    """Opaque to all but the source; stored in the same transaction as the events. None: no change."""
    receipt: object = None
    """The source's own, for :meth:`Source.ack`."""


class Source(Protocol):
    """Gives events. One supervised loop (``sources.runner``) calls these, never two at a time:

    connect, then read and ack in turn; pause and resume between reads; aclose at the end. Any error makes
    the runner close the source, wait, build it anew and connect with the stored cursor.
    """

    async def connect(self, cursor: str | None) -> None:
        """Open what is needed and go on after ``cursor`` (None: first time ever).

        Raises:
            Disconnected: Not reachable now.
            Rejected: Reached, but refused: login, right, missing topic or path.
        """
        ...

    async def read(self) -> Batch:
        """Wait for the next events. Cancelling loses nothing: the same events come again.

        Raises:
            Disconnected: Connect again.
        """
        ...

    async def ack(self, batch: Batch) -> None:
        """The batch is in the journal, durably: now, and only now, tell the upstream.

        Raises:
            Disconnected: The upstream was not told; what it sends again is known by its key.
        """
        ...

    async def pause(self) -> None:
        """The journal is full: take no more, but stay alive upstream. Push sources answer *busy*."""
        ...

    async def resume(self) -> None:
        """The journal has room again."""
        ...

    async def aclose(self) -> None:
        """Release everything. Called once, also after a failed connect."""
        ...


@runtime_checkable
class Working(Protocol):
    """A source with work of its own beside reading: a stream to keep up, a folder to list."""

    async def work(self) -> None:
        """Run beside :meth:`Source.read` and the rest, from the end of connect until it is cancelled, which
        is before aclose. An error counts as one of read's; returning means that there is no more to do."""
        ...


class Inbound(msgspec.Struct, frozen=True):
    """An HTTP request to ``/sources/<name>``, its body whole."""

    method: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    query: Mapping[str, str] = msgspec.field(default_factory=dict)


class Reply(msgspec.Struct, frozen=True):
    """The answer to an :class:`Inbound`."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)


@runtime_checkable
class Receiver(Protocol):
    """A source that is told of events over HTTP. The web server checks token and size before it."""

    async def receive(self, request: Inbound) -> Reply:
        """Answer 2xx only after the journal's commit; 503 with Retry-After while paused or too slow."""
        ...


# --- journal ------------------------------------------------------------------------------------------


class Admission(msgspec.Struct, frozen=True):
    """An event and the routes that it takes; none makes it *unrouted*: counted and listed, not kept."""

    event: Event
    routes: tuple[str, ...]


class Appended(msgspec.Struct, frozen=True):
    """What became of an append."""

    accepted: int
    duplicates: int


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
    """Evicted, node lost, image pull: not the script's doing."""
    SCRIPT = "script"
    """The script ended with an exit code above zero."""
    DEADLINE = "deadline"
    """It ran longer than the route allows."""
    UNKNOWN = "unknown"
    """It vanished before its outcome was seen: it may have run."""
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
    """A delivery that this process may submit; nobody else may while the lease holds."""

    delivery: int
    route: str
    attempt: int
    """From 1. Rises only when an outcome was a failure that the policy retries."""
    order: str
    """The name of the order that it belongs to; deliveries that are batched share one."""
    accepted: float = 0.0
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


class Succeed(msgspec.Struct, frozen=True, tag=True):
    """Settle: done, forget the body, remember the key."""


class Retry(msgspec.Struct, frozen=True, tag=True):
    """Queue again as the next attempt, not before ``at`` (seconds since the epoch)."""

    at: float


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

    def in_flight(self, route: str | None = None) -> int:
        """Deliveries between claim and settlement, of one route or of all."""
        routes = self.deliveries.values() if route is None else [self.deliveries.get(route, {})]
        return sum(counts.get(state, 0) for counts in routes for state in (State.SUBMITTING, State.RUNNING))


class Journal(Protocol):
    """Keeps events until their deliveries are settled, through every crash. Bounded.

    Each coroutine returns after its transaction is on disk (group commit: callers at the same time share
    one fsync). Cancelling a call leaves it either done or not done, never half.
    All raise JournalUnavailable when the disk fails and JournalCorrupt when the file is damaged.
    """

    async def open(self) -> None:
        """Open, in time that does not depend on the backlog."""
        ...

    async def aclose(self) -> None:
        """Finish what was asked, checkpoint, close."""
        ...

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back, on the event loop, whenever deliveries may have become claimable or counts have
        changed: append, release, finish, replay, a retry come due, a change by another process."""
        ...

    async def append(self, source: str, admissions: Sequence[Admission], cursor: str | None) -> Appended:
        """Events, their deliveries and the cursor, in one transaction; known keys are left out.

        Raises:
            JournalFull: At a bound before this append; nothing was written. An append is never cut: the
                last one may pass the bound.
        """
        ...

    async def cursor(self, source: str) -> str | None:
        """The source's last stored cursor."""
        ...

    async def claim(self, route: str, orders: int, *, batch: int = 1) -> Sequence[Claim]:
        """Deliveries of the route whose time has come, oldest first, enough for up to ``orders`` orders of
        up to ``batch`` deliveries each; they are now *submitting*. Their order's name is stored with them
        (``core.names.order_name`` over ``batch_key``), so that a later life knows what was made of them.
        Only first attempts are batched: after a failure each goes alone, so that a bad one finds itself.
        """
        ...

    async def started(self, deliveries: Sequence[int]) -> None:
        """The sink has taken them: *submitting* becomes *running*. Any other state is left alone."""
        ...

    async def release(self, deliveries: Sequence[int], *, at: float | None, note: str) -> None:
        """They were not taken: queue again, same attempt, at the old place, not before ``at``."""
        ...

    async def finish(self, deliveries: Sequence[int], outcome: Outcome, decision: Decision) -> int:
        """Settle or retry those that are in flight for the outcome's order. Returns how many were; the
        rest (settled before, other attempt) are left alone, so that an outcome may be reported twice."""
        ...

    async def in_flight(self) -> Sequence[InFlight]:
        """All deliveries between claim and settlement. Bounded by the in-flight limits."""
        ...

    async def stats(self) -> Stats:
        """The counts, without touching the disk."""
        ...

    async def deliveries(
        self, *, state: State | None = None, route: str | None = None, after: int = 0, limit: int = 100
    ) -> Sequence[Delivery]:
        """Newest first, from below the delivery id ``after`` (0: from the newest)."""
        ...

    async def show(self, key: str) -> tuple[Event | None, Sequence[Delivery]]:
        """The event (None once its body is gone) and its deliveries, by key or a unique beginning of one."""
        ...

    async def replay(self, deliveries: Sequence[int]) -> int:
        """Queue dead ones again, as attempt + 1. Returns how many were dead."""
        ...

    async def drop(self, deliveries: Sequence[int], reason: str) -> int:
        """Settle queued or dead ones for good without running them. Returns how many."""
        ...


class Gate(Protocol):
    """Shut while the journal is full: from the high watermark until back at the low one."""

    @property
    def reason(self) -> str | None:
        """Why it is shut; None while open."""
        ...

    async def wait_open(self) -> None:
        """Return once it is open."""
        ...

    async def wait_shut(self) -> None:
        """Return once it is shut."""
        ...


# --- sinks --------------------------------------------------------------------------------------------


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at running something on one event (or, batched, several)."""

    route: str
    attempt: int
    events: tuple[Event, ...]
    payload: bytes
    """What the container gets as ``DCNIOS_EVENT_FILE``, byte for byte."""

    @property
    def key(self) -> str:
        """The event's key; of several, a key over their keys."""
        return batch_key(tuple(event.key for event in self.events))

    @property
    def name(self) -> str:
        """Deterministic: submitting an order twice makes one object."""
        return order_name(self.route, self.key, self.attempt)


class Plan(Protocol):
    """A route's ``run`` block, compiled once. Pure."""

    async def render(self, order: Order) -> Any:  # noqa: ANN401 - a sink's own object, printable as JSON
        """The very object that would be submitted for the order, as JSON-ready data. It awaits only because
        staging links may have to be asked of a store.

        Raises:
            OrderRefused: The order can never be run so (payload too large, template without its field).
        """
        ...

    async def submit(self, order: Order) -> None:
        """Hand the order over. Idempotent by the order's name: on any doubt, call it again.

        Raises:
            SinkBusy, SinkUnavailable: Not taken, or not known to be: try again later, same attempt.
            OrderRefused: Never.
        """
        ...


Report = Callable[[Outcome], Awaitable[None]]
"""Tell how an order ended; returns once the journal knows. May be told twice; unknown orders are ignored."""


class Desk(Protocol):
    """Where sinks hand in outcomes (``dispatch.outcomes``)."""

    async def report(self, outcome: Outcome) -> None:
        """See :data:`Report`."""
        ...

    async def in_flight(self) -> Sequence[InFlight]:
        """What the journal believes to be in flight now, to hold against what really exists."""
        ...

    async def confirm(self, orders: Sequence[str]) -> None:
        """These orders were claimed in an earlier life and do exist: *submitting* becomes *running*."""
        ...

    async def retract(self, orders: Sequence[str], note: str) -> None:
        """These orders were claimed in an earlier life and provably never made: queue them again."""
        ...


class Sink(Protocol):
    """Runs orders of one kind of ``run``. One object for all routes of that kind."""

    def plan(self, route: str, run: Any) -> Plan:  # noqa: ANN401 - each sink has its own settings type
        """Compile a route's ``run`` settings.

        Raises:
            ConfigError: They cannot work; says why.
        """
        ...

    async def serve(self, desk: Desk, ready: Callable[[], None]) -> None:
        """Watch orders until cancelled and report each outcome to the desk.

        First it settles what an earlier life of the daemon left in flight, then calls ``ready``: nothing is
        dispatched to this sink before. It survives its neighbour's outages by itself.
        """
        ...

    async def aclose(self) -> None:
        """Release everything; running orders live on where they can."""
        ...


# --- stores -------------------------------------------------------------------------------------------


class Download(msgspec.Struct, frozen=True, kw_only=True):
    """How to get one object without any credential but what is in here."""

    url: str
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    authorities: str = ""
    """Certificates (PEM) to trust beside the system's."""

    def __repr__(self) -> str:
        """Name the place without the leave to use it."""
        return f"<Download {self.url.partition('?')[0]}>"


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """How to put objects under one prefix without any credential but what is in here."""

    method: str
    """``POST``: a form post to ``url`` with ``fields`` and the key (S3 POST policy).
    ``PUT``: to ``url`` + the percent-encoded name (WebDAV)."""
    url: str
    prefix: str = ""
    """POST: what the key must begin with."""
    fields: Mapping[str, str] = msgspec.field(default_factory=dict)
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    authorities: str = ""
    """Certificates (PEM) to trust beside the system's."""

    def __repr__(self) -> str:
        """Name the place without the leave to use it."""
        return f"<Upload {self.method} {self.url.partition('?')[0]} {self.prefix}>"


class Store(Protocol):
    """Makes narrow, short-lived leave to read one object or to write under one prefix."""

    async def download(self, subject: str, *, valid_for: float) -> Download:
        """Leave to read the event's object for ``valid_for`` seconds (cut to the store's longest).

        Raises:
            StoreUnavailable: It had to be asked and did not answer.
            StoreError: It refuses.
        """
        ...

    async def upload(self, target: str, *, valid_for: float) -> Upload:
        """Leave to write below ``target`` (``s3://bucket/prefix/``, ``dav:/path/``), likewise."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...
