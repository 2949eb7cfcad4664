"""The router gives each event the routes whose rules take it, in the configuration's order."""

import pytest

from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.routing import Router, Rule

RULES = {
    "zeta": Rule(sources=frozenset({"frames", "files"})),
    "png": Rule(sources=frozenset({"files"}), subject="**/*.png"),
    "alpha": Rule(sources=frozenset({"files", "frames"})),
    "new": Rule(sources=frozenset({"moves"}), actions=frozenset({Action.CREATED})),
    "hall": Rule(sources=frozenset({"halls"}), attributes={"hall": "b*"}),
    "run": Rule(sources=frozenset({"runs"}), where={"run": "7"}),
}


@pytest.mark.parametrize(
    ("source", "more", "routes"),
    [
        ("frames", {}, ("zeta", "alpha")),
        ("files", {"subject": "a/b.png"}, ("zeta", "png", "alpha")),
        ("files", {"subject": "a/b.gif"}, ("zeta", "alpha")),
        ("moves", {}, ("new",)),
        ("moves", {"action": Action.REMOVED}, ()),
        ("halls", {"attributes": {"hall": "b2"}}, ("hall",)),
        ("halls", {}, ()),
        ("runs", {"data": b'{"run": 7}'}, ("run",)),
        ("runs", {"data": b'{"run": 8}'}, ()),
        ("nobody's", {}, ()),
    ],
)
def test_an_event_takes_the_routes_whose_rules_take_it(
    source: str, more: dict[str, object], routes: tuple[str, ...]
) -> None:
    known = {"subject": "s", "action": Action.CREATED, **more}
    event = Event(key="0" * 40, source=source, kind="kafka", time=1.0, **known)  # type: ignore[arg-type]
    assert Router(RULES).routes(event) == routes
    assert routes == tuple(name for name, rule in RULES.items() if rule.takes(event))
