"""A route moves between the cluster's GPU nodes and an HPC by one word."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dcnios_daemon.app.commands import render
from dcnios_daemon.cli.common import compile_runs
from dcnios_daemon.config.load import load
from dcnios_daemon.core.errors import ConfigError, OrderRefused, SinkUnavailable
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.sinks.interlink import InterlinkRun, InterlinkSink
from dcnios_daemon.sinks.interlink.wrapper import wrapper
from dcnios_daemon.sinks.job import JobRun, JobSink
from dcnios_daemon.sinks.job.manifest import Template
from dcnios_daemon.sinks.spec import SinkContext
from dcnios_daemon.staging.contract import CREDENTIALS
from tests.clocks import ManualClock
from tests.fakes.cluster import FakeCluster, refusal
from tests.fakes.desk import FakeDesk, make_order

EXAMPLE = Path(__file__).parents[2] / "config" / "examples" / "gpus-here-or-there.yaml"
EVENT = Event(
    key=event_key("uploads", "a"),
    source="uploads",
    kind="minio",
    subject="inbox/a/b.h5",
    action=Action.CREATED,
    time=0.0,
    data=b"{}",
)
Json = dict[str, Any]


def example(tmp_path: Path, kind: str) -> Path:
    """The example with that kind and no fallback, and its secrets."""
    text = EXAMPLE.read_text("utf-8").partition("    # While the HPC")[0]
    assert text.count("      kind: interlink\n") == 1
    for name in ("admin-token", "access-key", "secret-key", "webhook-token"):
        (tmp_path / name).write_text("secret")
    return written(tmp_path, text.replace("      kind: interlink\n", f"      kind: {kind}\n"))


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "daemon.yaml"
    file.write_text(text.replace("/run/secrets/dcnios", str(tmp_path)), "utf-8")
    return file


def rendered(tmp_path: Path, kind: str) -> Json:
    """What the example's route would submit."""
    return render_from(example(tmp_path, kind))


def render_from(file: Path, *, fallback: bool = False) -> Json:
    wrapper()  # the daemon reads it at its start, off the loop
    made: Json = asyncio.run(render(load(file, environ={}), "train", EVENT, fallback=fallback))
    return made


def pod(job: Json) -> Json:
    spec: Json = job["spec"]["template"]["spec"]
    return spec


def container(job: Json, name: str = "run") -> Json:
    both = [*pod(job).get("initContainers", ()), *pod(job)["containers"]]
    return next(item for item in both if item["name"] == name)


def test_one_word_moves_the_route(tmp_path: Path) -> None:
    here, there = rendered(tmp_path, "job"), rendered(tmp_path, "interlink")
    assert here["metadata"]["name"] == there["metadata"]["name"]
    assert here["spec"]["activeDeadlineSeconds"] == there["spec"]["activeDeadlineSeconds"] == 2 * 86400
    limits = {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "1"}
    assert container(here)["resources"]["limits"] == container(there)["resources"]["limits"] == limits
    assert container(here)["image"] == container(there)["image"]


def test_what_only_an_hpc_has_a_use_for_stays_there(tmp_path: Path) -> None:
    here, there = rendered(tmp_path, "job"), rendered(tmp_path, "interlink")
    assert pod(there)["nodeSelector"] == {"kubernetes.io/hostname": "vega"}
    assert "vega" not in str(here)
    assert "slurm" not in str(here)
    assert [item["key"] for item in pod(here)["tolerations"]] == ["nvidia.com/gpu"]


def test_what_only_a_cluster_has_a_use_for_stays_there(tmp_path: Path) -> None:
    here, there = rendered(tmp_path, "job"), rendered(tmp_path, "interlink")
    assert pod(here)["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in pod(there)
    assert container(here, "stage-in")["image"] == "ghcr.io/example/dcnios-daemon:1"
    assert CREDENTIALS not in str(there)


def test_it_can_be_rehearsed_by_the_same_word(tmp_path: Path) -> None:
    assert rendered(tmp_path, "dry-run")["run"]["slurm"]["partition"] == "gpu"


def test_a_type_of_gpu_is_asked_for_by_the_label_that_tells_it() -> None:
    keys: Json = {"image": "img", "script": "true", "resources": {"gpu": 1, "gpu_type": "A100"}}
    here = Template(JobRun.model_validate(keys), route="r", instance="i").make(make_order()).job
    assert pod(here)["nodeSelector"] == {"nvidia.com/gpu.product": "A100"}
    there = InterlinkRun.model_validate(keys)
    assert there.selector == {"nvidia-gpu-type": "A100", "virtual-node.interlink/type": "virtual-kubelet"}
    at_vega = InterlinkRun.model_validate({**keys, "node": "vega"})
    assert at_vega.selector == {"nvidia-gpu-type": "A100", "kubernetes.io/hostname": "vega"}


def test_a_run_without_gpus_goes_to_no_node_that_keeps_itself_for_them() -> None:
    run = JobRun.model_validate({"image": "img", "script": "true"})
    here = Template(run, route="r", instance="i").make(make_order()).job
    assert not {"tolerations", "nodeSelector", "runtimeClassName"} & pod(here).keys()


@pytest.mark.parametrize("image", ["/ceph/images/itwinai.sif", "docker://ghcr.io/x:1", "oras://r/x:1"])
def test_an_image_that_no_cluster_can_pull_is_refused(image: str) -> None:
    with pytest.raises(ValidationError, match="no name in a registry"):
        JobRun.model_validate({"image": image, "script": "true"})


def test_a_life_that_is_a_wait_and_a_run_is_as_long_here_as_there() -> None:
    keys: Json = {"image": "img", "script": "true", "slurm": {"time": "60"}, "queue_allowance": "1h"}
    made = Template(JobRun.model_validate(keys), route="r", instance="i").make(make_order()).job
    assert made["spec"]["activeDeadlineSeconds"] == 7200


def test_a_fallback_is_the_same_route_by_the_other_way(tmp_path: Path) -> None:
    example(tmp_path, "interlink")
    whole = written(tmp_path, EXAMPLE.read_text("utf-8"))
    there, elsewhere = render_from(whole), render_from(whole, fallback=True)
    assert pod(there)["nodeSelector"] == {"kubernetes.io/hostname": "vega"}
    here = rendered(tmp_path, "job")
    assert elsewhere["metadata"] == here["metadata"]
    assert pod(elsewhere).keys() == pod(here).keys()
    assert pod(elsewhere)["runtimeClassName"] == "nvidia"


@pytest.mark.parametrize(
    ("fallback", "said"),
    [
        ("{run: {<<: *train}}", "fallback.run.kind: leads from interlink to interlink"),
        ("{run: {kind: http, url: 'http://x/'}}", "fallback.run.kind: leads from interlink to http"),
        ("{after: 5s, run: {<<: *train, kind: job}}", "fallback.after: must be at least"),
        (
            "{run: {<<: *train, kind: job, stage_out: {a: {to: 's3://b/', using: nobody}}}}",
            "fallback.run.stage_out.a.using: 'nobody' is no source",
        ),
        (
            "{run: {<<: *train, kind: job, script: null, script_file: /nowhere}}",
            "fallback.run.script_file",
        ),
    ],
)
def test_a_fallback_that_cannot_work_is_a_mistake_at_start(tmp_path: Path, fallback: str, said: str) -> None:
    text = example(tmp_path, "interlink").read_text("utf-8")
    file = written(tmp_path, f"{text.rstrip()}\n    fallback: {fallback}\n")
    with pytest.raises(ConfigError, match=re.escape(f"routes.train.{said}")):
        load(file, environ={}, further=compile_runs)


async def test_a_job_of_the_other_kind_is_never_taken_for_ones_own() -> None:
    """A lost request of an earlier life arrives late, and its order goes the other way by then."""
    cluster, order = FakeCluster(), make_order()
    context = SinkContext(instance="i", state=Path(), stores={}, clock=ManualClock())
    await asyncio.to_thread(wrapper)
    keys: Json = {"image": "img", "script": "true"}
    here = JobSink(context, session=cluster).plan("gray", JobRun.model_validate(keys))
    await here.submit(order)
    hpc = InterlinkRun.model_validate({**keys, "suspend": True, "node": "vega"})
    there = InterlinkSink(context, session=cluster).plan("gray", hpc)
    with pytest.raises(OrderRefused, match="already, for another kind of run"):
        await there.submit(order)
    cluster.objects["jobs"].clear()
    await there.submit(order)
    with pytest.raises(OrderRefused, match="already, for another kind of run"):
        await here.submit(order)
    assert len(cluster.objects["jobs"]) == 1


async def test_an_order_whose_name_is_taken_may_exist_whatever_else_is_said() -> None:
    """It says 409, and then that it is too busy to say whose that is: this is no room elsewhere."""
    cluster, order = FakeCluster(), make_order()
    context = SinkContext(instance="i", state=Path(), stores={}, clock=ManualClock())
    run = JobRun.model_validate({"image": "img", "script": "true"})
    plan = JobSink(context, session=cluster).plan("gray", run)
    await plan.submit(order)
    cluster.errors["GET", f"jobs/{order.name}"] = [refusal(429)]
    with pytest.raises(SinkUnavailable):
        await plan.submit(order)


async def test_each_kind_follows_its_own_jobs_of_a_route() -> None:
    """The HPC's are called a success by their exit code, which is what no HPC's job is believed by."""
    cluster, order = FakeCluster(), make_order()
    context = SinkContext(instance="i", state=Path(), stores={}, clock=ManualClock())
    await asyncio.to_thread(wrapper)
    keys: Json = {"image": "img", "script": "true", "suspend": True, "node": "vega"}
    sink, desk = JobSink(context, session=cluster), FakeDesk()
    sink.plan("gray", JobRun.model_validate(keys))
    await (
        InterlinkSink(context, session=cluster).plan("gray", InterlinkRun.model_validate(keys)).submit(order)
    )
    other = make_order("b")
    ready = asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(sink.serve(desk, ready.set))
        await ready.wait()
        await cluster.end(order.name)
        await sink.plan("gray", JobRun.model_validate({"image": "img", "script": "true"})).submit(other)
        await cluster.end(other.name)
        await desk.outcome(other.name)
        task.cancel()
    assert [outcome.order for outcome in desk.reports] == [other.name]
