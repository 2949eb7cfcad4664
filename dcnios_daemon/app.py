"""The composition root: settings in, running daemon out. The one place that knows every part.

Start: journal, HTTP port, sinks (they settle what an earlier life left in flight), dispatcher, sources,
ready. The end is the way back, within the grace, but the port closes last: probes are answered to the end.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from typing import Any, Never

import msgspec

from dcnios_daemon import __version__, lifecycle
from dcnios_daemon.buffer.journal import SqliteJournal
from dcnios_daemon.config.model import DaemonSettings, Results
from dcnios_daemon.config.model import Route as RouteSettings
from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import ConfigError, DcniosError
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.payload import build_payload
from dcnios_daemon.core.ports import Gate, Journal, Order, Sink, Store
from dcnios_daemon.core.routing import Router
from dcnios_daemon.dispatch.dispatcher import Dispatcher
from dcnios_daemon.dispatch.route import Limits, Route
from dcnios_daemon.sinks import registry as sinks
from dcnios_daemon.sinks.spec import SinkContext
from dcnios_daemon.sources import registry as sources
from dcnios_daemon.sources.runner import SourceRunner
from dcnios_daemon.telemetry import events as telemetry
from dcnios_daemon.telemetry import logging
from dcnios_daemon.telemetry.health import Health
from dcnios_daemon.web.api import Api
from dcnios_daemon.web.server import Door, WebServer

_CLOCK = SystemClock()


class Parts(msgspec.Struct, kw_only=True):
    """Everything that runs, wired."""

    settings: DaemonSettings
    journal: Journal
    gate: Gate
    sinks: Mapping[str, Sink]
    dispatcher: Dispatcher
    runners: Mapping[str, SourceRunner]
    health: Health
    phase: str = "starting"
    waiting_sinks: set[str] = msgspec.field(default_factory=set)


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


@contextlib.asynccontextmanager
async def journal(settings: DaemonSettings, *, shared: bool) -> AsyncIterator[Journal]:
    """The journal, open while inside.

    Args:
        settings: Where it is.
        shared: Beside a running daemon, to look, replay and drop.
    """
    made = make_journal(settings)
    await made.open(shared=shared)
    try:
        yield made
    finally:
        await made.aclose()


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


def build_route(name: str, route: RouteSettings | Results, sink: Sink) -> Route:
    """A route as the dispatcher takes it, its ``run`` compiled."""
    neighbour = sinks.KINDS[route.run.kind].neighbour
    return Route(
        name=name,
        plan=sink.plan(name, route.run),
        sink=route.run.kind,
        neighbour=neighbour(route.run) if neighbour else "",
        limits=Limits(rate=route.rate, burst=route.burst, in_flight=route.in_flight),
        weight=route.weight,
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


def build(settings: DaemonSettings, stores: Mapping[str, Store]) -> Parts:
    """Wire everything; nothing is opened yet.

    Raises:
        ConfigError: A route's ``run`` cannot work.
    """
    opened = make_journal(settings)
    router = settings.router()
    made_sinks = build_sinks(settings.run_kinds(), settings, stores)
    routes = _compile(settings, made_sinks)
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


def _watch_health(parts: Parts) -> None:
    health = parts.health
    health.watch("daemon", lambda: None if parts.phase == "running" else parts.phase)
    health.watch("journal", lambda: parts.gate.reason)
    for name, runner in parts.runners.items():
        health.watch(f"source {name}", runner.status.trouble)
    for name in parts.sinks:
        health.watch(f"sink {name}", functools.partial(_sink_trouble, parts, name))


def _sink_trouble(parts: Parts, name: str) -> str | None:
    return "finds out what became of an earlier life's orders" if name in parts.waiting_sinks else None


def describe(parts: Parts) -> dict[str, Any]:
    """What ``/api/v1/status`` says beside the journal's counts."""
    reasons = dict(parts.health.reasons())
    settings = parts.settings
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
        "routes": {
            name: {"run": route.run.kind, "from": list(route.sources)}
            for name, route in settings.sendings.items()
        },
    }


def _web(parts: Parts) -> WebServer:
    api = Api(journal=parts.journal, status=functools.partial(describe, parts))
    server = WebServer(health=parts.health, api=api, admin_token=parts.settings.daemon.http.admin_token)
    for name, runner in parts.runners.items():
        source = parts.settings.sources[name]
        kind = sources.KINDS[source.kind]
        if kind.receives:
            server.mount(name, Door(receiver=runner, token=kind.token(source)))
    return server


async def run(settings: DaemonSettings, *, reread: Callable[[], DaemonSettings]) -> int:
    """Run the daemon until it is asked to stop. Returns the process's exit code.

    Args:
        settings: What to run.
        reread: Reads the configuration anew, on SIGHUP.

    Raises:
        DcniosError: It cannot start: the journal, the address or a route's ``run``.
    """
    logging.setup(form=settings.daemon.log.format, level=settings.daemon.log.level)
    life = lifecycle.Life(grace=settings.daemon.shutdown_grace)
    async with contextlib.AsyncExitStack() as stack:
        stores = build_stores(settings)
        for store in stores.values():
            stack.push_async_callback(store.aclose)
        parts = await asyncio.to_thread(build, settings, stores)
        _watch_health(parts)
        hangup = asyncio.Event()
        stack.enter_context(life.signals(reload=hangup.set))
        await parts.journal.open()
        async with contextlib.AsyncExitStack() as opened:
            opened.push_async_callback(parts.journal.aclose)
            http = settings.daemon.http
            port = await stack.enter_async_context(_web(parts).listen(http.host, http.port))
            telemetry.Listening(url=f"http://{http.host}:{port}/").emit()
            await _live(parts, life, _reload_on(hangup, reread, parts))
    return life.exit_code


async def _live(parts: Parts, life: lifecycle.Life, reloading: Coroutine[Any, Any, Never]) -> None:
    await parts.dispatcher.restore()
    async with life.phase("sinks") as start:
        for name, sink in parts.sinks.items():
            desk = parts.dispatcher.desk(name)
            start(f"sink {name}", sink.serve(desk, functools.partial(_sink_ready, parts, name)))
        start("watchdog", lifecycle.watchdog())
        start("reload", reloading)
        async with life.phase("dispatch") as start_dispatch:
            start_dispatch("dispatcher", parts.dispatcher.run())
            async with life.phase("sources") as start_source:
                for name, runner in parts.runners.items():
                    start_source(f"source {name}", runner.run())
                parts.phase = "running"
                telemetry.PhaseEntered(phase="running").emit()
                lifecycle.notify("READY=1")
                await life.until_stop()
                parts.phase = "stopping"
            await _drain(parts, life)
    for sink in parts.sinks.values():
        await sink.aclose()


async def _drain(parts: Parts, life: lifecycle.Life) -> None:
    """Let what is on its way to a sink arrive, for three quarters of the grace."""
    try:
        async with asyncio.timeout(life.grace * 3 / 4):
            await parts.dispatcher.drain()
    except TimeoutError:
        telemetry.PhaseEntered(phase="draining", detail="some submissions did not end in time").emit()


def _sink_ready(parts: Parts, name: str) -> None:
    parts.waiting_sinks.discard(name)
    parts.dispatcher.sink_is_ready(name)


async def _reload_on(hangup: asyncio.Event, reread: Callable[[], DaemonSettings], parts: Parts) -> Never:
    """At each SIGHUP take the routes and limits of the configuration as it is then; a wrong one changes
    nothing and says so.
    """
    while True:
        await hangup.wait()
        hangup.clear()
        lifecycle.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            new = await asyncio.to_thread(reread)
            routes = await asyncio.to_thread(_compile_again, parts, new)
        except DcniosError as error:
            telemetry.ReloadRefused(error=str(error)).emit()
        else:
            parts.dispatcher.change(routes, build_limits(new))
            tell_results(parts.journal, new)
            for runner in parts.runners.values():
                runner.router = new.router()
            parts.settings = new
            telemetry.Reloaded(routes=len(routes)).emit()
        lifecycle.notify("READY=1")


def _compile_again(parts: Parts, new: DaemonSettings) -> dict[str, Route]:
    """The new configuration's routes.

    Raises:
        ConfigError: Something else than routes and limits is new, too.
    """
    old = parts.settings
    blocks = ("daemon", "buffer", "kubernetes", "sources")
    fixed = [block for block in blocks if getattr(old, block) != getattr(new, block)]
    fixed += [f"routes with run.kind {kind}" for kind in sorted(new.run_kinds() - set(parts.sinks))]
    if fixed:
        raise ConfigError(f"only routes and limits change without a restart, not {', '.join(fixed)}")
    return _compile(new, parts.sinks)


def _compile(settings: DaemonSettings, made_sinks: Mapping[str, Sink]) -> dict[str, Route]:
    return {
        name: build_route(name, route, made_sinks[route.run.kind])
        for name, route in settings.sendings.items()
    }


async def render(settings: DaemonSettings, route: str, event: Event) -> Any:  # noqa: ANN401 - a sink's own object
    """The very object that the route would submit for the event.

    Raises:
        OrderRefused: It could never be run.
    """
    stores = build_stores(settings)
    try:
        wanted = settings.sendings[route]
        built = build_route(route, wanted, build_sinks([wanted.run.kind], settings, stores)[wanted.run.kind])
        payload = build_payload((event,), wanted.payload)
        order = Order(route=route, attempt=1, events=(event,), payload=payload, form=wanted.payload)
        return await built.plan.render(order)
    finally:
        for store in stores.values():
            await store.aclose()
