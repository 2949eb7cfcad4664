"""Whom to leave alone, what is said of it, and for how long it matters."""

from typing import Any

import pytest

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.dispatch.neighbours import Neighbours
from dcnios_daemon.dispatch.orders import OpenOrder
from dcnios_daemon.dispatch.route import Route
from dcnios_daemon.dispatch.submission import Answer, Verdict
from dcnios_daemon.dispatch.voice import Voice
from dcnios_daemon.telemetry.events import signal
from tests.clocks import ManualClock


def route(neighbour: str, name: str = "a") -> Route:
    plan: Any = None  # it is asked nothing here
    return Route(name=name, plan=plan, sink="http", neighbour=neighbour)


def order(run: Route, name: str = "o") -> OpenOrder:
    return OpenOrder(name=name, route=run.name, sink=run.sink, run=run, attempt=1, deliveries=(1,))


def fail(neighbours: Neighbours, run: Route, one: OpenOrder) -> None:
    neighbours.chosen(one, run)
    neighbours.told(one, run, Answer(verdict=Verdict.IN_DOUBT, error="refused"))


def troubles(neighbours: Neighbours) -> list[str]:
    return [state.neighbour for state in neighbours.states() if state.trouble()]


@pytest.fixture
def clock() -> Clock:
    return ManualClock()


def test_whom_no_route_talks_to_any_more_is_no_trouble(clock: Clock) -> None:
    """Else readiness would fail until a restart, although the reload has put things right."""
    neighbours = Neighbours(clock, workers=8)
    old, new = route("http://old"), route("http://new")
    neighbours.change([old])
    fail(neighbours, old, order(old))
    assert troubles(neighbours) == ["http://old"]
    neighbours.change([new])
    assert troubles(neighbours) == []


def test_why_a_route_waits_is_said_of_it_and_of_nobody_else(clock: Clock) -> None:
    neighbours = Neighbours(clock, workers=8)
    bad, good = route("http://bad"), route("http://good")
    neighbours.change([bad, good])
    fail(neighbours, bad, order(bad))
    assert "refused" in (neighbours.why_waits(bad) or "")
    assert neighbours.why_waits(good) is None


def test_it_matters_while_an_order_of_ours_may_exist_there(clock: Clock) -> None:
    neighbours = Neighbours(clock, workers=8)
    old, new = route("http://old"), route("http://new")
    neighbours.change([old])
    one = order(old)
    fail(neighbours, old, one)
    neighbours.park(one)
    neighbours.change([new])
    assert troubles(neighbours) == ["http://old"]
    neighbours.next_parked(lambda _: False)  # its outcome came in
    assert troubles(neighbours) == []


def test_that_it_was_slow_does_not_keep_its_failure_unsaid(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(signal, "say", lambda _level, event, _fields: said.append(event))
    voice = Voice(clock, sink="job")
    voice.slow(seconds=2.0, at_once=4)
    voice.failed("refused", again_in=1.0)
    voice.failed("refused", again_in=1.0)
    voice.well()
    assert said == ["submissions.slowed", "submissions.paused", "submissions.resumed"]
