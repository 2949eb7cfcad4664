"""What the dispatcher relies on in every kind of sink. A new kind is one rig here."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import test_utils, web

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.ports import Order, Plan, Sink, State
from dcnios_daemon.sinks.interlink import InterlinkSink
from dcnios_daemon.sinks.job.sink import JobSink
from dcnios_daemon.sinks.kafka import KafkaSink
from dcnios_daemon.sinks.kafka.record import Record
from dcnios_daemon.sinks.kafka.writer import Place, Writer
from dcnios_daemon.sinks.oscar.sink import job_name
from dcnios_daemon.sinks.registry import KINDS
from dcnios_daemon.sinks.spec import SinkContext
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_nodes import pretend_run, virtual_node
from tests.fakes.desk import FakeDesk, flying, make_order
from tests.fakes.oscar import PASSWORD, TOKEN, USER, FakeOscar

ROUTE = "gray"


class Rig:
    """A kind of sink, a ``run`` block for it, and what its neighbour does with orders."""

    run: dict[str, Any] = {}  # noqa: RUF012 - set by subclasses
    lasts = False
    """Whether an order goes on after the neighbour has taken it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.context = SinkContext(instance="here", state=folder, stores={}, clock=SystemClock())

    def sink(self) -> Sink:
        return KINDS[self.kind].build(self.context)

    def plan(self, sink: Sink) -> Plan:
        return sink.plan(ROUTE, KINDS[self.kind].settings(**self.run))

    async def open(self) -> None:
        """Start the neighbour."""

    async def close(self) -> None:
        """End it."""

    async def end(self, order: Order) -> None:
        """Let the neighbour end it well."""


class DryRunRig(Rig):
    run = {"image": "img"}  # noqa: RUF012


class ProcessRig(Rig):
    lasts = True
    run = {"script": "true"}  # noqa: RUF012


class JobRig(Rig):
    lasts = True
    run = {"image": "img"}  # noqa: RUF012

    def __init__(self, kind: str, folder: Path) -> None:
        super().__init__(kind, folder)
        self.cluster = FakeCluster()

    def sink(self) -> Sink:
        return JobSink(self.context, session=self.cluster)

    async def end(self, order: Order) -> None:
        await self.cluster.end(order.name)


class HttpRig(Rig):
    """A receiver that takes everything; each request's id is in ``ids``."""

    def __init__(self, kind: str, folder: Path) -> None:
        super().__init__(kind, folder)
        self.ids: list[str] = []
        application = web.Application()
        application.router.add_post("/", self._take)
        self._server = test_utils.TestServer(application)

    async def open(self) -> None:
        await self._server.start_server()
        self.run = {"url": str(self._server.make_url("/"))}

    async def close(self) -> None:
        await self._server.close()

    async def _take(self, request: web.Request) -> web.Response:
        self.ids.append(request.headers["ce-id"])
        return web.Response(status=202)


class OscarRig(Rig):
    """An OSCAR that shows its jobs."""

    lasts = True

    def __init__(self, kind: str, folder: Path) -> None:
        super().__init__(kind, folder)
        self.oscar = FakeOscar("gray")
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        await self._stack.enter_async_context(self.oscar.up())
        login = {"username": USER, "password": PASSWORD}
        self.run = {"endpoint": self.oscar.url, "service": "gray", "token": TOKEN, "every": 0.01, **login}

    async def close(self) -> None:
        await self._stack.aclose()

    async def end(self, order: Order) -> None:
        await self.oscar.end(job_name("gray", order.name))


class BlindOscarRig(OscarRig):
    """One that does not."""

    lasts = False

    async def open(self) -> None:
        await super().open()
        self.run = {"endpoint": self.oscar.url, "service": "gray", "token": TOKEN}


class FakeWriter(Writer):
    """Brokers that take everything. The real ones' turn is in tests/integration."""

    async def write(self, order: str, record: Record) -> Place:
        await asyncio.sleep(0)
        return Place(0, 0)


class KafkaRig(Rig):
    run = {"bootstrap": ["broker:9092"], "topic": "frames"}  # noqa: RUF012

    def sink(self) -> Sink:
        return KafkaSink(self.context, writer=FakeWriter)


class InterlinkRig(JobRig):
    run = {"image": "img", "node": "vega", "script": "true"}  # noqa: RUF012

    def sink(self) -> Sink:
        return InterlinkSink(self.context, session=self.cluster)

    async def open(self) -> None:
        await virtual_node(self.cluster, "vega")

    async def end(self, order: Order) -> None:
        await pretend_run(self.cluster, order)


RIGS = {
    "interlink": InterlinkRig,
    "dry-run": DryRunRig,
    "http": HttpRig,
    "process": ProcessRig,
    "job": JobRig,
    "kafka": KafkaRig,
    "oscar": OscarRig,
    "oscar, unseen": BlindOscarRig,
}


@pytest_asyncio.fixture(params=RIGS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    made = RIGS[request.param](request.param.partition(",")[0], tmp_path)
    await made.open()
    yield made
    await made.close()


@asynccontextmanager
async def served(sink: Sink, desk: FakeDesk) -> AsyncIterator[None]:
    ready = asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(sink.serve(desk, ready.set))
        await ready.wait()
        yield
        task.cancel()
    await sink.aclose()


def test_every_kind_of_sink_is_in_this_suite() -> None:
    assert set(KINDS) == {name.partition(",")[0] for name in RIGS}, "add a rig"


async def test_an_order_that_ends_well_is_reported(rig: Rig) -> None:
    sink, desk, order = rig.sink(), FakeDesk(), make_order()
    plan = await asyncio.to_thread(rig.plan, sink)
    async with served(sink, desk):
        await plan.submit(order)
        await rig.end(order)
        found = await desk.outcome(order.name)
    assert found.succeeded
    assert {outcome.failure for outcome in desk.reports} == {None}


async def test_an_order_submitted_twice_runs_once(rig: Rig) -> None:
    sink, desk, order = rig.sink(), FakeDesk(), make_order()
    plan = await asyncio.to_thread(rig.plan, sink)
    async with served(sink, desk):
        await plan.submit(order)
        await plan.submit(order)
        await rig.end(order)
        assert (await desk.outcome(order.name)).succeeded


async def test_whether_there_is_such_an_order_can_be_asked(rig: Rig) -> None:
    sink, desk, order = rig.sink(), FakeDesk(), make_order()
    plan = await asyncio.to_thread(rig.plan, sink)
    async with served(sink, desk):
        assert not await plan.exists(order)
        await plan.submit(order)
        assert await plan.exists(order) == rig.lasts
        await rig.end(order)
        await desk.outcome(order.name)


async def test_what_would_be_submitted_can_be_printed(rig: Rig) -> None:
    sink = rig.sink()
    plan = await asyncio.to_thread(rig.plan, sink)
    order = make_order(payload=b"\xff\x00")
    assert order.name in json.dumps(await plan.render(order))
    await sink.aclose()


async def test_what_was_claimed_in_an_earlier_life_and_never_made_is_given_back(rig: Rig) -> None:
    sink, order = rig.sink(), make_order()
    desk = FakeDesk(flying(order, State.SUBMITTING, claimed=SystemClock().now() - 1))
    await asyncio.to_thread(rig.plan, sink)
    async with served(sink, desk):
        assert desk.retracted == [order.name]
        assert desk.reports == []


async def test_what_was_running_in_an_earlier_life_is_accounted_for(rig: Rig) -> None:
    """There is nothing of it any more: its slot must not stay taken for ever."""
    sink, order = rig.sink(), make_order()
    desk = FakeDesk(flying(order, claimed=SystemClock().now() - 1))
    await asyncio.to_thread(rig.plan, sink)
    async with served(sink, desk):
        assert desk.retracted == []
        assert [outcome.order for outcome in desk.reports] == [order.name]


async def test_a_sink_that_was_never_served_closes(rig: Rig) -> None:
    await rig.sink().aclose()
