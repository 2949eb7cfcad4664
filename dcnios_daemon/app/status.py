"""How the daemon is: what ``/readyz`` and ``/api/v1/status`` say of it."""

import functools
from collections import Counter
from typing import Any

import msgspec

from dcnios_daemon import __version__
from dcnios_daemon.app.parts import Parts
from dcnios_daemon.config.model import Results, Route
from dcnios_daemon.core.ports import Suspending
from dcnios_daemon.sinks.spec import ContainerRun


def watch_health(parts: Parts) -> None:
    """Let readiness depend on the phase, the gate, and on each source and sink."""
    health = parts.health
    health.watch("daemon", lambda: None if parts.phase == "running" else parts.phase)
    health.watch("journal", lambda: parts.gate.reason)
    for name, runner in parts.runners.items():
        health.watch(f"source {name}", runner.status.trouble)
    for name in parts.sinks:
        health.watch(f"sink {name}", functools.partial(_sink_trouble, parts, name))


def _sink_trouble(parts: Parts, name: str) -> str | None:
    if name in parts.waiting_sinks:
        return "finds out what became of an earlier life's orders"
    neighbours = (state.trouble() for state in parts.dispatcher.neighbours() if state.sink == name)
    waiting = parts.dispatcher.waiting_routes()
    routes = (f"route {route} {waiting[route]}" for route in _routes(parts, name) if route in waiting)
    return "; ".join([*filter(None, neighbours), *routes]) or None


def _routes(parts: Parts, sink: str) -> list[str]:
    return [name for name, route in parts.settings.sendings.items() if route.run.kind == sink]


def _suspended(parts: Parts) -> Counter[str]:
    """Route to how many of its orders its sink's neighbour holds back."""
    counts: Counter[str] = Counter()
    for sink in parts.sinks.values():
        if isinstance(sink, Suspending):
            counts.update(sink.suspended())
    return counts


def describe(parts: Parts) -> dict[str, Any]:
    """What ``/api/v1/status`` says beside the journal's counts."""
    reasons = dict(parts.health.reasons())
    settings = parts.settings
    suspended = _suspended(parts)
    fallen_back = parts.dispatcher.fallen_back()
    return {
        "instance": settings.daemon.instance,
        "version": __version__,
        "phase": parts.phase,
        "ready": not reasons,
        "reasons": reasons,
        "limits": {
            "max_events": settings.buffer.max_events,
            "max_bytes": settings.buffer.max_bytes,
            "resume_at": settings.buffer.resume_at,
        },
        "sources": {
            name: msgspec.to_builtins(runner.status) | {"kind": settings.sources[name].kind}
            for name, runner in parts.runners.items()
        },
        "sinks": [msgspec.to_builtins(state) for state in parts.dispatcher.neighbours()],
        "routes": {
            name: {
                "run": route.run.kind,
                "from": list(route.sources),
                "priority": route.priority,
                "waits": parts.dispatcher.why_waits(name),
                "suspended": suspended[name],
                "outputs": _outputs(route.run),
                "fallback": _fallback(route, fallen_back.get(name)),
            }
            for name, route in settings.sendings.items()
        },
    }


def _outputs(run: object) -> dict[str, str]:
    """Where results go, as the configuration has it."""
    return {name: out.to for name, out in run.stage_out.items()} if isinstance(run, ContainerRun) else {}


def _fallback(route: Route | Results, fallen_back_for: float | None) -> dict[str, Any] | None:
    """Where else its orders go, after how many seconds, and for how many they have, if they do."""
    other = route.fallback if isinstance(route, Route) else None
    if other is None:
        return None
    return {"run": other.run.kind, "after": other.after, "fallen_back_for": fallen_back_for}
