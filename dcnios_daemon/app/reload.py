"""SIGHUP: the routes and limits of the configuration as it is then, in a daemon that runs on."""

import asyncio
import time
from collections.abc import Callable
from typing import Never

from dcnios_daemon import lifecycle
from dcnios_daemon.app.parts import Parts
from dcnios_daemon.app.wiring import build_limits, build_routes, tell_results
from dcnios_daemon.config.model import DaemonSettings
from dcnios_daemon.core.errors import ConfigError, DcniosError
from dcnios_daemon.dispatch.route import Route
from dcnios_daemon.telemetry import events as telemetry


async def reload_on(hangup: asyncio.Event, reread: Callable[[], DaemonSettings], parts: Parts) -> Never:
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
    return build_routes(new, parts.sinks)
