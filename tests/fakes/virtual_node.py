"""A pretend virtual node of interLink on a real API server: it takes pods, and says of them what the real one
was seen to say, the untrue things too.

Scheduler, Job controller and the path of logs through the API server are real. What a job's end is like is
drawn from the order's name, so that a test knows what must come out.
"""

import asyncio
import os
import random
import ssl
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import OrderRefused, SinkError, SinkUnavailable
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.marks import ATTEMPT, KEY
from dcnios_daemon.sinks.interlink.objects import VirtualPod
from dcnios_daemon.sinks.kubernetes.watch import Collection
from tests.fakes.cluster import gives_none
from tests.fakes.hpc import Fate, Hpc
from tests.servers.pki import Pki

STEP = 0.1
"""Seconds that each step of a job takes, about."""
HEARTBEAT = 10.0
"""Seconds. The node controller takes a node for lost after 50."""


class PretendNode:
    """One node. ``run`` it in a task; ``leave`` and ``come_back`` as often as wanted.

    Args:
        session: The cluster, in the namespace whose pods it takes.
        name: The node's.
        hpc: What really runs.
        gpus: How many it has.
        pki: The certificate that it shows.
    """

    def __init__(
        self,
        session: ClusterSession,
        name: str,
        *,
        hpc: Hpc,
        gpus: int,
        pki: Pki,
    ) -> None:
        self.name = name
        self.hpc = hpc
        self.logs: dict[str, bytes] = {}
        self.peak = 0
        """The most pods at the same time that had no ``JobID`` yet."""
        self._session = session
        self._gpus = gpus
        self._pki = pki
        self.room: Path | None = None
        """A folder in which pods really run, as processes, and end as they end; else by their fate."""
        self._dice = random.Random(f"{hpc.seed} {name}")
        self._here = asyncio.Event()
        self._here.set()
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._waiting: set[str] = set()
        self._seen: set[str] = set()
        self._group: asyncio.TaskGroup
        self.registered = asyncio.Event()

    # --- what tests do ----------------------------------------------------------------------------------

    @property
    def orders(self) -> set[str]:
        """Those that run here, their end not told."""
        running = self._seen & set(self.hpc.running.values())
        return {order for order in running if self.hpc.fate(order) is not Fate.REPLY_LOST}

    async def leave(self) -> None:
        """The plugin is away: jobs go on, and nothing is told of them."""
        self._here.clear()
        await self._say_ready()

    async def come_back(self) -> None:
        """It tells again."""
        self._here.set()
        await self._say_ready()

    async def restart(self) -> None:
        """The virtual kubelet forgets what is not in the cluster; what has no ``JobID`` it sends again."""
        for life in self._lives.values():
            life.cancel()
        self._lives.clear()
        await self._adopt()

    # --- the node ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Be there until cancelled; then be gone."""
        runner = web.AppRunner(self._logs_server())
        await runner.setup()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        await asyncio.to_thread(context.load_cert_chain, self._pki.certificate, self._pki.key)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        try:
            await self._register(port)
            async with asyncio.TaskGroup() as self._group:
                self._group.create_task(self._beat(), name=f"{self.name} beats")
                await self._follow()
        finally:
            await self._session.request("DELETE", f"nodes/{self.name}")
            await runner.cleanup()

    async def _register(self, port: int) -> None:
        labels = {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/role": "agent",
            "virtual-node.interlink/type": "virtual-kubelet",
            "test/pool": f"pool-{self.hpc.seed}",
        }
        taint = {"key": "virtual-node.interlink/no-schedule", "value": "true", "effect": "NoSchedule"}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {"taints": [taint]},
        }
        await self._session.request("POST", "nodes", body=msgspec.json.encode(node))
        room = {"cpu": "100", "memory": "3000G", "pods": "10000", "nvidia.com/gpu": str(self._gpus)}
        await self._patch(
            f"nodes/{self.name}/status",
            {
                "status": {
                    "capacity": room,
                    "allocatable": room,
                    "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                    "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
                }
            },
        )
        await self._say_ready()
        self.registered.set()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            await self._say_ready()

    async def _say_ready(self) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = "True" if self._here.is_set() else "False"
        conditions = [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": "pretended",
                "lastHeartbeatTime": stamp,
                "lastTransitionTime": stamp,
            }
            for kind, reason in (("Ready", "KubeletPending"), ("InterlinkConnectivity", "InterlinkPing"))
        ]
        await self._patch(f"nodes/{self.name}/status", {"status": {"conditions": conditions}})

    def _logs_server(self) -> web.Application:
        async def log(request: web.Request) -> web.Response:
            if not self._here.is_set():
                return web.Response(status=502)
            found = self.logs.get(request.match_info["pod"], b"")
            if gives_none(found, request.query):
                return web.Response(status=500)
            return web.Response(body=found)

        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", log)
        return application

    # --- its pods ---------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        query = {"fieldSelector": f"spec.nodeName={self.name}"}
        self._pods = Collection(self._session, SystemClock(), "pods", VirtualPod, query)
        while True:
            try:
                await self._adopt()
                async with aclosing(self._pods.changes()) as changes:
                    async for change in changes:
                        if change.type == "DELETED":
                            self._waiting.discard(change.item.metadata.name)
                        else:
                            await self._see(change.item)
            except SinkUnavailable:
                await asyncio.sleep(STEP)

    async def _adopt(self) -> None:
        async def visit(pods: Sequence[VirtualPod]) -> None:
            for pod in pods:
                await self._see(pod)

        await self._pods.list(visit)

    async def _see(self, pod: VirtualPod) -> None:
        name = pod.metadata.name
        if pod.metadata.deletion_timestamp is not None:
            if life := self._lives.pop(name, None):
                life.cancel()
            self.hpc.end(pod.metadata.labels[KEY])
            await self._delete(name)
        elif not pod.ended and name not in self._lives:
            if not pod.job_id:
                self._waiting.add(name)
                self.peak = max(self.peak, len(self._waiting))
            self._seen.add(pod.job)
            self._lives[name] = self._group.create_task(self._live(pod), name=f"{self.name} {name}")

    async def _delete(self, pod: str) -> None:
        try:
            await self._session.request("DELETE", f"pods/{pod}", query={"gracePeriodSeconds": "0"})
        except SinkError:
            return  # it is gone, or goes when it is seen again

    async def _live(self, pod: VirtualPod) -> None:
        if self.room is not None:
            await self._really_live(pod, self.room)
            return
        name, fate = pod.metadata.name, self.hpc.fate(pod.job)
        if not pod.job_id:
            await self._submit(pod, fate)
        if fate.is_provider:
            return
        if fate is not Fate.CANCELLED:
            await self._pause()
            await self._show(name, "Running", {"running": {}})
            await self._pause()
            self.logs[name] = _log(pod, fate)
        self.hpc.end(pod.metadata.labels[KEY])
        await self._end(name, fate)

    async def _really_live(self, pod: VirtualPod, room: Path) -> None:
        name = pod.metadata.name
        if not pod.job_id:
            await self._submit(pod, Fate.DONE)
        await self._show(name, "Running", {"running": {}})
        whole = msgspec.json.decode(await self._session.request("GET", f"pods/{name}"))
        container = whole["spec"]["containers"][0]
        env = {entry["name"]: entry["value"] for entry in container["env"]}
        process = await asyncio.create_subprocess_exec(
            *container["command"],
            env={"PATH": os.environ["PATH"], "TMPDIR": str(room), **env},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        self.logs[name] = said + b"\nreal\t0m0.010s\n"
        self.hpc.end(pod.metadata.labels[KEY])
        code = process.returncode
        ended = {"terminated": {"exitCode": code, "reason": f"Error: {code}"}}
        await self._show(name, "Failed" if code else "Succeeded", ended)

    async def _submit(self, pod: VirtualPod, fate: Fate) -> None:
        name, key = pod.metadata.name, pod.metadata.labels[KEY]
        waiting = {"waiting": {"reason": "ContainerCreating", "message": "Remote pod submitted"}}
        await self._show(name, self._dice.choice(("Pending", "Initializing")), waiting)
        await self._pause()
        if fate is not Fate.REFUSED:
            self.hpc.begin(key, pod.job)
        if fate.is_provider:
            self._waiting.discard(name)
            await self._end(name, fate, reason="ProviderFailed")
            return
        self._waiting.discard(name)
        await self._patch(f"pods/{name}", {"metadata": {"annotations": {"JobID": "4711"}}})

    async def _end(self, name: str, fate: Fate, reason: str = "") -> None:
        if fate.shown is None:
            await self._show(name, "Succeeded", None)
            return
        ended = {"exitCode": fate.shown, "reason": f"Error: {fate.shown}", "message": fate.message}
        phase = "Failed" if fate.shown else "Succeeded"
        said = {"reason": reason, "message": fate.message} if reason else {}
        await self._show(name, phase, {"terminated": ended}, **said)

    async def _show(self, pod: str, phase: str, state: dict[str, Any] | None, **said: str) -> None:
        """Tell it, as soon as anything is told."""
        await self._here.wait()
        fixed = {"name": "run", "image": "img", "imageID": "", "ready": False, "restartCount": 0}
        shown = [] if state is None else [{**fixed, "state": state}]
        status = {"phase": phase, "containerStatuses": shown, **said}
        await self._patch(f"pods/{pod}/status", {"status": status})

    async def _pause(self) -> None:
        await asyncio.sleep(STEP * self._dice.uniform(0.2, 2))

    async def _patch(self, path: str, body: dict[str, Any]) -> None:
        while True:
            try:
                await self._session.request("PATCH", path, body=msgspec.json.encode(body))
            except SinkUnavailable:  # a controller changed it at the same time, or the cluster is slow
                await asyncio.sleep(STEP)
                continue
            except OrderRefused:
                if path.startswith("nodes"):
                    raise  # a pod may be gone, its node is not
            return


def _log(pod: VirtualPod, fate: Fate) -> bytes:
    labels = pod.metadata.labels
    line = f"dcnios-end key={labels[KEY]} attempt={labels[ATTEMPT]} step={fate.step} exit={fate.code}\n"
    return f"words of the script\n{line if fate.step else ''}\nreal\t0m0.010s\nuser\t0m0.004s\n".encode()


async def make_pki(folder: Path) -> Pki:
    """What the nodes show to the API server, which trusts any."""
    pki = Pki(folder)
    await asyncio.to_thread(pki.create)
    return pki
