"""A network that is away for longer than ended Jobs are kept, while the answer about one of them was lost."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import pytest

from dcnios_daemon.core.errors import SinkUnavailable, SinkUnreachable
from dcnios_daemon.core.ports import Failure, State
from dcnios_daemon.dispatch.route import Route
from dcnios_daemon.sinks.job.sink import JobRun, JobSink
from dcnios_daemon.sinks.spec import SinkContext
from tests.fakes.cluster import FakeCluster
from tests.unit.test_dispatcher import House
from tests.virtual import LoopClock, run

KEEP = 600.0


class Cut(FakeCluster):
    """A cluster behind a network that fails, from the first creation's answer on if it is told so."""

    def __init__(self, *, at_the_answer: bool) -> None:
        super().__init__()
        self._clock = LoopClock()
        self.is_cut = not at_the_answer
        self._at_the_answer = at_the_answer
        self.creations = 0

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
        seconds: float = 30,
    ) -> bytes:
        if self.is_cut and (method, path) == ("POST", "jobs"):
            raise SinkUnreachable("connection refused")
        if self.is_cut and self._at_the_answer:
            raise SinkUnreachable("connection refused")
        answer = await super().request(method, path, body=body, query=query, seconds=seconds)
        if (method, path) == ("POST", "jobs"):
            self.creations += 1
            if self._at_the_answer and self.creations == 1:
                self.is_cut = True
                await self.cut()
                raise SinkUnavailable("the answer was lost")
        return answer

    async def lines(self, path: str, query: Mapping[str, str], *, quiet: float) -> AsyncGenerator[bytes]:
        if self.is_cut and self._at_the_answer:
            raise SinkUnreachable("connection refused")
        async for line in super().lines(path, query, quiet=quiet):
            yield line


class Site(House):
    """A route of Jobs on that cluster."""

    def __init__(self, cluster: Cut) -> None:
        super().__init__(clock=LoopClock())
        context = SinkContext(instance="here", state=Path(), stores={}, clock=self.clock)
        self.sink = JobSink(context, session=cluster)
        made = self.sink.plan("r", JobRun(image="img", keep=KEEP))
        self.routes = {"r": Route(name="r", plan=made, sink="job", keep=KEEP)}
        self.dispatcher = self.make()

    async def serve(self) -> None:
        desk = self.dispatcher.desk("job")
        await self.sink.serve(desk, lambda: self.dispatcher.sink_is_ready("job"))


def test_what_ran_and_was_cleaned_up_in_the_cut_is_not_made_again() -> None:
    async def story() -> None:
        cluster = Cut(at_the_answer=True)
        site = Site(cluster)
        async with site.running(), asyncio.TaskGroup() as group:
            serving = group.create_task(site.serve())
            await site.give(1)
            await asyncio.sleep(30)
            [name] = cluster.objects["jobs"]
            await cluster.end(name)
            await asyncio.sleep(KEEP)
            await cluster.delete("jobs", name)
            await cluster.forget()
            cluster.is_cut = False
            await asyncio.sleep(300)
            [dead] = await site.journal.deliveries(state=State.DEAD)
            assert dead.outcome is not None
            assert dead.outcome.failure is Failure.UNKNOWN
            assert cluster.creations == 1
            serving.cancel()

    run(story())


def test_what_was_never_sent_waits_for_the_end_of_the_cut_however_long_it_is() -> None:
    async def story() -> None:
        cluster = Cut(at_the_answer=False)
        site = Site(cluster)
        async with site.running(), asyncio.TaskGroup() as group:
            serving = group.create_task(site.serve())
            await site.give(50)
            await asyncio.sleep(10 * KEEP)
            assert await site.journal.in_flight() == []
            cluster.is_cut = False
            await asyncio.sleep(60)
            assert cluster.creations == 50
            assert len(await site.journal.deliveries(state=State.RUNNING)) == 50
            serving.cancel()

    run(story())


@pytest.mark.parametrize("after", [0.1, 0.5])
def test_what_is_still_there_when_the_cut_ends_is_found(after: float) -> None:
    async def story() -> None:
        cluster = Cut(at_the_answer=True)
        site = Site(cluster)
        async with site.running(), asyncio.TaskGroup() as group:
            serving = group.create_task(site.serve())
            await site.give(1)
            await asyncio.sleep(after * KEEP)
            [name] = cluster.objects["jobs"]
            cluster.is_cut = False
            await cluster.end(name)
            await asyncio.sleep(120)
            assert len(await site.journal.deliveries(state=State.SUCCEEDED)) == 1
            assert cluster.creations == 1
            serving.cancel()

    run(story())
