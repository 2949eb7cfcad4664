"""The object that proves a success where no log does, and a store that is away while it is wanted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from dcnios_daemon.core.ports import Download, Failure, Order, Outcome, State, Upload
from dcnios_daemon.sinks.interlink import InterlinkRun, InterlinkSink, judge
from dcnios_daemon.sinks.interlink.wrapper import wrapper
from dcnios_daemon.sinks.spec import SinkContext
from tests.clocks import ManualClock
from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_nodes import evidence, virtual_node, virtual_pod
from tests.fakes.desk import FakeDesk, flying, make_order
from tests.integration.staging_rig import scripted

A = make_order("a")
MARKER = {"to": "s3://outbox/done/", "using": "outbox"}


class Shelf:
    """A store that is asked over HTTP what it has, and does not always answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.has: set[str] = set()
        self.status: int | None = None
        """What it answers instead."""
        self.asked = 0
        self._changed = asyncio.Condition()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        async with self._changed:
            self.asked += 1
            self._changed.notify_all()
        return web.Response(status=self.status or (200 if request.path in self.has else 404))

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.asked >= times)

    async def download(self, subject: str, *, valid_for: float) -> Download:
        assert valid_for > 0
        return Download(url=f"{self.url}/{subject}")

    async def upload(self, target: str, *, valid_for: float) -> Upload:
        assert valid_for > 0
        return Upload(method="POST", url=self.url, prefix=target)

    async def aclose(self) -> None: ...


class Site:
    """A sink with a store, beside a cluster in memory."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.cluster = FakeCluster()
        self.desk = FakeDesk()
        self.clock = ManualClock()
        context = SinkContext(instance="here", state=Path(), stores={"outbox": shelf}, clock=self.clock)
        self.sink = InterlinkSink(context, session=self.cluster)
        run = InterlinkRun(node="vega", image="img", script="true", success_marker=MARKER)
        self.plan = self.sink.plan("gray", run)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        ready = asyncio.Event()
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            task = group.create_task(self.sink.serve(self.desk, ready.set))
            await ready.wait()
            yield
            task.cancel()
        await self.sink.aclose()


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(judge, "LOOK_AGAIN", 0)
    await asyncio.to_thread(wrapper)
    shelf = Shelf("")

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return await shelf.answer(request)

    async with scripted(answer) as shelf.url:
        yield Site(shelf)


async def end(site: Site, order: Order, *, log: bytes = b"") -> None:
    """Its pod is said to have succeeded."""
    await virtual_node(site.cluster, "vega")
    await site.plan.submit(order)
    name = await virtual_pod(site.cluster, order, job_id="17")
    site.cluster.logs[name] = log
    await virtual_pod(site.cluster, order, job_id="17", phase="Succeeded")
    await site.cluster.end(order.name)


def told(outcome: Outcome) -> tuple[Failure | None, str]:
    return outcome.failure, outcome.reason


async def test_a_marker_proves_what_the_log_does_not(site: Site) -> None:
    site.shelf.has.add(f"/outbox/done/{A.name}")
    async with site.served():
        await end(site, A)
        assert told(await site.desk.outcome(A.name)) == (None, "SuccessMarker")


async def test_another_attempts_marker_proves_nothing(site: Site) -> None:
    site.shelf.has.add(f"/outbox/done/{make_order('a', attempt=2).name}")
    async with site.served():
        await end(site, A)
        assert told(await site.desk.outcome(A.name)) == (Failure.SUSPICIOUS, "NoEvidence")


@pytest.mark.parametrize("status", [503, 403, 500])
async def test_while_the_store_cannot_say_nothing_is_decided(site: Site, status: int) -> None:
    site.shelf.status = status
    async with site.served():
        await end(site, A)
        await site.shelf.until_asked(3 * judge.LOOKS)
        assert site.desk.reports == []
        site.shelf.has.add(f"/outbox/done/{A.name}")
        site.shelf.status = None
        assert told(await site.desk.outcome(A.name)) == (None, "SuccessMarker")
    assert list(site.cluster.objects["jobs"]) == [A.name]


async def test_the_wrappers_word_needs_no_marker(site: Site) -> None:
    site.shelf.status = 503
    async with site.served():
        await end(site, A, log=evidence(A, "run", 7))
        assert told(await site.desk.outcome(A.name)) == (Failure.SCRIPT, "Error")
    assert site.shelf.asked == 0


@pytest.mark.parametrize("is_there", [True, False])
async def test_of_a_job_that_is_gone_the_marker_tells(site: Site, is_there: bool) -> None:
    site.desk.flying = [flying(A, State.RUNNING)]
    if is_there:
        site.shelf.has.add(f"/outbox/done/{A.name}")
    async with site.served():
        found = await site.desk.outcome(A.name)
    assert told(found) == ((None, "SuccessMarker") if is_there else (Failure.UNKNOWN, "Gone"))


async def test_a_job_that_is_gone_waits_for_a_store_that_is_away(site: Site) -> None:
    site.desk.flying = [flying(A, State.RUNNING)]
    site.shelf.status = 503
    async with site.served():
        await site.shelf.until_asked(5)
        assert site.desk.reports == []
        site.shelf.status = None
        assert told(await site.desk.outcome(A.name)) == (Failure.UNKNOWN, "Gone")


async def test_the_wrapper_is_told_where_to_leave_it(site: Site) -> None:
    with_one = await site.plan.render(A)
    run = InterlinkRun(node="vega", image="img", script="true")
    without = await site.sink.plan("gray", run).render(A)
    assert _order(with_one) != _order(without)


def _order(job: dict[str, Any]) -> str:
    env = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return next(str(entry["value"]) for entry in env if entry["name"] == "DCNIOS_ORDER")


@pytest.mark.parametrize("to", ["file:done/", "s3://", "s3://b/{{ event.stem }}/", "/done"])
def test_a_place_that_no_store_has_is_refused(to: str) -> None:
    marker = {"to": to, "using": "outbox"}
    with pytest.raises(ValidationError, match=r"success_marker\.to"):
        InterlinkRun.model_validate(
            {"node": "vega", "image": "img", "script": "true", "success_marker": marker}
        )
