"""Saying what is wrong with a neighbour or a route: once a minute at most, however many orders meet it."""

from collections import Counter

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.patience import Seldom
from dcnios_daemon.telemetry import events as telemetry

EVERY = 60.0
"""Seconds."""


class Voice:
    """Speaks of one neighbour, or of one route."""

    def __init__(self, clock: Clock, *, sink: str = "", neighbour: str = "", route: str = "") -> None:
        self._who = {"sink": sink, "neighbour": neighbour, "route": route}
        self._of_failure, self._of_slowness = Seldom(clock, every=EVERY), Seldom(clock, every=EVERY)
        self._put_off = 0
        self._trouble_is_known = False

    def failed(self, error: str, *, again_in: float) -> None:
        """An order was put off."""
        self._put_off += 1
        if self._of_failure.is_time():
            telemetry.SubmissionsPaused(
                **self._who, error=error, again_in=round(again_in, 1), put_off=self._put_off
            ).emit()
            self._put_off = 0
            self._trouble_is_known = True

    def slow(self, *, seconds: float, at_once: int) -> None:
        """Answers come slowly, and fewer are asked for at the same time."""
        if self._of_slowness.is_time():
            telemetry.SubmissionsSlowed(**self._who, seconds=round(seconds, 3), at_once=at_once).emit()

    def well(self) -> None:
        """An order was taken as it should."""
        if self._trouble_is_known:
            telemetry.SubmissionsResumed(**self._who, put_off=self._put_off).emit()
            self._trouble_is_known = False
        self._put_off = 0


class Deaths:
    """Tells of deliveries that were given up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seldom: dict[str, Seldom] = {}
        self._unsaid: Counter[str] = Counter()

    def died(self, route: str, *, deliveries: int, result: str, reason: str) -> None:
        """Those of an order of the route."""
        self._unsaid[route] += deliveries
        if route not in self._seldom:
            self._seldom[route] = Seldom(self._clock, every=EVERY)
        if self._seldom[route].is_time():
            died = self._unsaid.pop(route)
            telemetry.DeliveriesDied(route=route, died=died, result=result, reason=reason).emit()
