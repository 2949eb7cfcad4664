"""Open orders and the limits they count against: one book, so that no slot is lost or given twice."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.ports import Claim, InFlight
from dcnios_daemon.dispatch.limits import Allowance, Limits
from dcnios_daemon.dispatch.route import Route


class OpenOrder(msgspec.Struct, kw_only=True, eq=False):
    """An order between claim and settlement."""

    name: str
    route: str
    sink: str
    """The kind of ``run`` that it was claimed for; empty if nobody knows any more."""
    attempt: int
    deliveries: tuple[int, ...]
    claims: tuple[Claim, ...] = ()
    """What is still to be sent; empty once the sink has it, and for orders of an earlier life."""
    run: Route | None = None
    """Its route as it was when it was claimed, whatever is configured since. None: an earlier life's."""
    holds_token: bool = False
    in_doubt: bool = False
    """It was sent and the answer is not known: it may exist at the neighbour."""
    tries: int = 0
    """How often a neighbour failed at it."""
    not_before: float = 0.0
    """When it may be sent again after that, in monotonic seconds."""
    in_doubt_since: float = 0.0
    """When that was, at the first time, in monotonic seconds."""
    ended: bool = False
    """Its outcome has come in and is being written: it must not be sent any more."""


def claimed_for(item: InFlight, routes: Mapping[str, Route]) -> str:
    """The kind of ``run`` that it was claimed for, whatever its route is configured to be since."""
    route = routes.get(item.route)
    return item.sink or (route.sink if route else "")


class OrderBook:
    """Open orders by name, with the allowances of each route and of all together."""

    def __init__(self, routes: Mapping[str, Route], limits: Limits, clock: Clock) -> None:
        self._clock = clock
        self._orders: dict[str, OpenOrder] = {}
        self.total = Allowance(limits, clock)
        self.by_route = {name: Allowance(route.limits, clock) for name, route in routes.items()}

    def awaits(self, order: OpenOrder) -> bool:
        """Whether this very order is open and nothing is known of its end."""
        return self._orders.get(order.name) is order and not order.ended

    def get(self, name: str) -> OpenOrder | None:
        """The open order of that name."""
        return self._orders.get(name)

    def is_idle(self, route: str) -> bool:
        """Whether none of the route is open."""
        own = self.by_route.get(route)
        return own is None or own.open == 0

    def room(self, route: str) -> float:
        """How many orders of the route may be claimed now."""
        return min(self.total.room(), self.by_route[route].room())

    def wait(self, route: str) -> float | None:
        """Seconds until the buckets have room for one; None when only an answer or outcome makes room."""
        waits = (self.total.wait(), self.by_route[route].wait())
        return None if None in waits else max(wait for wait in waits if wait is not None)

    def restore(self, found: Iterable[InFlight], routes: Mapping[str, Route]) -> None:
        """Take in what an earlier life left in flight. It counts as open until its outcome is known."""
        grouped: dict[str, list[InFlight]] = {}
        for item in found:
            grouped.setdefault(item.order, []).append(item)
        for name, items in grouped.items():
            first = items[0]
            self._open(
                OpenOrder(
                    name=name,
                    route=first.route,
                    sink=claimed_for(first, routes),
                    attempt=first.attempt,
                    deliveries=tuple(item.delivery for item in items),
                )
            )

    def open(self, claims: Sequence[Claim], run: Route) -> list[OpenOrder]:
        """Group fresh claims into orders; each holds a slot and a token of its route and of all."""
        grouped: dict[str, list[Claim]] = {}
        for claim in claims:
            grouped.setdefault(claim.order, []).append(claim)
        opened = []
        for name, members in grouped.items():
            order = OpenOrder(
                name=name,
                route=members[0].route,
                sink=run.sink,
                run=run,
                attempt=members[0].attempt,
                deliveries=tuple(claim.delivery for claim in members),
                claims=tuple(members),
                holds_token=True,
            )
            self._open(order)
            for allowance in self._allowances(order.route):
                allowance.bucket.take()
            opened.append(order)
        return opened

    def answered(self, order: OpenOrder) -> None:
        """The neighbour has answered: its token begins to leak back."""
        if order.holds_token:
            order.holds_token = False
            for allowance in self._allowances(order.route):
                allowance.bucket.answered()

    def close(self, order: OpenOrder) -> None:
        """The order is settled or given back to the queue: its slot is free. Closing twice is once."""
        if self._orders.get(order.name) is order:
            del self._orders[order.name]
            self.answered(order)
            for allowance in self._allowances(order.route):
                allowance.open -= 1

    def change(self, routes: Mapping[str, Route], limits: Limits) -> None:
        """Take a new configuration; what is open stays counted."""
        self.total.change(limits)
        for name, route in routes.items():
            if name in self.by_route:
                self.by_route[name].change(route.limits)
            else:
                self.by_route[name] = Allowance(route.limits, self._clock)

    def _open(self, order: OpenOrder) -> None:
        self._orders[order.name] = order
        for allowance in self._allowances(order.route):
            allowance.open += 1

    def _allowances(self, route: str) -> tuple[Allowance, ...]:
        own = self.by_route.get(route)
        return (self.total,) if own is None else (self.total, own)
