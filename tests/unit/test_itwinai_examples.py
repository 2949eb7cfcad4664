"""The Jobs that the examples for itwinai make, as ``dcnios render`` shows them."""

import base64
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcnios_daemon import app
from dcnios_daemon.cli.common import compile_runs
from dcnios_daemon.config.load import load
from dcnios_daemon.config.model import DaemonSettings
from dcnios_daemon.config.sample import event_from_json

Json = dict[str, Any]
EXAMPLES = Path(__file__).parents[2] / "config/examples"
NAMES = ["itwinai-to-interlink.yaml", "itwinai-torchrun-to-interlink.yaml"]
STORE_KEY = "k3y-of-the-store"
ODD = "${oc.env:MLFLOW_TRACKING_PASSWORD} $(touch x) `y` 'z.h5"


def example(name: str, folder: Path) -> DaemonSettings:
    """With keys to sign links with, in place of files that are not here."""
    document = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    document["daemon"] = {"instance": "hall-b"}
    source = document["sources"]["uploads"]
    del source["webhook_token_file"]
    for key, value in (("access_key", "reader"), ("secret_key", STORE_KEY)):
        del source[f"{key}_file"]
        source[key] = value
    file = folder / name
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return load(file, environ={}, further=compile_runs)


async def rendered(settings: DaemonSettings) -> Json:
    [route] = settings.routes
    raw = json.dumps({"subject": f"datasets/mnist/{ODD}", "action": "created"}).encode()
    event = event_from_json(raw, source="uploads", kind="minio", now=1_800_000_000)
    made: Json = await app.render(settings, route, event)
    return made


def pod(job: Json) -> Json:
    spec: Json = job["spec"]["template"]["spec"]
    return spec


def variables(job: Json) -> Json:
    return {entry["name"]: entry for entry in pod(job)["containers"][0]["env"]}


def order(job: Json) -> list[str]:
    """What the wrapper is told, line by line."""
    return base64.b64decode(variables(job)["DCNIOS_ORDER"]["value"]).decode().splitlines()


@pytest.fixture(params=NAMES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> DaemonSettings:
    return example(request.param, tmp_path)


async def test_the_credentials_of_mlflow_come_from_a_secret_and_from_nowhere_else(
    settings: DaemonSettings,
) -> None:
    job = await rendered(settings)
    given = variables(job)
    for name, key in (("MLFLOW_TRACKING_USERNAME", "username"), ("MLFLOW_TRACKING_PASSWORD", "password")):
        reference = {"secretKeyRef": {"name": "mlflow", "key": key}}
        assert given[name] == {"name": name, "valueFrom": reference}
    assert "configMap" not in json.dumps(job)
    assert not [line for line in order(job) if "MLFLOW_TRACKING_PASSWORD" in line and "oc.env" not in line]
    assert STORE_KEY not in json.dumps(job) + "\n".join(order(job))


async def test_nothing_of_the_event_is_on_a_command_line(settings: DaemonSettings) -> None:
    """The uploader's file name is only where the wrapper names its file."""
    job = await rendered(settings)
    assert "oc.env" not in json.dumps(job)
    words = [line for line in order(job) if line.startswith("word|")]
    assert words
    assert not [line for line in words if "oc.env" in line]


async def test_each_gpu_that_is_asked_for_gets_a_process(settings: DaemonSettings) -> None:
    [route] = settings.routes.values()
    job = await rendered(settings)
    [container] = pod(job)["containers"]
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    flags = shlex.split(job["spec"]["template"]["metadata"]["annotations"]["slurm-job.vk.io/flags"])
    assert {f"--gres=gpu:{gpus}", "--ntasks=1", "--nodes=1"} <= set(flags)
    script = str(route.run.model_dump()["script"])
    assert ("torchrun" in script) == (gpus != "1")
    if gpus != "1":
        assert f"env|GPUS|{gpus}" in order(job)
        assert '--nproc_per_node="$GPUS"' in script


async def test_there_is_room_for_the_data_set(settings: DaemonSettings) -> None:
    """The plugin's --containall gives a container 64 MiB; TMPDIR must be one of the HPC's folders."""
    job = await rendered(settings)
    binds = job["spec"]["template"]["metadata"]["annotations"]["slurm-job.vk.io/singularity-mounts"]
    assert f":{variables(job)['TMPDIR']['value']}" in binds
