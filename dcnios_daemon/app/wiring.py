"""Settings in, objects out; nothing is opened here. The one place that knows every part."""

import functools
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from dcnios_daemon.app.parts import Parts
from dcnios_daemon.app.status import describe
from dcnios_daemon.buffer.journal import SqliteJournal
from dcnios_daemon.config.kinds import Block
from dcnios_daemon.config.model import DaemonSettings, Results, fallback_path, run_path
from dcnios_daemon.config.model import Route as RouteSettings
from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.core.ports import Gate, Journal, Sink, Store
from dcnios_daemon.core.routing import Router
from dcnios_daemon.dispatch.dispatcher import Dispatcher
from dcnios_daemon.dispatch.fairness import Share
from dcnios_daemon.dispatch.limits import Limits
from dcnios_daemon.dispatch.route import Fallback, Route
from dcnios_daemon.sinks import registry as sinks
from dcnios_daemon.sinks.spec import SinkContext
from dcnios_daemon.sources import registry as sources
from dcnios_daemon.sources.runner import SourceRunner
from dcnios_daemon.telemetry.health import Health
from dcnios_daemon.web.api import Api
from dcnios_daemon.web.server import Door, WebServer

_CLOCK = SystemClock()


def build(settings: DaemonSettings, stores: Mapping[str, Store]) -> Parts:
    """Wire everything; nothing is opened yet.

    Raises:
        ConfigError: A route's ``run`` cannot work.
    """
    opened = make_journal(settings)
    router = settings.router()
    made_sinks = build_sinks(settings.run_kinds(), settings, stores)
    routes = build_routes(settings, made_sinks)
    tell_results(opened, settings)
    return Parts(
        settings=settings,
        journal=opened,
        gate=opened.gate,
        sinks=made_sinks,
        dispatcher=Dispatcher(journal=opened, clock=_CLOCK, routes=routes, limits=build_limits(settings)),
        runners={
            name: build_runner(name, settings, journal=opened, gate=opened.gate, router=router)
            for name in settings.sources
        },
        health=Health(),
        waiting_sinks=set(made_sinks),
    )


def make_journal(settings: DaemonSettings) -> SqliteJournal:
    """The journal as configured, not yet open. Its gate is ``.gate``."""
    buffer = settings.buffer
    return SqliteJournal(
        buffer.path,
        max_events=buffer.max_events,
        max_bytes=buffer.max_bytes,
        resume_at=buffer.resume_at,
        dedupe_for=buffer.dedupe_for,
        clock=_CLOCK,
    )


def build_stores(settings: DaemonSettings) -> dict[str, Store]:
    """Source name to the store behind it, for the sources that have one."""
    makers = {name: sources.KINDS[source.kind].store for name, source in settings.sources.items()}
    return {name: make(settings.sources[name]) for name, make in makers.items() if make is not None}


def build_sinks(
    kinds: Iterable[str], settings: DaemonSettings, stores: Mapping[str, Store]
) -> dict[str, Sink]:
    """One sink for each of these kinds of ``run``."""
    context = SinkContext(
        instance=settings.daemon.instance,
        state=settings.buffer.path.parent,
        stores=stores,
        clock=_CLOCK,
        kubernetes=settings.kubernetes,
        shutdown_grace=settings.daemon.shutdown_grace / 4,
    )
    return {kind: sinks.KINDS[kind].build(context) for kind in sorted(set(kinds))}


def build_routes(settings: DaemonSettings, made_sinks: Mapping[str, Sink]) -> dict[str, Route]:
    """All routes, the one for results among them.

    Raises:
        ConfigError: A route's ``run`` cannot work.
    """
    return {name: build_route(name, route, made_sinks) for name, route in settings.sendings.items()}


def build_route(name: str, route: RouteSettings | Results, made_sinks: Mapping[str, Sink]) -> Route:
    """A route as the dispatcher takes it, its ``run`` compiled, and that of its fallback.

    Raises:
        ConfigError: One of them cannot work.
    """
    made = _build_way(name, route, route.run, made_sinks)
    other = route.fallback if isinstance(route, RouteSettings) else None
    if other is None:
        return made
    try:
        way = _build_way(name, route, other.run, made_sinks)
    except ConfigError as error:
        own, there = ".".join(run_path(name)), ".".join(fallback_path(name))
        raise ConfigError(str(error).replace(own, there)) from error
    return replace(made, fallback=Fallback(route=replace(way, is_fallback=True), after=other.after))


def _build_way(
    name: str, route: RouteSettings | Results, run: Block, made_sinks: Mapping[str, Sink]
) -> Route:
    kind = sinks.KINDS[run.kind]
    return Route(
        name=name,
        plan=made_sinks[run.kind].plan(name, run),
        sink=run.kind,
        neighbour=kind.neighbour(run) if kind.neighbour else "",
        at_once=kind.at_once,
        keep=kind.keep(run) if kind.keep else None,
        limits=Limits(rate=route.rate, burst=route.burst, in_flight=route.in_flight),
        share=Share(route.weight, route.priority),
        retry=route.retry.policy(),
        batch_size=route.batch.size,
        batch_wait=route.batch.wait,
        payload=route.payload,
    )


def tell_results(journal: Journal, settings: DaemonSettings) -> None:
    """Let the journal make the results that are asked for from now on."""
    results = settings.results
    journal.on_finish(results.rule(settings.daemon.instance).admission if results else None)


def build_limits(settings: DaemonSettings) -> Limits:
    """The limits over all routes."""
    overall = settings.limits
    return Limits(rate=overall.rate, burst=overall.burst, in_flight=overall.in_flight)


def build_runner(
    name: str, settings: DaemonSettings, *, journal: Journal, gate: Gate, router: Router
) -> SourceRunner:
    """A source in its supervised loop."""
    source = settings.sources[name]
    build = functools.partial(
        sources.KINDS[source.kind].build, name=name, settings=source, instance=settings.daemon.instance
    )
    return SourceRunner(name=name, build=build, journal=journal, gate=gate, router=router, clock=_CLOCK)


def build_web(parts: Parts) -> WebServer:
    """The HTTP port, with a door for each source that is pushed to."""
    api = Api(
        journal=parts.journal,
        status=functools.partial(describe, parts),
        routes=lambda: parts.settings.sendings,
    )
    server = WebServer(health=parts.health, api=api, admin_token=parts.settings.daemon.http.admin_token)
    for name, runner in parts.runners.items():
        source = parts.settings.sources[name]
        kind = sources.KINDS[source.kind]
        if kind.receives:
            server.mount(name, Door(receiver=runner, token=kind.token(source)))
    return server
