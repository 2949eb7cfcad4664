"""A rehearsal: everything but the run itself. What would have been run is logged, and succeeds at once."""

from collections.abc import Callable
from typing import Any

from dcnios_daemon.core.ports import Desk, Order, Outcome
from dcnios_daemon.sinks.at_once import Ended
from dcnios_daemon.sinks.interlink.settings import HpcRun
from dcnios_daemon.telemetry.events import OrderRehearsed

_REASON = "DryRun"


class DryRun(HpcRun):
    """Takes the keys of any ``run`` that makes pods, so that only ``kind`` is changed to rehearse it."""


class DryRunPlan:
    """Says what it would run."""

    def __init__(self, run: DryRun, ended: Ended) -> None:
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
        await self._ended.add(Outcome(order=order.name, exit_code=0, reason=_REASON))

    async def exists(self, order: Order) -> bool:  # noqa: ARG002 - of none is anything left
        """See :class:`~dcnios_daemon.core.ports.Plan`."""
        return False


class DryRunSink:
    """Remembers nothing: what an earlier life left in flight was nothing, and has succeeded too."""

    def __init__(self, _context: object = None) -> None:
        self._ended = Ended(_REASON)

    def plan(self, route: str, run: DryRun) -> DryRunPlan:  # noqa: ARG002 - all routes are alike
        """See :meth:`dcnios_daemon.core.ports.Sink.plan`."""
        return DryRunPlan(run, self._ended)

    async def serve(self, desk: Desk, ready: Callable[[], None]) -> None:
        """Report successes until cancelled."""
        await self._ended.serve(desk, ready)

    async def aclose(self) -> None:
        """Nothing is held."""
