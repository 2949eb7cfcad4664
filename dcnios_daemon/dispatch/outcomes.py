"""Where outcomes come in: policy decides, the journal settles, the slot is free, in this order."""

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Dead, InFlight, Journal, Outcome, Retry
from dcnios_daemon.dispatch.orders import OpenOrder, OrderBook, claimed_for
from dcnios_daemon.dispatch.route import Route
from dcnios_daemon.dispatch.until_written import until_written
from dcnios_daemon.dispatch.voice import Deaths
from dcnios_daemon.telemetry import events as telemetry

_NEVER_AGAIN = RetryPolicy(attempts=1)


class Outcomes:
    """Settles orders. Every sink gets a :class:`SinkDesk` on it that shows only its own routes."""

    def __init__(
        self,
        *,
        journal: Journal,
        book: OrderBook,
        routes: Mapping[str, Route],
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._book = book
        self._routes = routes
        self._clock = clock
        self._wake = wake
        self._deaths = Deaths(clock)

    async def settle(self, outcome: Outcome, *, again: bool = True) -> None:
        """Record the outcome of an open order and what follows from it. Unknown orders are ignored.

        Args:
            outcome: How it ended.
            again: Whether it may be tried again, should its route say so.
        """
        order = self._book.get(outcome.order)
        if order is None:
            return
        order.ended = True
        route = self._routes.get(order.route)
        policy = route.retry if route and again else _NEVER_AGAIN
        decision = policy.decide(
            outcome,
            attempt=order.attempt,
            events=len(order.deliveries),
            dice=random.random(),  # noqa: S311 - spreads retries, keeps no secret
        )
        settled = await until_written(partial(self._journal.finish, order.deliveries, outcome, decision))
        self._close(order)
        if not settled:
            return  # told twice
        then = {Retry: "retry", Dead: "dead"}.get(type(decision), "done")
        result = str(outcome.failure or "succeeded")
        telemetry.AttemptEnded(
            route=order.route,
            order=order.name,
            result=result,
            exit_code=outcome.exit_code,
            reason=outcome.reason,
            then=then,
        ).emit()
        if then == "dead":
            self._deaths.died(order.route, deliveries=settled, result=result, reason=outcome.reason)

    async def give_back(self, order: OpenOrder, *, after: float | None, note: str) -> None:
        """The order does not exist at the neighbour: queue its deliveries again, same attempt."""
        await until_written(partial(self._journal.release, order.deliveries, after=after, note=note))
        self._close(order)

    async def confirm(self, names: Sequence[str]) -> None:
        """The neighbour has these orders; the daemon ended before it could note that."""
        orders = [order for order in map(self._book.get, names) if order is not None]
        deliveries = [delivery for order in orders for delivery in order.deliveries]
        await until_written(partial(self._journal.started, deliveries))

    async def retract(self, name: str, note: str) -> None:
        """As :meth:`give_back`, by name, at once; an order that is not open is ignored."""
        order = self._book.get(name)
        if order is not None:
            await self.give_back(order, after=None, note=note)

    def belongs(self, item: InFlight, sink: str) -> bool:
        """Whether the order was made by that sink: a reload may have given its route to another."""
        order = self._book.get(item.order)
        return (claimed_for(item, self._routes) if order is None else order.sink) == sink

    def _close(self, order: OpenOrder) -> None:
        self._book.close(order)
        self._wake()


class SinkDesk:
    """The desk (``core.ports.Desk``) of one sink."""

    def __init__(self, *, sink: str, outcomes: Outcomes, journal: Journal) -> None:
        self._sink = sink
        self._outcomes = outcomes
        self._journal = journal

    async def report(self, outcome: Outcome) -> None:
        """See ``core.ports.Desk``."""
        await self._outcomes.settle(outcome)

    async def in_flight(self) -> Sequence[InFlight]:
        """See ``core.ports.Desk``; only orders of this sink."""
        found = await self._journal.in_flight()
        return [item for item in found if self._outcomes.belongs(item, self._sink)]

    async def confirm(self, orders: Sequence[str]) -> None:
        """See ``core.ports.Desk``."""
        await self._outcomes.confirm(orders)

    async def retract(self, orders: Sequence[str], note: str) -> None:
        """See ``core.ports.Desk``."""
        for name in orders:
            await self._outcomes.retract(name, note)
