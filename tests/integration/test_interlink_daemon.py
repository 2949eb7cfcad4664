"""The whole daemon with an HPC: a route that waits for its node, pods that really run, a kill in between."""

import asyncio
import io
import secrets
from pathlib import Path
from typing import Any

import aiohttp

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.login import KubernetesSettings
from tests.daemon import DaemonProcess, daemon, eventually
from tests.fakes.hpc import Hpc
from tests.fakes.virtual_node import PretendNode, make_pki
from tests.servers.access import ClusterAccess

SCRIPT = 'cp "$DCNIOS_EVENT_FILE" "$OUT/$DCNIOS_KEY" && echo ran >>"$OUT/$DCNIOS_KEY.times"'


def _settings(access: ClusterAccess, namespace: str, node: str, out: Path) -> dict[str, Any]:
    run = {
        "kind": "interlink",
        "node": node,
        "image": "img",
        "script": SCRIPT,
        "env": {"OUT": str(out)},
        "resources": {"gpu": 1},
        "slurm": {"partition": "gpu", "time": "10"},
        "queue_allowance": "1h",
    }
    return {
        "daemon": {"instance": namespace},
        "kubernetes": {"kubeconfig": str(access.kubeconfig), "namespace": namespace},
        "sources": {"hooks": {"kind": "cloudevents"}},
        "routes": {"train": {"from": ["hooks"], "run": run}},
    }


async def _post(process: DaemonProcess, payload: bytes) -> None:
    headers = {
        "ce-id": secrets.token_hex(8),
        "ce-source": "/test",
        "ce-type": "test",
        "ce-specversion": "1.0",
        "content-type": "application/octet-stream",
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{process.url}/sources/hooks", headers=headers, data=io.BytesIO(payload)) as reply,
    ):
        assert reply.status == 200


async def _reasons(process: DaemonProcess) -> str:
    return str((await process.get("/api/v1/status"))["reasons"])


async def test_a_route_waits_for_its_node_and_runs_each_event_once(
    kubernetes: ClusterAccess, namespace: str, tmp_path: Path
) -> None:
    name, out = f"vk-{secrets.token_hex(4)}", tmp_path / "out"
    out.mkdir()
    payloads = [secrets.token_bytes(200) + b"\0\r\n$(x) `y` \xff" for _ in range(8)]
    settings = KubernetesSettings(kubeconfig=kubernetes.kubeconfig, namespace=namespace)
    session, hpc = ClusterSession(settings, SystemClock()), Hpc(0)
    node = PretendNode(session, name, hpc=hpc, gpus=2, pki=await make_pki(tmp_path))
    node.room = tmp_path
    async with daemon(tmp_path / "daemon", _settings(kubernetes, namespace, name, out)) as process:
        for payload in payloads:
            await _post(process, payload)

        async def waits() -> bool:
            return f"no virtual node with kubernetes.io/hostname={name}" in await _reasons(process)

        await eventually(waits, "the reason why the route waits")
        assert "dead" not in await process.counts("train")
        async with asyncio.TaskGroup() as group:
            there = group.create_task(node.run())

            async def some_ended() -> bool:
                return (await process.counts("train")).get("succeeded", 0) >= 2

            await eventually(some_ended, "two that ended", within=60)
            await process.kill()
            await asyncio.to_thread(process.start)
            await process.until_ready()

            async def all_ended() -> bool:
                return (await process.counts("train")).get("succeeded", 0) == len(payloads)

            await eventually(all_ended, "all that ended", within=120)
            assert await _reasons(process) == "{}"
            there.cancel()
    await session.aclose()
    ran = {path.read_text() for path in out.glob("*.times")}
    assert ran == {"ran\n"}
    assert sorted(path.read_bytes() for path in out.glob("*[!s]")) == sorted(payloads)
    assert set(hpc.submitted.values()) == {1}
    assert (node.peak, hpc.wrong) == (1, [])
