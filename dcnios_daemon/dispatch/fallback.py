"""Which of two ways a route's orders go: its own, or while that has had no room for long, another.

Only the choice at the claim is made here. An order goes the way for which it was claimed, and the journal
knows which that is; it is claimed for the other one only after it was given back, which is after the first
has said that it does not have it. One that may exist is never given back, and so it never moves.
"""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.dispatch.neighbours import LONGEST_ASKED, Neighbours
from dcnios_daemon.dispatch.route import Route
from dcnios_daemon.dispatch.submission import ANSWER_WITHIN, Verdict
from dcnios_daemon.telemetry import events as telemetry

FORGOTTEN = 2 * LONGEST_ASKED + ANSWER_WITHIN
"""Seconds after which a neighbour that was not asked again may have room: nobody knows."""


class NoRoom(msgspec.Struct, frozen=True):
    """A neighbour had no room for a route, each time it was asked. In monotonic seconds."""

    since: float
    last: float


def noted(known: NoRoom | None, verdict: Verdict, now: float) -> NoRoom | None:
    """What is known after one more answer.

    Only a *not now* tells of room, and only a *yes* of its end: a lost answer, a refusal for good and a need
    of the route's own tell of neither.
    """
    if verdict is Verdict.TAKEN:
        return None
    if verdict is not Verdict.SINK_AWAY:
        return known
    if known is None or now - known.last > FORGOTTEN:
        return NoRoom(now, now)
    return NoRoom(known.since, now)


def overdue_in(known: NoRoom | None, *, after: float, now: float) -> float | None:
    """Seconds until there was no room for ``after`` seconds; None where it may well have some."""
    if known is None or now - known.last > FORGOTTEN:
        return None
    return max(0.0, known.since + after - now)


def ways(routes: Iterable[Route]) -> Iterator[Route]:
    """All ways of these routes: of each its own, and the other one where it has one."""
    for route in routes:
        yield route
        if route.fallback is not None:
            yield route.fallback.route


class Ways:
    """Chooses between them.

    Args:
        clock: Tells the time.
        neighbours: Know who takes something now.
    """

    def __init__(self, clock: Clock, neighbours: Neighbours) -> None:
        self._clock = clock
        self._neighbours = neighbours
        self._no_room: dict[str, NoRoom] = {}
        self._elsewhere: dict[str, float] = {}

    def change(self, routes: Mapping[str, Route]) -> None:
        """From now on these are the routes."""
        for name in self._no_room.keys() | self._elsewhere.keys():
            route = routes.get(name)
            if route is None or route.fallback is None:
                self._no_room.pop(name, None)
                self._recovered(name)

    def choose(self, route: Route) -> Route | None:
        """The way that takes an order of the route now. Its own one is asked whenever it may be."""
        if self._neighbours.room(route) >= 1:
            return route
        other = route.fallback
        if other is None or self._overdue(route) != 0 or self._neighbours.room(other.route) < 1:
            return None
        return other.route

    def pause(self, way: Route, asked: float) -> float:
        """For how many seconds an order is left alone that its neighbour has put off for ``asked``: for none
        where it may go the other way at once. It would be what its own is asked with for ever.
        """
        chosen = self.choose(way)
        return 0.0 if chosen is not None and chosen.is_fallback else asked

    def wait(self, route: Route) -> float | None:
        """Seconds until one of the ways may take something; None when only an answer tells."""
        own = self._neighbours.wait(route)
        due, other = self._overdue(route), route.fallback
        then = None if other is None else self._neighbours.wait(other.route)
        if due is None or then is None:
            return own
        return max(due, then) if own is None else min(own, max(due, then))

    def told(self, name: str, way: Route, verdict: Verdict) -> None:
        """Learn from what came of sending an order of the route this way."""
        if way.is_fallback:
            if verdict is Verdict.TAKEN:
                self._went_elsewhere(name, way)
            return
        known = noted(self._no_room.pop(name, None), verdict, self._clock.monotonic())
        if way.fallback is not None and known is not None:
            self._no_room[name] = known
        if verdict is Verdict.TAKEN:
            self._recovered(name)

    def elsewhere(self) -> Mapping[str, float]:
        """Routes whose orders go the other way, and for how many seconds they have."""
        now = self._clock.monotonic()
        return {name: now - since for name, since in self._elsewhere.items()}

    def _overdue(self, route: Route) -> float | None:
        if route.fallback is None:
            return None
        known = self._no_room.get(route.name)
        return overdue_in(known, after=route.fallback.after, now=self._clock.monotonic())

    def _went_elsewhere(self, name: str, way: Route) -> None:
        now = self._clock.monotonic()
        if name not in self._elsewhere:
            self._elsewhere[name] = now
            known = self._no_room.get(name)
            without = 0.0 if known is None else now - known.since
            telemetry.RouteFellBack(route=name, to=way.sink, seconds=round(without)).emit()
        telemetry.OrderFellBack(route=name, to=way.sink).emit()

    def _recovered(self, name: str) -> None:
        if self._elsewhere.pop(name, None) is not None:
            telemetry.RouteRecovered(route=name).emit()
