"""The digital twin's notebook and the daemon's file beside it, as they are handed out, do what they say."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.daemon import REPOSITORY, DaemonProcess, daemon
from tests.e2e.stores import objects, s3_client
from tests.servers.cache import Cache
from tests.servers.fixtures import ClusterNode
from tests.servers.minio import MinIO, S3Access
from tests.servers.notebook import environment
from tests.servers.workspace import Workspace

TWIN = REPOSITORY / "config" / "examples" / "digital-twin"


async def _notebook(folder: Path, store: S3Access, process: DaemonProcess) -> str:
    """What its cells show when a real Jupyter runs them."""
    jupyter = await asyncio.to_thread(environment, Cache())
    variables = {
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "DCNIOS_CLIENT_URL": process.url,
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(folder),
    }
    kernel = await asyncio.create_subprocess_exec(
        jupyter / "bin" / "python",
        *("-m", "nbconvert", "--to", "notebook", "--execute", "--stdout", TWIN / "loop.ipynb"),
        env=os.environ | variables,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    executed, complaints = await kernel.communicate()
    assert kernel.returncode == 0, f"{complaints.decode()}\n{process.tail()}"
    outputs = [output for cell in json.loads(executed)["cells"] for output in cell.get("outputs", ())]
    return "\n".join("".join(output.get("text") or output["data"]["text/plain"]) for output in outputs)


async def _shows_the_loop(tmp_path: Path, workspace: Workspace, settings: dict[str, Any]) -> None:
    store = await asyncio.to_thread(MinIO(workspace).__enter__)
    settings["sources"]["uploads"]["endpoint"] = store.access.endpoint
    keys = {"AWS_ACCESS_KEY_ID": store.access.access_key, "AWS_SECRET_ACCESS_KEY": store.access.secret_key}
    async with s3_client(store.access) as client:
        for bucket in ("twin-inbox", "twin-outbox"):
            await client.create_bucket(Bucket=bucket)
        async with daemon(tmp_path / "daemon", settings, env=keys) as process:
            shown = await _notebook(tmp_path, store.access, process)
        made = await objects(client, "twin-outbox")
    assert made.keys() == {"state/tank.json", *(f"state/tank-{hours}.json" for hours in range(1, 7))}
    twin = json.loads(made["state/tank.json"])
    assert twin["readings"] == 17
    assert twin["k"] == pytest.approx(0.3, abs=0.002)
    assert "1 h watched: k = 0.323, forecast for 12 h is off by 0.37 °C" in shown
    assert f"4 h watched: k = {twin['k']:.3f}, forecast for 12 h is off by 0.00 °C" in shown
    assert "[5, 9, 13, 17, 21, 25]" in shown
    assert "twin-inbox/tank.csv: delivery 10 of route twin is dead: script" in shown
    assert "ValueError: could not convert string to float: 'broken'" in shown
    last = shown[shown.rindex("[<Delivery 10") :]
    assert last.startswith("[<Delivery 10 twin dead 'twin-inbox/tank.csv': script")
    assert last.count("twin succeeded 'twin-inbox/tank.csv'>") == 2


def _settings() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((TWIN / "daemon.yaml").read_text("utf-8"))
    del read["daemon"]["http"]
    return read


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_on_this_machine(tmp_path: Path, workspace: Workspace) -> None:
    await _shows_the_loop(tmp_path, workspace, _settings())


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_in_pods(
    tmp_path: Path, workspace: Workspace, cluster_node: ClusterNode, namespace: str
) -> None:
    settings = _settings()
    settings["kubernetes"] = {
        "namespace": namespace,
        "kubeconfig": str(cluster_node.access.kubeconfig),
        "staging_image": cluster_node.image,
    }
    settings["routes"]["twin"]["run"] |= {
        "kind": "job",
        "image": cluster_node.image,
        "pod": {"hostNetwork": True},
    }
    await _shows_the_loop(tmp_path, workspace, settings)


def test_no_output_is_kept_in_it() -> None:
    cells = json.loads((TWIN / "loop.ipynb").read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None]
