"""One order, one Job: by its name, through every doubt."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dcnios_daemon.core.errors import ConfigError, OrderRefused, SinkBusy, SinkUnavailable
from dcnios_daemon.core.ports import Download, Store, Upload
from dcnios_daemon.kubernetes.login import KubernetesSettings
from dcnios_daemon.sinks.job.sink import JobPlan, JobRun, JobSink
from dcnios_daemon.sinks.spec import SinkContext
from tests.clocks import ManualClock
from tests.fakes.cluster import FakeCluster, refusal
from tests.fakes.desk import make_order

BIG = b"\xff" * 1000


def plan(cluster: FakeCluster, *, stores: Mapping[str, Store] | None = None, **run: Any) -> JobPlan:
    context = SinkContext(
        instance="here",
        state=Path(),
        stores=stores or {},
        clock=ManualClock(),
        kubernetes=KubernetesSettings(staging_image="dcnios:1"),
    )
    keys = run if "manifest" in run else {"image": "img", **run}
    return JobSink(context, session=cluster).plan("gray", JobRun(**keys))


async def test_an_order_is_one_call() -> None:
    cluster, order = FakeCluster(), make_order()
    await plan(cluster).submit(order)
    assert cluster.calls == [("POST", "jobs")]
    assert list(cluster.objects["jobs"]) == [order.name]


async def test_what_is_rendered_is_what_is_submitted() -> None:
    cluster, order = FakeCluster(), make_order()
    made = plan(cluster, script="true", env={"A": "{{ event.name }}"})
    rendered = await made.render(order)
    await made.submit(order)
    there = cluster.objects["jobs"][order.name]
    there["metadata"].pop("uid")
    there["metadata"].pop("resourceVersion")
    assert json.loads(json.dumps(rendered)) == there


async def test_submitting_twice_is_submitting_once() -> None:
    cluster, order = FakeCluster(), make_order()
    made = plan(cluster)
    await asyncio.gather(*(made.submit(order) for _ in range(5)))
    assert len(cluster.objects["jobs"]) == 1


async def test_an_answer_that_was_lost_is_no_second_job() -> None:
    cluster, order = FakeCluster(), make_order()
    cluster.lose_answer_to.add(("POST", "jobs"))
    made = plan(cluster)
    with pytest.raises(SinkUnavailable):
        await made.submit(order)
    await made.submit(order)
    assert len(cluster.objects["jobs"]) == 1


async def test_a_name_taken_by_a_stranger_is_refused() -> None:
    cluster, order = FakeCluster(), make_order()
    await cluster.change(
        "jobs", order.name, metadata={"name": order.name, "labels": {"dcnios-daemon/key": "x"}}
    )
    with pytest.raises(OrderRefused, match="not ours"):
        await plan(cluster).submit(order)


async def test_a_job_that_came_and_went_was_made() -> None:
    """It must not be made again: whether it ran is for the watch to say."""
    cluster, order = FakeCluster(), make_order()
    cluster.errors["POST", "jobs"] = [refusal(409)]
    await plan(cluster).submit(order)
    assert cluster.objects["jobs"] == {}


@pytest.mark.parametrize(("status", "error"), [(429, SinkBusy), (503, SinkUnavailable), (422, OrderRefused)])
async def test_the_clusters_answer_is_passed_on(status: int, error: type[Exception]) -> None:
    cluster = FakeCluster()
    cluster.errors["POST", "jobs"] = [refusal(status)]
    with pytest.raises(error):
        await plan(cluster).submit(make_order())


async def test_a_payload_secret_is_there_before_its_job_and_goes_with_it() -> None:
    cluster, order = FakeCluster(), make_order(payload=BIG)
    await plan(cluster).submit(order)
    assert cluster.calls == [("POST", "secrets"), ("POST", "jobs"), ("PATCH", f"secrets/{order.name}")]
    owner = cluster.objects["secrets"][order.name]["metadata"]["ownerReferences"]
    assert owner == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": order.name, "uid": f"uid-{order.name}"}
    ]


async def test_both_are_rendered() -> None:
    rendered = await plan(FakeCluster()).render(make_order(payload=BIG))
    assert [item["kind"] for item in rendered["items"]] == ["Secret", "Job"]


@pytest.mark.parametrize("step", [("POST", "secrets"), ("POST", "jobs"), ("PATCH", "secrets/{}")])
@pytest.mark.parametrize("done", [True, False], ids=["answer-lost", "not-done"])
async def test_a_crash_at_any_step_with_a_secret_is_made_good_by_the_next_try(
    step: tuple[str, str], done: bool
) -> None:
    cluster, order = FakeCluster(), make_order(payload=BIG)
    at = (step[0], step[1].format(order.name))
    if done:
        cluster.lose_answer_to.add(at)
    else:
        cluster.errors[at] = [SinkUnavailable("away")]
    made = plan(cluster)
    with pytest.raises(SinkUnavailable):
        await made.submit(order)
    await made.submit(order)
    assert list(cluster.objects["jobs"]) == list(cluster.objects["secrets"]) == [order.name]
    assert cluster.objects["secrets"][order.name]["metadata"]["ownerReferences"]


async def test_the_secret_of_a_job_that_is_refused_is_taken_back() -> None:
    cluster = FakeCluster()
    cluster.errors["POST", "jobs"] = [refusal(422)]
    with pytest.raises(OrderRefused):
        await plan(cluster).submit(make_order(payload=BIG))
    assert cluster.objects["secrets"] == {}


async def test_a_secret_that_cannot_be_taken_back_does_not_hide_the_refusal() -> None:
    cluster, order = FakeCluster(), make_order(payload=BIG)
    cluster.errors["POST", "jobs"] = [refusal(422, "the reason")]
    cluster.errors["DELETE", f"secrets/{order.name}"] = [SinkUnavailable("away")]
    with pytest.raises(OrderRefused, match="the reason"):
        await plan(cluster).submit(order)


class OneStore:
    """Gives leave for how long it was asked to."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def download(self, subject: str, *, valid_for: float) -> Download:
        self.asked.append(valid_for)
        return Download(url=f"https://store/{subject}")

    async def upload(self, target: str, *, valid_for: float) -> Upload:
        self.asked.append(valid_for)
        return Upload(method="PUT", url="https://store/out/")

    async def aclose(self) -> None: ...


@pytest.mark.parametrize(("more", "days"), [({}, 1 / 24 + 1 / 24), ({"queue": "q"}, 7)])
async def test_staging_gets_leave_for_as_long_as_the_job_may_wait(more: dict[str, Any], days: float) -> None:
    cluster, store, order = FakeCluster(), OneStore(), make_order()
    outs = {"x": {"to": "s3://b/", "using": "uploads"}}
    await plan(
        cluster, stores={"uploads": store}, stage_in=True, stage_out=outs, deadline="1h", **more
    ).submit(order)
    assert store.asked == [days * 86400] * 2
    inside = cluster.objects["jobs"][order.name]["spec"]["template"]["metadata"]["annotations"]
    assert json.loads(inside["dcnios-daemon/staging"])["download"]["url"] == "https://store/inbox/a.png"


def test_a_manifest_is_read_at_start(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    with pytest.raises(ConfigError, match="cannot be read"):
        plan(FakeCluster(), manifest=path)
    path.write_text("kind: [")
    with pytest.raises(ConfigError, match="no YAML"):
        plan(FakeCluster(), manifest=path)
    path.write_text("kind: Job\nspec: {template: {spec: {containers: [{name: c, image: i}]}}}")
    plan(FakeCluster(), manifest=path)
