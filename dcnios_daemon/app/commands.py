"""What commands need of the parts without a life of the daemon: the journal, and one rendered order."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from dcnios_daemon.app.wiring import build_route, build_sinks, build_stores, make_journal
from dcnios_daemon.config.model import DaemonSettings
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
