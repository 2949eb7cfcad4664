"""Connections of sinks after a reload: shared by equal ``run`` blocks, closed once no plan needs them."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import test_utils, web

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.sinks.http import HttpRun, HttpSink, client
from dcnios_daemon.sinks.spec import SinkContext
from tests.fakes.desk import FakeDesk, make_order


class Receiver:
    """Takes everything, and knows who is connected."""

    def __init__(self) -> None:
        self.open: set[asyncio.BaseTransport] = set()
        application = web.Application()
        application.router.add_post("/", self._take)
        self.server = test_utils.TestServer(application)

    async def _take(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        self.open.add(request.transport)
        return web.Response()

    def run(self, **more: object) -> HttpRun:
        return HttpRun.model_validate({"url": str(self.server.make_url("/")), **more})

    async def until_open(self, count: int) -> None:
        async with asyncio.timeout(20):
            while sum(not each.is_closing() for each in self.open) != count:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _never_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_IDLE", 3600)


async def test_a_connection_is_closed_when_the_last_plan_that_needs_it_is_gone() -> None:
    receiver, desk, ready = Receiver(), FakeDesk(), asyncio.Event()
    sink = HttpSink(SinkContext(instance="here", state=Path(), stores={}, clock=SystemClock()))
    async with receiver.server, asyncio.TaskGroup() as group:
        serving = group.create_task(sink.serve(desk, ready.set))
        await ready.wait()
        plans = {name: sink.plan(name, receiver.run(headers={"x": "old"})) for name in ("one", "two")}
        for number, plan in enumerate(plans.values()):
            await plan.submit(make_order(str(number)))
        await receiver.until_open(1)
        new = await asyncio.to_thread(sink.plan, "one", receiver.run(headers={"x": "new"}))
        await new.submit(make_order("new"))
        await receiver.until_open(2)
        del plans["one"], plan
        await plans["two"].submit(make_order("again"))
        await receiver.until_open(2)
        await asyncio.to_thread(plans.clear)
        await receiver.until_open(1)
        await new.submit(make_order("last"))
        assert len(receiver.open) == 2, "over the same connection"
        serving.cancel()
        await asyncio.wait({serving})
        await sink.aclose()
        await receiver.until_open(0)
