"""A rehearsal: everything but the run itself. What would have been run is logged, and succeeds at once."""

import asyncio
from collections.abc import Callable
from typing import Any

from dcnios_daemon.core.ports import Desk, Order, Outcome, State
from dcnios_daemon.sinks.spec import PodRun
from dcnios_daemon.telemetry.events import OrderRehearsed

_AHEAD = 1000


class DryRun(PodRun):
    """Takes the keys of any ``run`` that makes pods, so that only ``kind`` is changed to rehearse it."""


class DryRunPlan:
    """Says what it would run."""

    def __init__(self, run: DryRun, ended: "asyncio.Queue[Outcome]") -> None:
        self._run = run.model_dump(mode="json", exclude_defaults=True)
        self._ended = ended

    async def render(self, order: Order) -> Any:  # noqa: ANN401 - see core.ports.Plan
        """The route's ``run`` block and what an order adds to it."""
        return {
            "run": self._run,
            "order": order.name,
            "route": order.route,
            "key": order.key,
            "attempt": order.attempt,
            "subjects": [event.subject for event in order.events],
            "payload_bytes": len(order.payload),
        }

    async def submit(self, order: Order) -> None:
        """Log it; it has succeeded."""
        OrderRehearsed(
            route=order.route,
            order=order.name,
            subject=order.events[0].subject,
            payload_bytes=len(order.payload),
        ).emit()
        await self._ended.put(_done(order.name))


class DryRunSink:
    """Remembers nothing: what an earlier life left in flight was nothing, and has succeeded too."""

    def __init__(self, _context: object = None) -> None:
        self._ended: asyncio.Queue[Outcome] = asyncio.Queue(_AHEAD)

    def plan(self, route: str, run: DryRun) -> DryRunPlan:  # noqa: ARG002 - all routes are alike
        """See :meth:`dcnios_daemon.core.ports.Sink.plan`."""
        return DryRunPlan(run, self._ended)

    async def serve(self, desk: Desk, ready: Callable[[], None]) -> None:
        """Report successes until cancelled."""
        left = await desk.in_flight()
        await desk.retract(
            sorted({item.order for item in left if item.state is State.SUBMITTING}),
            "the daemon ended before its turn",
        )
        for order in sorted({item.order for item in left if item.state is State.RUNNING}):
            await desk.report(_done(order))
        ready()
        while True:
            await desk.report(await self._ended.get())

    async def aclose(self) -> None:
        """Nothing is held."""


def _done(order: str) -> Outcome:
    return Outcome(order=order, exit_code=0, reason="DryRun")
