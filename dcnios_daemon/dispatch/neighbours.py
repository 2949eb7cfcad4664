"""Who is to be left alone now, and the orders in doubt that wait for the end of it.

A neighbour that fails or asks for time is left alone by all routes that use it. A route whose own need (a
store for its links, a right) is missing is left alone by itself, so that its backlog does not run through the
journal again and again, and the other routes go on.

A neighbour may also fail at one order only, each time. Such an order waits longer and longer by itself, and
whenever an order that had failed before has failed again, one that had not is the next to be tried, if any.
Or at some routes' orders only (a quota for GPUs is full): such a route does not come a third time before all
others that have something to send had a turn, whatever the priorities.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.patience import pause_after
from dcnios_daemon.dispatch.orders import OpenOrder
from dcnios_daemon.dispatch.pace import Pace
from dcnios_daemon.dispatch.route import Route
from dcnios_daemon.dispatch.submission import Answer, Verdict
from dcnios_daemon.dispatch.voice import Voice

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
UNANSWERED = 16
"""Orders on their way to one of several neighbours of a kind: one that hangs leaves workers for others."""
GRACE = 0.25
"""Seconds after a pause in which orders that failed before let others go first, if it is their turn."""
LONGEST_ASKED = 300.0
"""Seconds: a neighbour that asks for more is asked again after this, by one order."""


class Cooldown:
    """Whether someone may be asked. After it failed: by nobody, then by one order as a probe, then by all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0
        self._probe: object | None = None
        self._last: object | None = None
        self.failures = 0
        """How often it failed in a row."""

    def room(self) -> float:
        """How many orders may be sent now as far as this goes."""
        if self.failures == 0:
            return math.inf
        return 0 if self._probe is not None or self._clock.monotonic() < self._until else 1

    def wait(self) -> float | None:
        """Seconds until there is room; None while a probe is out."""
        if self.failures == 0:
            return 0.0
        return None if self._probe is not None else max(0.0, self._until - self._clock.monotonic())

    def chosen(self, order: object) -> None:
        """The order is about to be sent; after a failure it is the probe."""
        if self.failures and self._probe is None:
            self._probe = order

    def lets(self, order: object) -> bool:
        """Whether the order may still be sent: something may have failed since it was chosen."""
        return self.failures == 0 or self._probe is order

    def withdrawn(self, order: object) -> None:
        """The order was not sent, or its answer says nothing about this: another may be the probe."""
        if self._probe is order:
            self._probe = None

    def succeeded(self) -> None:
        """It answered as it should."""
        self.failures = 0
        self._probe = self._last = None

    def failed(self, order: object, pause: float) -> None:
        """It did not; leave it alone for ``pause`` seconds. What fails while it is left alone was sent before
        and says nothing new; nor does the same order twice in a row.
        """
        if self._probe is order or self.failures == 0:
            self.failures = self.failures_with(order)
            self._last = order
            self._until = self._clock.monotonic() + pause
        self.withdrawn(order)

    def failures_with(self, order: object) -> int:
        """How often it has failed in a row if it fails at this order now."""
        return max(1, self.failures + (self._last is not order))

    def since(self) -> float:
        """For how many seconds it has not been left alone any more; below 0, it still is."""
        return self._clock.monotonic() - self._until


class NeighbourState(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with a neighbour, for people and metrics."""

    sink: str
    neighbour: str
    """Which one, where the kind has several; else empty."""
    at_once: int
    """Submissions that may wait for its answer at the same time."""
    unanswered: int
    failures: int
    """How often it failed in a row."""
    pause: float
    """Seconds that it is left alone still."""
    error: str
    """Why, as it said last; empty when all is well."""

    def trouble(self) -> str | None:
        """What is wrong, in words."""
        who = f"{self.neighbour}: " if self.neighbour else ""
        return f"{who}{_waits(self.pause)}: {self.error}" if self.failures else None


class _Neighbour:
    """Whom orders go to."""

    def __init__(self, clock: Clock, route: Route, workers: int) -> None:
        sink, name = route.sink, route.neighbour
        known = route.at_once or UNANSWERED
        self.cooldown = Cooldown(clock)
        # Of several neighbours of a kind nothing is known, not even that answering is quick by nature.
        self.pace = Pace(known, strict=True, heeds_time=False) if name else Pace(workers)
        self.voice = Voice(clock, sink=sink, neighbour=name)
        self.error = ""
        self.wants_others = False
        self.failed_for: set[str] = set()
        """Routes at whose orders it failed since it last did well."""
        self.yields: set[str] = set()
        """Those of them that had their turn again since: the others have theirs before they come back."""

    def failed(self, route: str) -> None:
        """It failed at an order of the route."""
        if route in self.yields:
            self.yields = {route}
        elif route in self.failed_for:
            self.yields.add(route)
        self.failed_for.add(route)

    def did_well(self) -> None:
        """All may go again."""
        self.failed_for.clear()
        self.yields.clear()

    def grace(self, route: str) -> float:
        """Seconds for which other routes go first; below 0: none."""
        return GRACE - self.cooldown.since() if route in self.yields and self.cooldown.failures else 0.0


class _Waiting:
    """A route's own need, and whether it is missing."""

    def __init__(self, clock: Clock, name: str) -> None:
        self.cooldown = Cooldown(clock)
        self.voice = Voice(clock, route=name)
        self.error = ""
        self.wants_others = False


class Neighbours:
    """The cooldowns of neighbours and of routes, the pace of neighbours, and the parked orders: in doubt, but
    not to be sent now.

    Args:
        clock: Tells the time.
        workers: Submissions at the same time, over all neighbours.
    """

    def __init__(self, clock: Clock, *, workers: int) -> None:
        self._clock = clock
        self._workers = workers
        self._neighbours: dict[tuple[str, str], _Neighbour] = {}
        self._wanted: set[tuple[str, str]] = set()
        self._routes: dict[str, _Waiting] = {}
        self._parked: list[OpenOrder] = []

    def change(self, routes: Iterable[Route]) -> None:
        """From now on these are the routes: forget whom none of them talks to, once nothing is left there."""
        routes = list(routes)
        self._wanted = {_place(route) for route in routes}
        self._neighbours = {place: found for place, found in self._neighbours.items() if self._matters(place)}
        names = {route.name for route in routes}
        self._routes = {name: found for name, found in self._routes.items() if name in names}

    def states(self) -> Sequence[NeighbourState]:
        """How it stands with each neighbour that was sent to and still matters."""
        return [
            NeighbourState(
                sink=sink,
                neighbour=name,
                at_once=found.pace.limit,
                unanswered=found.pace.unanswered,
                failures=found.cooldown.failures,
                pause=found.cooldown.wait() or 0.0,
                error=found.error,
            )
            for (sink, name), found in self._neighbours.items()
            if self._matters((sink, name))
        ]

    def waiting_routes(self) -> Mapping[str, str]:
        """Routes that are left alone for want of something of their own, and what that is."""
        return {
            name: f"{_waits(found.cooldown.wait() or 0.0)}: {found.error}"
            for name, found in self._routes.items()
            if found.cooldown.failures
        }

    def why_waits(self, route: Route) -> str | None:
        """Why orders of the route wait for whom they go to, or for something of its own; None: they need
        not.
        """
        for known in (self._neighbours.get(_place(route)), self._routes.get(route.name)):
            if known is not None and known.cooldown.failures:
                return f"{_waits(known.cooldown.wait() or 0.0)}: {known.error}"
        return None

    def room(self, route: Route) -> float:
        """How many orders of the route may be sent now as far as this goes."""
        to = self._to(route)
        if to.grace(route.name) > 0:
            return 0
        return min(to.pace.room(), *(cooldown.room() for cooldown in self._cooldowns(route)))

    def wait(self, route: Route) -> float | None:
        """Seconds until there is room; None when only an answer makes room."""
        if self._to(route).pace.room() < 1:
            return None
        waits = [self._to(route).grace(route.name), *(each.wait() for each in self._cooldowns(route))]
        return None if None in waits else max(wait for wait in waits if wait is not None)

    def chosen(self, order: OpenOrder, route: Route) -> None:
        """The order is about to be sent."""
        self._to(route).pace.chosen(order)
        for cooldown in self._cooldowns(route):
            cooldown.chosen(order)

    def lets(self, order: OpenOrder, route: Route) -> bool:
        """Whether the order may still be sent, now that its turn has come."""
        return all(cooldown.lets(order) for cooldown in self._cooldowns(route))

    def withdrawn(self, order: OpenOrder, route: Route) -> None:
        """The order is not sent after all."""
        self._to(route).pace.withdrawn(order)
        for cooldown in self._cooldowns(route):
            cooldown.withdrawn(order)

    def told(self, order: OpenOrder, route: Route, answer: Answer) -> float:
        """Learn from what came of sending it. Returns the pause, in seconds, for whoever was put off."""
        if answer.verdict in {Verdict.TAKEN, Verdict.REFUSED}:
            self._went_well(order, route, answer)
            return 0.0
        failing: _Neighbour | _Waiting = self._to(route)
        other: _Neighbour | _Waiting = self._own(route)
        if answer.verdict is Verdict.NOT_NOW:
            failing, other = other, failing
            self._to(route).pace.withdrawn(order)
        else:
            self._to(route).pace.failed(order, self._clock.monotonic())
            self._to(route).failed(route.name)
        grown = _pause(failing.cooldown.failures_with(order))
        asked = answer.asked
        pause = min(asked, LONGEST_ASKED) if asked is not None and asked > 0 else grown
        failing.cooldown.failed(order, pause)
        failing.wants_others = order.tries > 0
        order.tries += 1
        order.not_before = self._clock.monotonic() + _pause(order.tries)
        failing.error = answer.error
        failing.voice.failed(answer.error, again_in=pause)
        other.cooldown.withdrawn(order)
        return pause

    def _went_well(self, order: OpenOrder, route: Route, answer: Answer) -> None:
        """It was taken; or refused for good, which tells of the neighbour only where it said so itself."""
        to, own, now = self._to(route), self._own(route), self._clock.monotonic()
        if not answer.heard:
            self.withdrawn(order, route)
            return
        if to.pace.answered(order, route.name, sent=answer.sent, now=now):
            to.voice.slow(seconds=now - answer.sent, at_once=to.pace.limit)
        if to.cooldown.lets(order):
            to.did_well()
        for well in (to, own):
            if well.cooldown.lets(order):  # else it was sent before something failed, and ends no pause
                well.cooldown.succeeded()
                well.wants_others = False
                well.error = ""
                well.voice.well()

    # --- parked orders ----------------------------------------------------------------------------------

    def park(self, order: OpenOrder) -> None:
        """Keep the order until it may be sent again."""
        self._parked.append(order)

    def next_parked(self, awaits: Callable[[OpenOrder], bool]) -> OpenOrder | None:
        """Take out the first that may be sent now; those that ended otherwise are forgotten."""
        self._parked = [order for order in self._parked if awaits(order)]
        for order in self._parked:
            if order.run is not None and self.room(order.run) >= 1 and self._held_back(order, order.run) <= 0:
                self._parked.remove(order)
                return order
        return None

    def parked_wait(self) -> float | None:
        """Seconds until one may be sent; None when only an answer changes anything."""
        waits = [
            max(wait, self._held_back(order, order.run))
            for order in self._parked
            if order.run is not None and (wait := self.wait(order.run)) is not None
        ]
        return min(waits, default=None)

    def _held_back(self, order: OpenOrder, route: Route) -> float:
        """Seconds that the order has to wait still, for it failed before."""
        grace = [GRACE - each.cooldown.since() for each in self._both(route) if each.wants_others]
        return max(order.not_before - self._clock.monotonic(), *grace, 0.0)

    def _both(self, route: Route) -> tuple[_Neighbour, _Waiting]:
        return self._to(route), self._own(route)

    def _cooldowns(self, route: Route) -> Iterator[Cooldown]:
        return (each.cooldown for each in self._both(route))

    def _matters(self, place: tuple[str, str]) -> bool:
        """Whether a route talks to it, or an order of an earlier configuration does."""
        found = self._neighbours.get(place)
        parked = {_place(order.run) for order in self._parked if order.run is not None}
        return place in self._wanted or place in parked or (found is not None and found.pace.unanswered > 0)

    def _to(self, route: Route) -> _Neighbour:
        place = _place(route)
        if place not in self._neighbours:
            self._neighbours[place] = _Neighbour(self._clock, route, self._workers)
        return self._neighbours[place]

    def _own(self, route: Route) -> _Waiting:
        if route.name not in self._routes:
            self._routes[route.name] = _Waiting(self._clock, route.name)
        return self._routes[route.name]


def _place(route: Route) -> tuple[str, str]:
    return route.sink, route.neighbour


def _pause(failures: int) -> float:
    return pause_after(failures, first=FIRST_PAUSE, most=LONGEST_PAUSE)


def _waits(pause: float) -> str:
    return f"left alone for {pause:.0f} s more" if pause >= 1 else "is tried again"
