"""A route with two ways on a real control plane: its HPC is not there, then it is."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Admission, Sink, State
from dcnios_daemon.dispatch.dispatcher import Dispatcher
from dcnios_daemon.dispatch.limits import Limits
from dcnios_daemon.dispatch.route import Fallback, Route
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.login import KubernetesSettings
from dcnios_daemon.kubernetes.marks import ATTEMPT
from dcnios_daemon.sinks.interlink import InterlinkRun, InterlinkSink, admission, judge
from dcnios_daemon.sinks.interlink.wrapper import wrapper
from dcnios_daemon.sinks.job import JobRun, JobSink
from dcnios_daemon.sinks.spec import SinkContext
from tests.daemon import eventually
from tests.fakes.hpc import Fate, Hpc
from tests.fakes.memory_journal import MemoryJournal
from tests.fakes.virtual_node import PretendNode, make_pki
from tests.servers.access import ClusterAccess

AFTER = 2.0
KEYS = {"image": "img", "script": "true", "resources": {"cpu": "1", "memory": "1Gi", "gpu": 1}}


class Fortunate(Hpc):
    """Where all goes well."""

    def fate(self, order: str) -> Fate:
        return Fate.DONE


class House:
    """A dispatcher with both sinks, and a node for each."""

    def __init__(self, access: ClusterAccess, namespace: str) -> None:
        self.settings = KubernetesSettings(kubeconfig=access.kubeconfig, namespace=namespace)
        self.hpc = Fortunate(0)
        self.journal = MemoryJournal(clock=SystemClock())
        self.far, self.near = (f"vk-{secrets.token_hex(4)}" for _ in range(2))
        context = SinkContext(
            instance=namespace, state=Path(), stores={}, clock=SystemClock(), kubernetes=self.settings
        )
        self.interlink, self.job = InterlinkSink(context), JobSink(context)
        self.sinks: dict[str, Sink] = {"interlink": self.interlink, "job": self.job}
        self.given = 0

    def routes(self) -> dict[str, Route]:
        there = InterlinkRun.model_validate({**KEYS, "node": self.far})
        here = JobRun.model_validate({**KEYS, "pod": {"nodeName": self.near}, "labels": {ATTEMPT: "1"}})
        own = Route(name="train", plan=self.interlink.plan("train", there), sink="interlink")
        other = replace(own, plan=self.job.plan("train", here), sink="job", is_fallback=True)
        return {"train": replace(own, fallback=Fallback(route=other, after=AFTER))}

    async def give(self, count: int) -> None:
        for number in range(self.given, self.given + count):
            event = Event(
                key=event_key("s", number),
                source="s",
                kind="toy",
                subject=f"x/{number}",
                action=Action.CREATED,
                time=1.0,
                data=b"{}",
            )
            await self.journal.append("s", [Admission(event, ("train",))], None)
        self.given += count

    async def all_succeeded(self) -> bool:
        counts = (await self.journal.stats()).deliveries.get("train", {})
        return counts.get("succeeded", 0) == self.given

    async def ran_on(self) -> list[str]:
        done = await self.journal.deliveries(state=State.SUCCEEDED)
        return [item.outcome.node for item in reversed(done) if item.outcome is not None]


@asynccontextmanager
async def running(
    house: House, folder: Path
) -> AsyncIterator[tuple[Dispatcher, PretendNode, asyncio.TaskGroup]]:
    """All but the HPC's node, which is not there yet."""
    session, pki = ClusterSession(house.settings, SystemClock()), await make_pki(folder)
    near, far = (
        PretendNode(session, name, hpc=house.hpc, gpus=8, pki=pki) for name in (house.near, house.far)
    )
    await asyncio.to_thread(wrapper)
    routes = await asyncio.to_thread(house.routes)
    await house.journal.open()
    dispatcher = Dispatcher(journal=house.journal, clock=SystemClock(), routes=routes, limits=Limits())
    await dispatcher.restore()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(near.run())]
            await asyncio.wait_for(near.registered.wait(), 60)
            for kind, sink in house.sinks.items():
                ready = asyncio.Event()
                tasks.append(group.create_task(sink.serve(dispatcher.desk(kind), ready.set)))
                await asyncio.wait_for(ready.wait(), 60)
                dispatcher.sink_is_ready(kind)
            tasks.append(group.create_task(dispatcher.run()))
            async with asyncio.TaskGroup() as later:
                yield dispatcher, far, later
            for task in tasks:
                task.cancel()
    finally:
        for sink in house.sinks.values():
            await sink.aclose()
        await session.aclose()
        await house.journal.aclose()


async def test_a_route_goes_to_the_cluster_while_its_hpc_is_away(
    kubernetes: ClusterAccess, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "LOOK_AGAIN", 0.5)
    monkeypatch.setattr(admission, "ASK_AGAIN", 0.3)
    house = House(kubernetes, namespace)
    async with running(house, tmp_path) as (dispatcher, far, later):
        await house.give(3)
        await eventually(house.all_succeeded, "the end of those that fell back", within=120)
        assert dispatcher.fallen_back().keys() == {"train"}
        assert set(await house.ran_on()) == {house.near}
        there = later.create_task(far.run())
        await asyncio.wait_for(far.registered.wait(), 60)

        async def recovered() -> bool:
            if await house.all_succeeded():
                await house.give(1)
            return not dispatcher.fallen_back()

        await eventually(recovered, "the HPC's first order", within=120)
        await eventually(house.all_succeeded, "the end of all", within=120)
        await house.give(1)
        await eventually(house.all_succeeded, "the end of one more", within=120)
        assert (await house.ran_on())[-1] == house.far
        there.cancel()
    assert house.hpc.wrong == []
    assert set(house.hpc.submitted.values()) == {1}
    assert len(house.hpc.submitted) == house.given
