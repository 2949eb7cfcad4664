"""A route moves between the cluster's GPU nodes and an HPC by one word."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dcnios_daemon.app.commands import render
from dcnios_daemon.config.load import load
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.sinks.interlink import InterlinkRun
from dcnios_daemon.sinks.interlink.wrapper import wrapper
from dcnios_daemon.sinks.job import JobRun
from dcnios_daemon.sinks.job.manifest import Template
from dcnios_daemon.staging.contract import CREDENTIALS
from tests.fakes.desk import make_order

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
    """The example with that kind, and its secrets."""
    text = EXAMPLE.read_text("utf-8")
    assert text.count("      kind: interlink\n") == 1
    for name in ("admin-token", "access-key", "secret-key", "webhook-token"):
        (tmp_path / name).write_text("secret")
    text = text.replace("      kind: interlink\n", f"      kind: {kind}\n")
    file = tmp_path / f"{kind}.yaml"
    file.write_text(text.replace("/run/secrets/dcnios", str(tmp_path)), "utf-8")
    return file


def rendered(tmp_path: Path, kind: str) -> Json:
    """What the example's route would submit."""
    wrapper()  # the daemon reads it at its start, off the loop
    made: Json = asyncio.run(render(load(example(tmp_path, kind), environ={}), "train", EVENT))
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
