"""The interlink sink against a real control plane, on pretend virtual nodes that say what real ones said."""

import asyncio
import os
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import SinkBusy, SinkUnavailable
from dcnios_daemon.core.ports import Failure, Outcome
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.login import KubernetesSettings
from dcnios_daemon.sinks.interlink import InterlinkRun, InterlinkSink, judge
from dcnios_daemon.sinks.interlink.check import check
from dcnios_daemon.sinks.interlink.sink import InterlinkPlan
from dcnios_daemon.sinks.interlink.wrapper import wrapper
from dcnios_daemon.sinks.spec import SinkContext
from tests.daemon import eventually
from tests.fakes.desk import FakeDesk, make_order
from tests.fakes.hpc import Fate, Hpc
from tests.fakes.virtual_node import PretendNode, make_pki
from tests.servers.access import ClusterAccess

ATTEMPTS = 4


class Site:
    """Some virtual nodes, and a sink that sends to them."""

    def __init__(self, access: ClusterAccess, namespace: str) -> None:
        self.settings = KubernetesSettings(kubeconfig=access.kubeconfig, namespace=namespace)
        self.hpc = Hpc(random.SystemRandom().randrange(10**6))
        self.desk = FakeDesk()
        self.nodes: list[PretendNode] = []
        context = SinkContext(
            instance=namespace, state=Path(), stores={}, clock=SystemClock(), kubernetes=self.settings
        )
        self.sink = InterlinkSink(context)

    def run(self, **more: object) -> InterlinkRun:
        labels = {"test/pool": f"pool-{self.hpc.seed}"}
        keys = {"image": "img", "script": "true", "node_labels": labels, "resources": {"gpu": 1}, **more}
        return InterlinkRun.model_validate(keys)

    async def plan(self, run: InterlinkRun) -> InterlinkPlan:
        return await asyncio.to_thread(self.sink.plan, "train", run)

    async def is_busy(self) -> bool:
        return any(node.orders for node in self.nodes)

    async def check(self, run: InterlinkRun) -> list[str]:
        return list(await check(kubernetes=self.settings, any_payload=False, runs={"routes.train.run": run}))

    @asynccontextmanager
    async def served(self, folder: Path, *, nodes: int, gpus: int = 8) -> AsyncIterator[None]:
        session, ready = ClusterSession(self.settings, SystemClock()), asyncio.Event()
        pki = await make_pki(folder)
        await asyncio.to_thread(wrapper)
        names = [f"vk-{secrets.token_hex(4)}" for _ in range(nodes)]
        self.nodes = [PretendNode(session, name, hpc=self.hpc, gpus=gpus, pki=pki) for name in names]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(node.run()) for node in self.nodes]
                for node in self.nodes:
                    await asyncio.wait_for(node.registered.wait(), 60)
                tasks.append(group.create_task(self.sink.serve(self.desk, ready.set)))
                await asyncio.wait_for(ready.wait(), 60)
                yield
                for task in tasks:
                    task.cancel()
        finally:
            await self.sink.aclose()
            await session.aclose()

    async def deliver(self, plan: InterlinkPlan, name: str) -> list[tuple[str, Outcome]]:
        """All attempts at one delivery, as the dispatcher would make them."""
        tried: list[tuple[str, Outcome]] = []
        while len(tried) < ATTEMPTS:
            order = make_order(name, route="train", attempt=len(tried) + 1)
            while True:
                try:
                    await plan.submit(order)
                except (SinkBusy, SinkUnavailable):
                    await asyncio.sleep(0.3)
                else:
                    break
            tried.append((order.name, await self.desk.outcome(order.name, seconds=400)))
            if tried[-1][1].failure is not Failure.INFRASTRUCTURE:
                break
        return tried

    def judge(self, tried: list[tuple[str, Outcome]]) -> None:
        """Each attempt ended as what really became of it says."""
        for order, outcome in tried:
            fate = self.hpc.fate(order)
            assert outcome.failure is fate.means, f"{order}: {fate}: {outcome}"
            assert bool(self.hpc.submitted[order]) == (fate is not Fate.REFUSED), f"{order}: {fate}"


@pytest.fixture
def site(kubernetes: ClusterAccess, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(judge, "LOOK_AGAIN", 0.5)
    return Site(kubernetes, namespace)


async def test_deliveries_end_as_what_became_of_them_says(site: Site, tmp_path: Path) -> None:
    """One of three nodes is away for a while, with jobs on it, and another's virtual kubelet is restarted.

    None is repeated, none is given up, and no node ever has two pods to submit.
    """
    count = int(os.environ.get("DCNIOS_HPC_DELIVERIES", "30"))
    async with site.served(tmp_path, nodes=3):
        run = site.run()
        plan = await site.plan(run)
        assert await site.check(run) == []
        async with asyncio.TaskGroup() as group:
            deliveries = [group.create_task(site.deliver(plan, f"d{number}")) for number in range(count)]
            await asyncio.wait(deliveries[: count // 3], return_when=asyncio.FIRST_COMPLETED)
            await eventually(site.is_busy, "a job that runs")
            _, other, away = sorted(site.nodes, key=lambda node: len(node.orders))
            frozen = away.orders
            await away.leave()
            await other.restart()
            await asyncio.wait(deliveries, timeout=8)
            assert not frozen & {outcome.order for outcome in site.desk.reports}
            await away.come_back()
            await other.restart()
    for delivery in deliveries:
        site.judge(delivery.result())
    assert site.hpc.wrong == []
    assert [node.peak for node in site.nodes] == [1, 1, 1]


async def test_what_keeps_a_route_waiting_is_said_before_it_waits(site: Site, tmp_path: Path) -> None:
    async with site.served(tmp_path, nodes=2):
        assert await site.check(site.run(resources={"gpu": 8})) == []
        too_large = await site.check(site.run(resources={"gpu": 9}))
        assert len(too_large) == len(site.nodes)
        assert "has 8 GPUs, and the run takes 9: routes.train.run waits" in too_large[0]
        await site.nodes[0].leave()
        assert await site.check(site.run()) == []
        await site.nodes[1].leave()
        assert all("is not ready" in words for words in await site.check(site.run()))
        nowhere = site.run(node="nowhere", node_labels={})
        [said] = await site.check(nowhere)
        assert said.startswith("there is no virtual node nowhere: correct routes.train.run.node")
