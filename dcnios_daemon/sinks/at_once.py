"""For sinks whose orders are over once the neighbour has taken them: there is nothing to watch.

An order whose submission had an answer has succeeded, whatever becomes of the daemon. One that was claimed
and not known to be answered when an earlier life ended is sent again; its key tells the neighbour that it is
the same.
"""

import asyncio
from collections.abc import Callable, Sequence

from dcnios_daemon.core.ports import Desk, InFlight, Outcome, State

_AHEAD = 1000
_REPORTERS = 32
"""Reports at the same time: they share the journal's commits."""


class Ended:
    """Outcomes on their way to the desk."""

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self._outcomes: asyncio.Queue[Outcome] = asyncio.Queue(_AHEAD)

    async def add(self, outcome: Outcome) -> None:
        """An order has ended; waits while too many others are being reported."""
        await self._outcomes.put(outcome)

    async def serve(self, desk: Desk, ready: Callable[[], None]) -> None:
        """See :meth:`dcnios_daemon.core.ports.Sink.serve`."""
        await self.settle(desk, await desk.in_flight())
        ready()
        await self.report(desk)

    async def settle(self, desk: Desk, left: Sequence[InFlight]) -> None:
        """Say what became of orders that an earlier life left in flight."""
        begun = {item.order for item in left if item.state is State.RUNNING}
        never = {item.order for item in left} - begun
        await desk.retract(sorted(never), "the daemon ended before it was answered")
        for order in sorted(begun):
            await desk.report(Outcome(order=order, exit_code=0, reason=self._reason))

    async def report(self, desk: Desk) -> None:
        """Report what ends, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(_REPORTERS):
                group.create_task(self._report(desk), name=f"report-{number}")

    async def _report(self, desk: Desk) -> None:
        while True:
            await desk.report(await self._outcomes.get())
