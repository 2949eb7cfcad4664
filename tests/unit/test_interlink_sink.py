"""One order after the other to a node, none to one that is away, and ends that are believed by evidence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkUnavailable
from dcnios_daemon.core.ports import Failure, Order, State
from dcnios_daemon.sinks.interlink import InterlinkRun, InterlinkSink, admission, doubt, judge
from dcnios_daemon.sinks.interlink.sink import InterlinkPlan
from dcnios_daemon.sinks.interlink.wrapper import wrapper
from dcnios_daemon.sinks.spec import SinkContext
from dcnios_daemon.telemetry.metrics import REGISTRY
from tests.clocks import ManualClock
from tests.fakes.cluster import FakeCluster, refusal
from tests.fakes.cluster_nodes import evidence, pretend_run, virtual_node, virtual_pod
from tests.fakes.desk import FakeDesk, flying, make_order

A, B, C, D = (make_order(name) for name in "abcd")


class Site:
    """A sink beside a cluster in memory."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.desk = FakeDesk()
        self.clock = ManualClock()
        context = SinkContext(instance="here", state=Path(), stores={}, clock=self.clock)
        self.sink = InterlinkSink(context, session=self.cluster)

    def plan(self, **run: Any) -> InterlinkPlan:
        place = {} if {"node_labels", "queue"} & run.keys() else {"node": "vega"}
        return self.sink.plan("gray", InterlinkRun(**{"image": "img", "script": "true", **place, **run}))

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        ready = asyncio.Event()
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            task = group.create_task(self.sink.serve(self.desk, ready.set))
            await ready.wait()
            yield
            task.cancel()
        await self.sink.aclose()

    @property
    def made(self) -> set[str]:
        return set(self.cluster.objects["jobs"])

    def node_of(self, order: Order) -> str:
        spec = self.cluster.objects["jobs"][order.name]["spec"]["template"]["spec"]
        name: str = spec["nodeSelector"]["kubernetes.io/hostname"]
        return name


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "LOOK_AGAIN", 0)
    wrapper()  # the daemon reads it at its start, off the loop


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE", 0.05)


async def turns() -> None:
    """Let all tasks do what they can do now."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_the_next_order_goes_when_the_last_one_has_its_job_id(site: Site) -> None:
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served(), asyncio.TaskGroup() as group:
        await plan.submit(A)
        following = group.create_task(plan.submit(B))
        await turns()
        assert site.made == {A.name}
        await virtual_pod(site.cluster, A)
        await turns()
        assert site.made == {A.name}
        await virtual_pod(site.cluster, A, job_id="17")
        await following
        assert site.made == {A.name, B.name}


@pytest.mark.parametrize("end", ["refused", "deleted", "job ended"])
async def test_the_next_order_goes_when_the_last_one_will_never_have_one(site: Site, end: str) -> None:
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served(), asyncio.TaskGroup() as group:
        await plan.submit(A)
        following = group.create_task(plan.submit(B))
        await turns()
        if end == "job ended":
            await site.cluster.end(A.name, "Failed", "DeadlineExceeded")
        elif end == "refused":
            await not_taken(site, A, "sbatch: error: Batch job submission failed: Invalid partition")
        else:
            name = await virtual_pod(site.cluster, A)
            known = site.cluster.objects["pods"][name]["metadata"]
            await site.cluster.change(
                "pods", name, metadata={**known, "deletionTimestamp": "2026-11-24T00:00:00Z"}
            )
            await site.cluster.delete("pods", name)
        await following


async def not_taken(site: Site, order: Order, words: str) -> None:
    """The virtual kubelet did not get its pod over."""
    await virtual_pod(site.cluster, order)
    await virtual_pod(site.cluster, order, phase="Failed", reason="ProviderFailed", message=words)
    await site.cluster.end(order.name, "Failed", "BackoffLimitExceeded")


@pytest.mark.usefixtures("impatient")
async def test_a_node_that_did_not_take_a_pod_is_not_sent_the_whole_queue(site: Site) -> None:
    """Its plugin went away a moment ago, and until the next ping it shows itself ready."""
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served():
        for order, pause in ((A, doubt.FIRST), (B, 2 * doubt.FIRST)):
            await plan.submit(order)
            await not_taken(site, order, "error creating pod (HTTP 500): ")
            assert (await site.desk.outcome(order.name)).failure is Failure.UNKNOWN
            with pytest.raises(SinkBusy, match="did not take its last pod"):
                await plan.submit(C)
            site.clock.pass_time(pause - 1)
            with pytest.raises(SinkBusy, match="did not take its last pod"):
                await plan.submit(C)
            site.clock.pass_time(1)
        await plan.submit(C)
        await virtual_pod(site.cluster, C, job_id="17")
        await plan.submit(D)
        await not_taken(site, D, "error creating pod (HTTP 500): ")
        await site.desk.outcome(D.name)
        site.clock.pass_time(doubt.FIRST)
        await plan.submit(make_order("e"))


async def test_nodes_do_not_wait_for_each_other(site: Site) -> None:
    for name in ("vega", "leonardo"):
        await virtual_node(site.cluster, name)
    here, there = site.plan(), site.plan(node="leonardo")
    async with site.served():
        await here.submit(A)
        await there.submit(B)
    assert (site.node_of(A), site.node_of(B)) == ("vega", "leonardo")


@pytest.mark.usefixtures("impatient")
async def test_a_node_that_is_slow_to_take_one_lets_the_next_be_tried_later(site: Site) -> None:
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served():
        await plan.submit(A)
        with pytest.raises(SinkBusy, match="not yet given its last pod a JobID"):
            await plan.submit(B)
        assert site.made == {A.name}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("has_pod", [True, False])
async def test_a_pod_that_never_gets_a_job_id_does_not_keep_the_others_back_for_ever(
    site: Site, has_pod: bool
) -> None:
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served():
        await plan.submit(A)
        if has_pod:
            await virtual_pod(site.cluster, A)
            await turns()
        site.clock.pass_time(admission.STUCK_AFTER - 1)
        with pytest.raises(SinkBusy):
            await plan.submit(B)
        site.clock.pass_time(1)
        await plan.submit(B)


@pytest.mark.usefixtures("impatient")
async def test_a_pod_of_an_earlier_life_keeps_its_turn(site: Site) -> None:
    await virtual_node(site.cluster, "vega")
    first = Site()
    first.cluster = site.cluster
    first.sink = InterlinkSink(
        SinkContext(instance="here", state=Path(), stores={}, clock=site.clock), session=site.cluster
    )
    plan = first.plan()
    async with first.served():
        await plan.submit(A)
        await virtual_pod(site.cluster, A)
    site.desk.flying = [flying(A, State.RUNNING)]
    plan = site.plan()
    async with site.served():
        with pytest.raises(SinkBusy, match="JobID"):
            await plan.submit(B)
        await virtual_pod(site.cluster, A, job_id="17")
        await plan.submit(B)


async def test_a_lost_answer_keeps_the_place_until_the_pod_is_seen(site: Site) -> None:
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served(), asyncio.TaskGroup() as group:
        site.cluster.lose_answer_to.add(("POST", "jobs"))
        with pytest.raises(SinkUnavailable):
            await plan.submit(A)
        following = group.create_task(plan.submit(B))
        await turns()
        await plan.submit(A)
        await turns()
        assert site.made == {A.name}
        await virtual_pod(site.cluster, A, job_id="17")
        await following


async def test_one_that_was_there_already_takes_no_place(site: Site) -> None:
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served():
        await plan.submit(A)
        await virtual_pod(site.cluster, A, job_id="17")
        await turns()
        await plan.submit(A)
        await plan.submit(B)
    assert site.made == {A.name, B.name}


async def test_one_that_the_cluster_refuses_gives_its_place_back(site: Site) -> None:
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served():
        for status, error in ((422, OrderRefused), (429, SinkBusy)):
            site.cluster.errors["POST", "jobs"] = [refusal(status)]
            with pytest.raises(error):
                await plan.submit(A)
        await plan.submit(B)
    assert site.made == {B.name}


async def test_a_node_that_is_not_there_is_waited_for(site: Site) -> None:
    plan = site.plan()
    async with site.served():
        with pytest.raises(SinkBusy, match=r"no virtual node with .*=vega"):
            await plan.submit(A)
        await virtual_node(site.cluster, "vega", ready=False)
        await turns()
        with pytest.raises(SinkBusy, match="virtual node vega is not ready"):
            await plan.submit(A)
        await virtual_node(site.cluster, "vega")
        await turns()
        await plan.submit(A)


@pytest.mark.usefixtures("impatient")
async def test_a_full_node_says_so(site: Site) -> None:
    await virtual_node(site.cluster, "vega", gpus=2)
    plan = site.plan(pods_per_node=2)
    greedy = site.plan(resources={"gpu": 2})
    hopeless = site.plan(resources={"gpu": 3})
    async with site.served():
        with pytest.raises(SinkBusy, match="has 2 GPUs, and the run takes 3"):
            await hopeless.submit(A)
        await site.plan(resources={"gpu": 1}).submit(A)
        with pytest.raises(SinkBusy, match="is full: 1 of 2 GPUs are free"):
            await greedy.submit(B)
        await virtual_pod(site.cluster, A, job_id="17")
        await plan.submit(B)
        await virtual_pod(site.cluster, B, job_id="18")
        await turns()
        with pytest.raises(SinkBusy, match="is full: 2 pods of ours live there"):
            await plan.submit(C)
        await pretend_run(site.cluster, A)
        await turns()
        await plan.submit(C)


async def test_what_waits_for_room_goes_as_soon_as_there_is_some(site: Site) -> None:
    await virtual_node(site.cluster, "vega")
    plan = site.plan(pods_per_node=1)
    async with site.served(), asyncio.TaskGroup() as group:
        await plan.submit(A)
        await virtual_pod(site.cluster, A, job_id="17")
        following = group.create_task(plan.submit(B))
        await turns()
        assert site.made == {A.name}
        await pretend_run(site.cluster, A)
        await following


async def test_of_several_nodes_the_one_with_most_room_is_taken(site: Site) -> None:
    for name, gpus, ready in (("small", 2, True), ("large", 4, True), ("away", 8, False)):
        await virtual_node(site.cluster, name, gpus=gpus, ready=ready, labels={"gpu": "A100"})
    await virtual_node(site.cluster, "other", labels={"gpu": "V100"})
    plan = site.plan(node_labels={"gpu": "A100"}, resources={"gpu": 2})
    async with site.served():
        for order in (A, B, C):
            await plan.submit(order)
            await virtual_pod(site.cluster, order, job_id="17")
            await turns()
    assert [site.node_of(order) for order in (A, B, C)] == ["large", "small", "large"]


async def test_what_kueue_starts_waits_for_no_node(site: Site) -> None:
    plan = site.plan(queue="gpus")
    async with site.served():
        await plan.submit(A)
    assert site.cluster.objects["jobs"][A.name]["spec"]["suspend"] is True


async def test_what_can_never_go_does_not_wait_for_its_turn(site: Site) -> None:
    plan = site.plan()
    async with site.served():
        with pytest.raises(OrderRefused, match="payload"):
            await plan.submit(make_order(payload=b"x" * 100_000))


@pytest.mark.parametrize(
    ("step", "code", "failure"),
    [("done", 0, None), ("run", 7, Failure.SCRIPT), ("stage-out", 75, Failure.INFRASTRUCTURE)],
)
async def test_the_wrappers_line_says_how_it_ended(
    site: Site, step: str, code: int, failure: Failure | None
) -> None:
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served():
        await plan.submit(A)
        await pretend_run(site.cluster, A, step=step, code=code)
        found = await site.desk.outcome(A.name)
    assert (found.failure, found.exit_code, found.node) == (failure, code, "vega")


@pytest.mark.parametrize(
    ("policy", "counts_as"),
    [
        ({}, Failure.SUSPICIOUS),
        ({"suspicious": "hold"}, Failure.SUSPICIOUS),
        ({"suspicious": "retry"}, Failure.INFRASTRUCTURE),
        ({"suspicious": "fail"}, Failure.SCRIPT),
    ],
)
async def test_a_success_that_nothing_proves_is_what_its_route_says(
    site: Site, policy: dict[str, str], counts_as: Failure
) -> None:
    await virtual_node(site.cluster, "vega")
    plan = site.plan(**policy)
    async with site.served():
        await plan.submit(A)
        name = await virtual_pod(site.cluster, A, job_id="17")
        site.cluster.logs[name] = b""
        await virtual_pod(site.cluster, A, job_id="17", phase="Succeeded")
        await site.cluster.end(A.name)
        found = await site.desk.outcome(A.name)
    assert (found.failure, found.reason) == (counts_as, "NoEvidence")


async def test_a_log_that_comes_late_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared file systems show a file's end seconds after it was written."""
    monkeypatch.setattr(judge, "LOOKS", 10_000)
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served():
        await plan.submit(A)
        await pretend_run(site.cluster, A, wrote=b"words\n")
        for _ in range(3):
            await turns()
        assert site.desk.reports == []
        site.cluster.logs[f"{A.name}-pod"] += evidence(A)
        assert (await site.desk.outcome(A.name)).succeeded


async def test_a_line_of_megabytes_does_not_hide_how_it_ended(site: Site) -> None:
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served():
        await plan.submit(A)
        bar = b"".join(b"epoch %d\r" % number for number in range(100_000))
        await pretend_run(site.cluster, A, wrote=b"words\n" * 100 + bar + b"\n" + evidence(A))
        assert (await site.desk.outcome(A.name)).succeeded


@pytest.mark.parametrize("lines", range(75, 85))
async def test_a_log_of_as_many_lines_as_are_asked_for_is_read(site: Site, lines: int) -> None:
    """Asked for one line more than there are, the Slurm plugin breaks down."""
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served():
        await plan.submit(A)
        end = evidence(A)
        await pretend_run(site.cluster, A, wrote=b"words\n" * (lines - end.count(b"\n")) + end)
        assert (await site.desk.outcome(A.name)).succeeded


async def end_unread(site: Site, order: Order) -> tuple[str, str]:
    """It has ended, and nobody gives its log."""
    at = ("GET", f"pods/{order.name}-pod/log")
    site.cluster.errors[at] = [refusal(502) for _ in range(10_000)]
    await pretend_run(site.cluster, order)
    return at


async def test_while_its_node_is_away_nobody_knows_how_it_ended(site: Site) -> None:
    """It was seen to succeed, and then the plugin went away with the log that proves it."""
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served():
        await plan.submit(A)
        await virtual_node(site.cluster, "vega", ready=False)
        at = await end_unread(site, A)
        for _ in range(3 * judge.LOOKS):
            await turns()
        assert site.cluster.calls.count(at) > judge.LOOKS
        assert site.desk.reports == []
        site.cluster.errors[at].clear()
        await virtual_node(site.cluster, "vega")
        assert (await site.desk.outcome(A.name)).succeeded


async def test_a_log_that_a_node_does_not_have_is_given_up(site: Site) -> None:
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served():
        await plan.submit(A)
        at = await end_unread(site, A)
        found = await site.desk.outcome(A.name)
    assert found.failure is Failure.SUSPICIOUS
    assert site.cluster.calls.count(at) == judge.LOOKS


async def test_a_job_that_never_left_the_queue_is_told_from_one_that_ran_too_long(site: Site) -> None:
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served():
        for order, phase in ((A, "Pending"), (B, "Running")):
            await plan.submit(order)
            name = await virtual_pod(site.cluster, order, job_id="17", phase=phase)
            await turns()
            await site.cluster.delete("pods", name)
            await site.cluster.end(order.name, "Failed", "DeadlineExceeded")
        queued, ran = await site.desk.outcome(A.name), await site.desk.outcome(B.name)
    assert (queued.failure, ran.failure) == (Failure.INFRASTRUCTURE, Failure.DEADLINE)
    assert "queue as job 17" in queued.message


@pytest.mark.parametrize("fate", ["time is up", "deleted"])
async def test_while_an_orphan_may_run_nothing_is_tried_again(site: Site, fate: str) -> None:
    """Its pod is on its way out, on a node that is away: nobody has told the batch system to end the job."""
    await virtual_node(site.cluster, "vega")
    plan = site.plan()
    async with site.served():
        await plan.submit(A)
        await virtual_node(site.cluster, "vega", ready=False)
        pod = await virtual_pod(site.cluster, A, job_id="17", phase="Pending")
        await turns()
        if fate == "time is up":
            await site.cluster.end(A.name, "Failed", "DeadlineExceeded")
        else:
            await site.cluster.delete("jobs", A.name)
        for _ in range(5):
            await turns()
        assert site.desk.reports == []
        await site.cluster.delete("pods", pod)
        found = await site.desk.outcome(A.name)
    expected = Failure.INFRASTRUCTURE if fate == "time is up" else Failure.UNKNOWN
    assert found.failure is expected


async def test_without_the_right_to_see_nodes_nothing_is_sent_and_the_reason_said(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "PATIENCE", 0.05)
    site.cluster.errors["GET", "nodes"] = [refusal(403, "nodes is forbidden")] * 100
    plan = site.plan()
    async with site.served():
        with pytest.raises(SinkBusy, match="nodes is forbidden"):
            await plan.submit(A)


async def test_the_levels_of_a_node_are_told_from_when_a_route_goes_there(site: Site) -> None:
    """A SIGHUP brings the route; the node has long been there, and does not change."""
    site.plan(node="leonardo")
    await virtual_node(site.cluster, "vega-2", gpus=4)

    def free() -> float | None:
        return REGISTRY.get_sample_value("dcnios_virtual_node_gpus_free", {"node": "vega-2"})

    async with site.served():
        await turns()
        assert free() is None
        await asyncio.to_thread(site.plan, node="vega-2")
        for _ in range(10):
            await turns()
        assert free() == 4
