"""Who is to be left alone now, and the orders in doubt that wait for the end of it.

A neighbour that fails or asks for time is left alone by all routes that use it. A route whose own need (a
store for its links) is missing is left alone by itself, so that its backlog does not run through the journal
again and again, and the other routes go on.
"""

import math
import random
from collections import Counter
from collections.abc import Callable

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.policy import backoff
from dcnios_daemon.dispatch.limits import Cooldown
from dcnios_daemon.dispatch.orders import OpenOrder
from dcnios_daemon.dispatch.route import Route
from dcnios_daemon.dispatch.submission import Verdict

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
UNANSWERED = 16
"""Orders on their way to one of several neighbours of a kind: one that hangs leaves workers for others."""
LONGEST_ASKED = 300.0
"""Seconds: a neighbour that asks for more is asked again after this, by one order."""


class Quiet:
    """The cooldowns of sinks and of routes, and the parked orders: in doubt, but not to be sent now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sinks: dict[tuple[str, str], Cooldown] = {}
        self._routes: dict[str, Cooldown] = {}
        self._parked: list[OpenOrder] = []
        self._unanswered: Counter[tuple[str, str]] = Counter()

    def room(self, route: Route) -> float:
        """How many orders of the route may be sent now as far as this goes."""
        return min(self._places(route), *(cooldown.room() for cooldown in self._of(route)))

    def wait(self, route: Route) -> float | None:
        """Seconds until there is room; None when only an answer makes room."""
        if self._places(route) < 1:
            return None
        waits = [cooldown.wait() for cooldown in self._of(route)]
        return None if None in waits else max(wait for wait in waits if wait is not None)

    def chosen(self, order: OpenOrder, route: Route) -> None:
        """The order is about to be sent."""
        self._unanswered[_neighbour(route)] += 1
        for cooldown in self._of(route):
            cooldown.chosen(order)

    def lets(self, order: OpenOrder, route: Route) -> bool:
        """Whether the order may still be sent, now that its turn has come."""
        return all(cooldown.lets(order) for cooldown in self._of(route))

    def withdrawn(self, order: OpenOrder, route: Route) -> None:
        """The order is not sent after all."""
        self._unanswered[_neighbour(route)] -= 1
        for cooldown in self._of(route):
            cooldown.withdrawn(order)

    def told(self, order: OpenOrder, route: Route, verdict: Verdict, asked: float | None) -> float:
        """Learn from the sink's answer. Returns the pause, in seconds, for whoever was put off.

        Args:
            order: What was sent.
            route: What it was sent for.
            verdict: What came of it.
            asked: The pause that the neighbour asked for.
        """
        self._unanswered[_neighbour(route)] -= 1
        sink, own = self._of(route)
        if verdict in {Verdict.TAKEN, Verdict.REFUSED}:
            sink.succeeded()
            own.succeeded()
            return 0.0
        failing, other = (own, sink) if verdict is Verdict.NOT_NOW else (sink, own)
        dice = random.random()  # noqa: S311 - spreads retries, keeps no secret
        grown = backoff(failing.failures + 1, first=FIRST_PAUSE, most=LONGEST_PAUSE, dice=dice)
        pause = min(asked, LONGEST_ASKED) if asked is not None and asked > 0 else grown
        failing.failed(order, pause)
        other.withdrawn(order)
        return pause

    # --- parked orders ----------------------------------------------------------------------------------

    def park(self, order: OpenOrder) -> None:
        """Keep the order until it may be sent again."""
        self._parked.append(order)

    def next_parked(self, awaits: Callable[[OpenOrder], bool]) -> OpenOrder | None:
        """Take out the first that may be sent now; those that ended otherwise are forgotten."""
        self._parked = [order for order in self._parked if awaits(order)]
        for order in self._parked:
            if order.run is not None and self.room(order.run) >= 1:
                self._parked.remove(order)
                return order
        return None

    def parked_wait(self) -> float | None:
        """Seconds until one may be sent; None when only an answer changes anything."""
        waits = [self.wait(order.run) for order in self._parked if order.run is not None]
        return min((wait for wait in waits if wait is not None), default=None)

    def _places(self, route: Route) -> float:
        """How many more orders may be on their way to the route's neighbour."""
        return UNANSWERED - self._unanswered[_neighbour(route)] if route.neighbour else math.inf

    def _of(self, route: Route) -> tuple[Cooldown, Cooldown]:
        """The sink's, then the route's own."""
        neighbour = _neighbour(route)
        if neighbour not in self._sinks:
            self._sinks[neighbour] = Cooldown(self._clock)
        if route.name not in self._routes:
            self._routes[route.name] = Cooldown(self._clock)
        return self._sinks[neighbour], self._routes[route.name]


def _neighbour(route: Route) -> tuple[str, str]:
    return route.sink, route.neighbour
