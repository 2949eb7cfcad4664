"""What commands need of the parts without a life of the daemon: the journal, and one rendered order."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from dcnios_daemon.app.wiring import build_route, build_sinks, build_stores, make_journal
from dcnios_daemon.config.model import DaemonSettings, route_of
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.payload import build_payload
from dcnios_daemon.core.ports import Journal, Order


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


async def render(settings: DaemonSettings, route: str, event: Event, *, fallback: bool = False) -> Any:  # noqa: ANN401 - a sink's own object
    """The very object that the route would submit for the event, or its fallback.

    Raises:
        OrderRefused: It could never be run.
    """
    stores = build_stores(settings)
    try:
        wanted = settings.sendings[route]
        kinds = {run.kind for path, run in settings.runs.items() if route_of(path) == route}
        built = build_route(route, wanted, build_sinks(kinds, settings, stores))
        way = built.fallback.route if fallback and built.fallback else built
        payload = build_payload((event,), wanted.payload)
        order = Order(route=route, attempt=1, events=(event,), payload=payload, form=wanted.payload)
        return await way.plan.render(order)
    finally:
        for store in stores.values():
            await store.aclose()
