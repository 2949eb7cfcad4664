"""A process sink with a desk that writes down what it is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import InFlight, Order, Outcome, State, Store
from dcnios_daemon.sinks.process import ProcessRun, ProcessSink
from dcnios_daemon.sinks.process.sink import ProcessPlan
from dcnios_daemon.sinks.spec import SinkContext
from dcnios_daemon.staging.files import FileStore


class Paper:
    """A desk (``core.ports.Desk``)."""

    def __init__(self, in_flight: Sequence[InFlight] = ()) -> None:
        self.flying = in_flight
        self.outcomes: dict[str, Outcome] = {}
        self.retracted: list[str] = []
        self._news = asyncio.Event()

    async def report(self, outcome: Outcome) -> None:
        self.outcomes[outcome.order] = outcome
        self._news.set()

    async def in_flight(self) -> Sequence[InFlight]:
        return self.flying

    async def confirm(self, orders: Sequence[str]) -> None:
        pass

    async def retract(self, orders: Sequence[str], note: str) -> None:
        self.retracted += orders

    async def outcome(self, order: str) -> Outcome:
        async with asyncio.timeout(20):
            while order not in self.outcomes:
                self._news.clear()
                await self._news.wait()
        return self.outcomes[order]


def order(subject: str = "a.txt", *, payload: bytes = b"{}", route: str = "copy", attempt: int = 1) -> Order:
    event = Event(
        key=event_key("drop", subject),
        source="drop",
        kind="directory",
        subject=subject,
        action=Action.CREATED,
        time=0.0,
    )
    return Order(route=route, attempt=attempt, events=(event,), payload=payload)


def in_flight(order: Order, state: State) -> InFlight:
    return InFlight(
        delivery=1,
        route=order.route,
        attempt=order.attempt,
        key=order.key,
        order=order.name,
        state=state,
        claimed=0.0,
    )


def make_sink(state: Path, *, stores: Mapping[str, Store] | None = None, grace: float = 5.0) -> ProcessSink:
    return ProcessSink(
        SinkContext(
            instance="here",
            state=state,
            stores={"drop": FileStore(state / "inbox")} if stores is None else stores,
            clock=SystemClock(),
            shutdown_grace=grace,
        )
    )


class Bench:
    """A sink being served."""

    def __init__(self, sink: ProcessSink, desk: Paper) -> None:
        self.sink = sink
        self.desk = desk

    def plan(self, **run: Any) -> ProcessPlan:
        return self.sink.plan("copy", ProcessRun(**run))

    async def run(self, order: Order, **run: Any) -> Outcome:
        await self.plan(**run).submit(order)
        return await self.desk.outcome(order.name)


@contextlib.asynccontextmanager
async def served(sink: ProcessSink, desk: Paper | None = None) -> AsyncIterator[Bench]:
    """Serve it; cancel it at the end, as the daemon does when it stops."""
    paper = desk or Paper()
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        service = group.create_task(sink.serve(paper, ready.set))
        await ready.wait()
        try:
            yield Bench(sink, paper)
        finally:
            service.cancel()
