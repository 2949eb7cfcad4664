"""A desk (``core.ports.Desk``) that writes down what sinks tell it, and orders to tell it about."""

import asyncio
from collections.abc import Sequence

from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import InFlight, Order, Outcome, State


class FakeDesk:
    """Knows what is in flight because tests say so."""

    def __init__(self, *in_flight: InFlight) -> None:
        self.flying: list[InFlight] = list(in_flight)
        self.reports: list[Outcome] = []
        self.retracted: list[str] = []
        self.confirmed: list[str] = []
        self._news = asyncio.Condition()

    async def report(self, outcome: Outcome) -> None:
        """See Desk."""
        async with self._news:
            self.reports.append(outcome)
            self.flying = [item for item in self.flying if item.order != outcome.order]
            self._news.notify_all()

    async def in_flight(self) -> Sequence[InFlight]:
        """See Desk."""
        return list(self.flying)

    async def confirm(self, orders: Sequence[str]) -> None:
        """See Desk."""
        self.confirmed += orders

    async def retract(self, orders: Sequence[str], note: str) -> None:
        """See Desk."""
        self.retracted += orders

    def of(self, order: str) -> list[Outcome]:
        """All that was reported of it."""
        return [outcome for outcome in self.reports if outcome.order == order]

    async def outcome(self, order: str, *, seconds: float = 20) -> Outcome:
        """Its outcome, once it is told."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: self.of(order))
        return self.of(order)[0]


def make_order(
    name: str = "a", *, payload: bytes = b"{}", route: str = "gray", attempt: int = 1, subject: str = ""
) -> Order:
    """An order for an event of that name."""
    event = Event(
        key=event_key("uploads", name),
        source="uploads",
        kind="minio",
        subject=subject or f"inbox/{name}.png",
        action=Action.CREATED,
        time=0.0,
        data=payload,
    )
    return Order(route=route, attempt=attempt, events=(event,), payload=payload)


def flying(order: Order, state: State = State.RUNNING, *, claimed: float = 0.0) -> InFlight:
    """The order as the journal has it in flight."""
    return InFlight(
        delivery=1,
        route=order.route,
        attempt=order.attempt,
        key=order.key,
        order=order.name,
        state=state,
        claimed=claimed,
    )
