"""The examples for itwinai as they stand: the Job that is rendered runs a pipeline of the real itwinai.

The container is this machine; its binds are links, and torchrun, which needs torch, is a stand-in that checks
what it is given and starts the processes that it would.
"""

import asyncio
import hashlib
import json
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import yaml

from dcnios_daemon import app
from dcnios_daemon.cli.common import compile_runs
from dcnios_daemon.config.load import load
from dcnios_daemon.config.model import DaemonSettings
from dcnios_daemon.config.sample import event_from_json
from dcnios_daemon.kubernetes.marks import KEY
from tests.e2e.stores import objects, s3_client
from tests.servers.cache import Cache
from tests.servers.itwinai import itwinai
from tests.servers.minio import S3Access

Json = dict[str, Any]
EXAMPLES = Path(__file__).parents[2] / "config/examples"
SECRETS = {"mlflow/username": "scientist", "mlflow/password": "s3'cr\"3t $x"}
CONTENT = b"a data set\0\xff"
ODD = "mnist/${oc.env:MLFLOW_TRACKING_PASSWORD},{a: 'b\"=[1] \u00fc.h5"
"""A name whose parts all mean something to Hydra; one that believed it would tell the password."""

PIPELINE = """
dataset: ???
output: ???
run_name: ???
strategy: none
training_pipeline:
  _target_: itwinai.pipeline.Pipeline
  steps:
    - {_target_: steps.Read, dataset: "${dataset}"}
    - {_target_: steps.Train, output: "${output}", run_name: "${run_name}", strategy: "${strategy}"}
"""
STEPS = """
import hashlib, json, os
from pathlib import Path
from itwinai.components import BaseComponent

class Read(BaseComponent):
    def __init__(self, dataset):
        super().__init__()
        self.dataset = dataset

    def execute(self):
        content = Path(self.dataset).read_bytes()
        if content == b"bad":
            raise ValueError("this is no data set")
        return content

class Train(BaseComponent):
    def __init__(self, output, run_name, strategy):
        super().__init__()
        self.output, self.run_name, self.strategy = output, run_name, strategy

    def execute(self, content):
        rank = os.environ.get("RANK", "0")
        login = [os.environ["MLFLOW_TRACKING_" + name] for name in ("URI", "USERNAME", "PASSWORD")]
        model = {
            "data": hashlib.sha256(content).hexdigest(),
            "run": self.run_name,
            "strategy": self.strategy,
            "world": os.environ.get("WORLD_SIZE", "1"),
            "login": hashlib.sha256(" ".join(login).encode()).hexdigest(),
        }
        (Path(self.output) / f"model-{rank}.json").write_text(json.dumps(model))
"""
TORCHRUN = """\
import argparse, os, subprocess, sys
parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--standalone", action="store_true", required=True)
parser.add_argument("--nnodes", type=int, choices=[1], required=True)
parser.add_argument("--nproc_per_node", type=int, required=True)
parser.add_argument("script")
parser.add_argument("words", nargs=argparse.REMAINDER)
given = parser.parse_args()
ranks = [{"RANK": str(i), "LOCAL_RANK": str(i)} for i in range(given.nproc_per_node)]
world = {"WORLD_SIZE": str(given.nproc_per_node)}
all_of_them = [
    subprocess.Popen([sys.executable, "-IS", given.script, *given.words], env=os.environ | world | rank)
    for rank in ranks
]
sys.exit(max(each.wait() for each in all_of_them))
"""


class Ended(msgspec.Struct, frozen=True):
    code: int
    out: str
    key: str


class Hpc:
    """An HPC whose folders lie below ours, and a store that it reaches."""

    def __init__(self, room: Path, minio: S3Access, client: Any, bucket: str) -> None:
        self.client, self.bucket, self._minio, self._room = client, bucket, minio, room
        (room / "scratch").mkdir()
        pipeline = room / "pipelines/mnist"
        pipeline.mkdir(parents=True)
        (pipeline / "config.yaml").write_text(PIPELINE)
        (pipeline / "steps.py").write_text(STEPS)
        self._bin = room / "bin"
        self._bin.mkdir()
        itwinai(Cache(), self._bin)
        (self._bin / "torchrun").write_text(f"#!{sys.executable} -IS\n{TORCHRUN}")
        (self._bin / "torchrun").chmod(0o755)

    @property
    def scratch(self) -> Path:
        return self._room / "scratch"

    async def uploaded(self, example: str, name: str, content: bytes) -> Ended:
        """What becomes of a data set, by the example's route."""
        await self.client.put_object(Bucket=self.bucket, Key=name, Body=content)
        settings = await asyncio.to_thread(self._adapted, example)
        [route] = settings.routes
        raw = json.dumps({"subject": f"{self.bucket}/{name}", "action": "created"}).encode()
        event = event_from_json(raw, source="uploads", kind="minio", now=time.time())
        return await self._run(await app.render(settings, route, event))

    def _adapted(self, example: str) -> DaemonSettings:
        """The example, with the addresses of this place."""
        text = (EXAMPLES / example).read_text(encoding="utf-8")
        for there, here in {
            "/pipelines/mnist": str(self._room / "pipelines/mnist"),
            "TMPDIR: /scratch": f"TMPDIR: {self.scratch}",
            "[datasets]": f"[{self.bucket}]",
            "s3://models/": f"s3://{self.bucket}/models/",
        }.items():
            assert there in text
            text = text.replace(there, here)
        document = yaml.safe_load(text)
        document["daemon"] = {"instance": "hall-b"}
        source = document["sources"]["uploads"]
        source["endpoint"] = self._minio.endpoint
        for key, value in (("access_key", self._minio.access_key), ("secret_key", self._minio.secret_key)):
            del source[f"{key}_file"]
            source[key] = value
        del source["webhook_token_file"]
        file = self._room / "daemon.yaml"
        file.write_text(yaml.safe_dump(document))
        return load(file, environ={}, further=compile_runs)

    async def _run(self, job: Json) -> Ended:
        [container] = job["spec"]["template"]["spec"]["containers"]
        env = {entry["name"]: _value(entry) for entry in container["env"]}
        process = await asyncio.create_subprocess_exec(
            *container["command"],
            env={"PATH": f"{self._bin}:/usr/bin:/bin", "HOME": str(self._room), **env},
            cwd=self._room,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        return Ended(process.returncode, said.decode(), job["metadata"]["labels"][KEY])


def _value(entry: Mapping[str, Any]) -> str:
    """What the virtual kubelet makes of a variable."""
    if "value" in entry:
        return str(entry["value"])
    of = entry["valueFrom"]["secretKeyRef"]
    return SECRETS[f"{of['name']}/{of['key']}"]


@pytest_asyncio.fixture
async def hpc(minio: S3Access, tmp_path: Path) -> AsyncIterator[Hpc]:
    if shutil.which("curl") is None:
        pytest.skip("this machine lacks curl")
    bucket = f"itwinai-{secrets.token_hex(4)}"
    async with s3_client(minio) as client:
        await client.create_bucket(Bucket=bucket)
        yield await asyncio.to_thread(Hpc, tmp_path, minio, client, bucket)


@pytest.mark.parametrize(
    ("example", "route", "strategy", "ranks"),
    [
        ("itwinai-to-interlink.yaml", "train", "none", 1),
        ("itwinai-torchrun-to-interlink.yaml", "train-large", "ddp", 4),
    ],
)
async def test_a_data_set_becomes_a_model_with_a_run_of_its_events_name(
    hpc: Hpc, example: str, route: str, strategy: str, ranks: int
) -> None:
    ended = await hpc.uploaded(example, ODD, CONTENT)
    assert ended.code == 0, ended.out
    assert ended.out.endswith(f"dcnios-end key={ended.key} attempt=1 step=done exit=0\n")
    kept = await objects(hpc.client, hpc.bucket, "models/mnist/")
    models = [json.loads(kept[f"models/mnist/model-{rank}.json"]) for rank in range(ranks)]
    login = f"https://mlflow.example.org {SECRETS['mlflow/username']} {SECRETS['mlflow/password']}"
    wanted = {
        "data": hashlib.sha256(CONTENT).hexdigest(),
        "run": f"{route}-{ended.key}-1",
        "strategy": strategy,
        "world": str(ranks),
        "login": hashlib.sha256(login.encode()).hexdigest(),
    }
    assert models == [wanted] * ranks
    assert any(name.endswith("/.hydra/overrides.yaml") for name in kept), "Hydra's record of the run"
    everything = [ended.out.encode(), *kept.values()]
    assert not [part for part in everything if SECRETS["mlflow/password"].encode() in part]
    assert not list(hpc.scratch.iterdir()), "something is left on the HPC"


@pytest.mark.parametrize("example", ["itwinai-to-interlink.yaml", "itwinai-torchrun-to-interlink.yaml"])
async def test_a_pipeline_that_fails_is_a_script_that_fails(hpc: Hpc, example: str) -> None:
    ended = await hpc.uploaded(example, "mnist/bad.h5", b"bad")
    assert "this is no data set" in ended.out
    assert ended.out.endswith(f"dcnios-end key={ended.key} attempt=1 step=run exit=1\n")
    assert await objects(hpc.client, hpc.bucket, "models/") == {}
