"""Where orders go, and where their outcomes are handed in."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from dcnios_daemon.core.event import Event
from dcnios_daemon.core.names import batch_key, order_name
from dcnios_daemon.core.payload import PayloadForm
from dcnios_daemon.core.ports.delivery import InFlight, Outcome


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at running something on one event (or, batched, several)."""

    route: str
    attempt: int
    events: tuple[Event, ...]
    payload: bytes
    """What the container gets as ``DCNIOS_EVENT_FILE``, byte for byte."""
    form: PayloadForm = PayloadForm.ORIGINAL
    """What the payload is."""

    @property
    def key(self) -> str:
        """The event's key; of several, a key over their keys."""
        return batch_key(tuple(event.key for event in self.events))

    @property
    def name(self) -> str:
        """Deterministic: submitting an order twice makes one object."""
        return order_name(self.route, self.key, self.attempt)


class Plan(Protocol):
    """A route's ``run`` block, compiled once."""

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
            SinkBusy, SinkMisconfigured: Not taken: try again later, same attempt.
            SinkUnavailable: Not known to be taken: likewise.
            StoreUnavailable: What it needs of a store is missing: likewise.
            OrderRefused: This order can never be taken.
        """
        ...

    async def exists(self, order: Order) -> bool:
        """Whether the neighbour has the order now, running or ended. Asked of one that was refused after an
        earlier try that had no answer: while it exists, it counts against the limits. A neighbour with which
        an order is over once it has answered has none.

        Raises:
            SinkError: Not known: ask again later.
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


@runtime_checkable
class Suspending(Protocol):
    """A sink whose neighbour may hold back what it has taken (a Job that Kueue has not admitted yet)."""

    def suspended(self) -> Mapping[str, int]:
        """Route to how many of its orders are held back now, as they were last seen. They have not ended and
        do not run, hold their slots, and count among the *running* deliveries."""
        ...
