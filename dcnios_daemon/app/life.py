"""One life of the daemon: what starts and ends when.

Start: journal, HTTP port, sinks (they settle what an earlier life left in flight), dispatcher, sources,
ready. The end is the way back, within the grace, but the port closes last: probes are answered to the end.
"""

import asyncio
import contextlib
import functools
import gc
from collections.abc import Callable, Coroutine
from typing import Any, Never

from dcnios_daemon import lifecycle
from dcnios_daemon.app.parts import Parts
from dcnios_daemon.app.reload import reload_on
from dcnios_daemon.app.status import watch_health
from dcnios_daemon.app.wiring import build, build_stores, build_web
from dcnios_daemon.config.model import DaemonSettings
from dcnios_daemon.telemetry import events as telemetry
from dcnios_daemon.telemetry import logging

_YOUNG = 10_000
"""Objects that may become more before the collector looks for cycles among them; Python's own is 700."""


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
        watch_health(parts)
        hangup = asyncio.Event()
        stack.enter_context(life.signals(reload=hangup.set))
        await parts.journal.open()
        async with contextlib.AsyncExitStack() as opened:
            opened.push_async_callback(parts.journal.aclose)
            http = settings.daemon.http
            port = await stack.enter_async_context(build_web(parts).listen(http.host, http.port))
            telemetry.Listening(url=f"http://{http.host}:{port}/").emit()
            await _live(parts, life, functools.partial(reload_on, hangup, reread, parts))
    return life.exit_code


async def _live(parts: Parts, life: lifecycle.Life, reload: Callable[[], Coroutine[Any, Any, Never]]) -> None:
    await parts.dispatcher.restore()
    async with life.phase("sinks") as start:
        for name, sink in parts.sinks.items():
            desk = parts.dispatcher.desk(name)
            start(f"sink {name}", sink.serve(desk, functools.partial(_sink_ready, parts, name)))
        start("watchdog", lifecycle.watchdog())
        start("reload", reload())
        async with life.phase("dispatch") as start_dispatch:
            start_dispatch("dispatcher", parts.dispatcher.run())
            async with life.phase("sources") as start_source:
                for name, runner in parts.runners.items():
                    start_source(f"source {name}", runner.run())
                _spare_the_collector()
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


def _spare_the_collector() -> None:
    """Let Python's collector of cycles never look again at what stays for the whole life, and at the rest
    less often: at hundreds of events a second it takes a twentieth of the CPU otherwise, and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)


def _sink_ready(parts: Parts, name: str) -> None:
    parts.waiting_sinks.discard(name)
    parts.dispatcher.sink_is_ready(name)
