"""A route that writes where it reads is refused before it has made the first event of its own."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from dcnios_daemon.config.load import load
from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.core.routing import glob


def kafka(topic: str, broker: str = "b:1", **more: Any) -> dict[str, Any]:
    return {"kind": "kafka", "bootstrap": ["other:1", broker], "topics": [topic], **more}


def to(topic: str, broker: str = "b:1") -> dict[str, Any]:
    return {"kind": "kafka", "bootstrap": [broker], "topic": topic}


def route(run: dict[str, Any], *sources: str, **match: Any) -> dict[str, Any]:
    return {"from": list(sources or ["in"]), "match": match, "run": run}


def post(url: str) -> dict[str, Any]:
    return {"kind": "http", "url": url}


IN = {"in": kafka("in")}
BOTH = {"in": kafka("in"), "back": kafka("back")}
HOOKS = {"hooks": {"kind": "cloudevents"}}
BY_PATTERN = {"in": {"kind": "kafka", "bootstrap": ["b:1"], "pattern": "i.*"}}
OURS = "http://localhost:8080/sources/hooks"
DRY = {"kind": "dry-run"}

LOOPS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "to its own topic": (IN, {"routes": {"a": route(to("in"))}}, "routes.a.run"),
    "a broker is a name in any case": (IN, {"routes": {"a": route(to("in", "B:1"))}}, "routes.a.run"),
    "to a topic of its pattern": (BY_PATTERN, {"routes": {"a": route(to("ix"))}}, "routes.a.run"),
    "by a filter that lets it through": (
        IN,
        {"routes": {"a": route(to("in"), subject="i*", action=["message"])}},
        "routes.a.run",
    ),
    "by way of another": (
        BOTH,
        {"routes": {"a": route(to("back")), "b": route(to("in"), "back")}},
        "routes.a.run",
    ),
    "results of what reads them": (
        IN,
        {"routes": {"a": route(DRY)}, "results": {"run": to("in")}},
        "routes.a.run",
    ),
    "to our own door": (HOOKS, {"routes": {"a": route(post(OURS), "hooks")}}, "routes.a.run"),
}
NO_LOOPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "other topic": (IN, {"routes": {"a": route(to("out"))}}),
    "other brokers": (IN, {"routes": {"a": route(to("in", "c:1"))}}),
    "no whole match of the pattern": (BY_PATTERN, {"routes": {"a": route(to("xi"))}}),
    "other source": (BOTH, {"routes": {"a": route(to("back"))}}),
    "read by a route that writes nothing": (
        BOTH,
        {"routes": {"a": route(to("back")), "b": route(DRY, "back")}},
    ),
    "what daemons wrote is left out": (
        IN,
        {"routes": {"a": route(to("in"), attributes={"header.dcnios-instance": ""})}},
    ),
    "told by the data": (IN, {"routes": {"a": route(to("in"), where={"raw": "1"})}}),
    "another subject": (IN, {"routes": {"a": route(to("in"), subject="out")}}),
    "tombstones only": (IN, {"routes": {"a": route(to("in"), action=["removed"])}}),
    "results of other routes": (
        BOTH,
        {"routes": {"a": route(DRY), "b": route(DRY, "back")}, "results": {"routes": ["b"], "run": to("in")}},
    ),
    "another's door": (HOOKS, {"routes": {"a": route(post("http://else:8080/sources/hooks"), "hooks")}}),
    "another port": (HOOKS, {"routes": {"a": route(post("http://localhost:81/sources/hooks"), "hooks")}}),
    "another door": (HOOKS, {"routes": {"a": route(post("http://localhost:8080/sources/x"), "hooks")}}),
}


def read(folder: Path, sources: dict[str, Any], more: dict[str, Any]) -> None:
    file = folder / "f.yaml"
    file.write_text(yaml.safe_dump({"sources": sources, **more}))
    load(file, environ={})


@pytest.mark.parametrize("case", LOOPS)
def test_a_loop_is_refused_with_what_would_help(case: str, tmp_path: Path) -> None:
    sources, more, place = LOOPS[case]
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, sources, more)
    (said,) = str(raised.value).splitlines()
    assert f" {place}: makes a loop: " in said
    assert "is read again by a" in said
    assert "write elsewhere, or leave out what a daemon wrote" in said


@pytest.mark.parametrize("case", NO_LOOPS)
def test_what_ends_is_none(case: str, tmp_path: Path) -> None:
    read(tmp_path, *NO_LOOPS[case])


def test_the_filter_that_is_proposed_leaves_out_what_a_daemon_wrote_and_nothing_else() -> None:
    assert glob("")("")
    assert not glob("")("hall-b")
