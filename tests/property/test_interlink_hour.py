"""A virtual node is lost for an hour, with jobs on it and more to come. Time is virtual.

Dispatcher and sink are the real ones, the cluster is in memory. The jobs on the HPC go on all the while; what
the cluster shows of them is what it showed last, and nobody gives their logs.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Admission, Failure, Order, State
from dcnios_daemon.dispatch.dispatcher import Dispatcher
from dcnios_daemon.dispatch.limits import Limits
from dcnios_daemon.dispatch.route import Route
from dcnios_daemon.kubernetes.cluster import REQUEST_SECONDS
from dcnios_daemon.kubernetes.marks import ATTEMPT, KEY
from dcnios_daemon.sinks.interlink import InterlinkRun, InterlinkSink
from dcnios_daemon.sinks.interlink.wrapper import wrapper
from dcnios_daemon.sinks.spec import SinkContext
from tests.fakes.cluster import FakeCluster, refusal
from tests.fakes.cluster_nodes import evidence, virtual_node, virtual_pod
from tests.fakes.memory_journal import MemoryJournal
from tests.virtual import LoopClock, run

AWAY_FROM, AWAY_FOR = 100.0, 3600.0
RUNS = (5.0, 50.0, 99.0, 101.0, 300.0, 3000.0, 5000.0)
"""Seconds that jobs run: some end before the node goes, while it is away, and after it is back."""
SEEN_TO_END = 101.0
"""Of these the end is told just as the node goes, but nobody gives their logs any more."""
EVENTS = 30


class Site(FakeCluster):
    """A cluster with one virtual node, which is away for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.here = asyncio.Event()
        self.here.set()
        self.submitted: Counter[str] = Counter()
        """Key to how many jobs of it the HPC was ever given."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
        seconds: float = REQUEST_SECONDS,
    ) -> bytes:
        if path.endswith("/log") and not self.here.is_set():
            raise refusal(502)
        return await super().request(method, path, body=body, query=query, seconds=seconds)

    async def live(self, order: Order, seconds: float) -> None:
        """What becomes of an order's pod."""
        self.submitted[order.key] += 1
        await virtual_pod(self, order)
        await asyncio.sleep(1)
        await self.here.wait()
        await virtual_pod(self, order, job_id="17")
        await asyncio.sleep(1)
        await self.here.wait()
        name = await virtual_pod(self, order, job_id="17", phase="Running")
        await asyncio.sleep(seconds)
        self.logs[name] = evidence(order)
        if seconds != SEEN_TO_END:
            await self.here.wait()
        await virtual_pod(self, order, job_id="17", phase="Succeeded")
        await self.end(order.name)

    async def control(self, group: asyncio.TaskGroup) -> None:
        """Give each Job that is made its pod."""
        known: set[str] = set()
        while True:
            for name, job in list(self.objects["jobs"].items()):
                if name not in known:
                    seconds = RUNS[len(known) % len(RUNS)]
                    known.add(name)
                    group.create_task(self.live(_order(job["metadata"]["labels"]), seconds))
            async with self._changed:
                await self._changed.wait()


def _order(labels: Mapping[str, str]) -> Order:
    key = labels[KEY]
    event = EVENTS_BY_KEY[key]
    return Order(route="train", attempt=int(labels[ATTEMPT]), events=(event,), payload=event.data)


EVENTS_BY_KEY = {
    event_key("s", number): Event(
        key=event_key("s", number),
        source="s",
        kind="toy",
        subject=f"x/{number}",
        action=Action.CREATED,
        time=1.0,
        data=b"{}",
    )
    for number in range(EVENTS)
}


async def _play() -> None:
    clock, cluster = LoopClock(), Site()
    context = SinkContext(instance="i", state=Path(), stores={}, clock=clock)
    sink = InterlinkSink(context, session=cluster)
    settings = {"node": "vega", "image": "img", "script": "true", "deadline": "2d", "pods_per_node": 12}
    plan = sink.plan("train", InterlinkRun.model_validate(settings))
    on = frozenset({Failure.INFRASTRUCTURE, Failure.UNKNOWN, Failure.SUSPICIOUS})
    route = Route(name="train", plan=plan, sink="interlink", neighbour="vega", retry=RetryPolicy(on=on))
    journal = MemoryJournal(clock=clock)
    await journal.open()
    events = list(EVENTS_BY_KEY.values())
    await journal.append("s", [Admission(event, ("train",)) for event in events[: EVENTS // 2]], None)
    dispatcher = Dispatcher(journal=journal, clock=clock, routes={"train": route}, limits=Limits())
    await dispatcher.restore()
    await virtual_node(cluster, "vega")
    async with asyncio.timeout(100_000), asyncio.TaskGroup() as group:
        ready = asyncio.Event()
        tasks = [
            group.create_task(sink.serve(dispatcher.desk("interlink"), ready.set)),
            group.create_task(cluster.control(group)),
            group.create_task(dispatcher.run()),
        ]
        await ready.wait()
        dispatcher.sink_is_ready("interlink")
        await asyncio.sleep(AWAY_FROM)
        cluster.here.clear()
        await virtual_node(cluster, "vega", ready=False)
        await asyncio.sleep(60)
        told, made = await _told(journal), sum(cluster.submitted.values())
        assert told
        assert made > told
        await journal.append("s", [Admission(event, ("train",)) for event in events[EVENTS // 2 :]], None)
        await asyncio.sleep(AWAY_FOR - 60)
        assert (await _told(journal), sum(cluster.submitted.values())) == (told, made)
        cluster.here.set()
        await virtual_node(cluster, "vega")
        while await _told(journal) < EVENTS:  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(10)
        for task in tasks:
            task.cancel()
    assert set(cluster.submitted.values()) == {1}
    assert len(cluster.submitted) == EVENTS
    done = await journal.deliveries(state=State.SUCCEEDED)
    assert [item.attempt for item in done] == [1] * EVENTS


async def _told(journal: MemoryJournal) -> int:
    """How many have ended, however."""
    counts = (await journal.stats()).deliveries["train"]
    assert not counts.get("dead")
    return counts.get("succeeded", 0)


def test_a_node_that_is_lost_for_an_hour_leads_to_no_duplicate_and_no_failure() -> None:
    wrapper()
    run(_play())
