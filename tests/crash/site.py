"""The daemon's whole world on one machine: real servers, each behind a proxy that can go wrong."""

import asyncio
import random
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from tests.crash.controller import EXIT_CODE
from tests.crash.ledger import Limit
from tests.crash.machine import SmallDisk, WallClock
from tests.daemon import DaemonProcess, free_port
from tests.fakes.dcache import FakeDcache
from tests.fakes.proxy import FaultyProxy
from tests.servers.access import ClusterAccess
from tests.servers.etcd import Etcd
from tests.servers.kafka import Kafka
from tests.servers.kubernetes import ApiServer
from tests.servers.minio import MinIO
from tests.servers.workspace import Workspace

NAMESPACE, TOPIC, BUCKET, GROUP, MEMBER = "crash", "frames", "inbox", "crash", "crash"
PARTITIONS = 4
TOKEN = "hush"
KEEP = 60
"""Seconds that a Job stays after its end: the daemon is never away for so long."""
REPEATED = 0.1
"""The share of events that are delivered again."""

LIMITS: Mapping[str, Limit] = {
    "": Limit(40, 40, 75),
    "frames": Limit(30, 15, 40),
    "hooks": Limit(20, 5, 25),
    "uploads": Limit(15, 10, 12),
    "detector": Limit(4, 12, 30),
    "drop": Limit(1, 8, 20),
}
"""Of the last two the rate is felt, and the last is so slow that a restart does not hide a second burst;
of the others it is the slots."""


class ProxiedKafka(Kafka):
    """A broker with one more listener, which tells clients to come by way of the proxy."""

    def __init__(self, space: Workspace, *, proxy: int) -> None:
        super().__init__(space)
        self.inner = space.port()
        self._properties = (
            f"listeners=PLAINTEXT://127.0.0.1:{self._port},PROXIED://127.0.0.1:{self.inner},"
            f"CONTROLLER://127.0.0.1:{self._controller}\n"
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{self._port},PROXIED://127.0.0.1:{proxy}\n"
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
            "inter.broker.listener.name=PLAINTEXT\n"
        )


class Relay:
    """MinIO's webhook: hands on what it is told, and keeps some of it to tell it again later."""

    def __init__(self, dice: random.Random) -> None:
        self.url = ""
        self.target = ""
        """Where the daemon listens for it."""
        self.told = 0
        self.kept: list[bytes] = []
        self._dice = dice
        self._http: aiohttp.ClientSession
        self._runner: web.ServerRunner

    async def start(self, port: int) -> None:
        """Listen."""
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True).start()

    async def stop(self) -> None:
        """Listen no more."""
        await self._runner.cleanup()
        await self._http.close()

    async def tell(self, body: bytes) -> int:
        """Post it. Returns the status, 502 if there was none."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        try:
            async with self._http.post(self.target, data=body, headers=headers) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 502

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "POST":
            return web.Response()
        body = await request.read()
        status = await self.tell(body)
        if status == 200:
            self.told += 1
            if self._dice.random() < REPEATED:
                self.kept.append(body)
        return web.Response(status=status)


class Site:
    """Use as a context manager.

    Args:
        space: Where servers live.
        folder: The daemon's.
        dice: For what is told again.
        events: How many will happen, which says how large the journal's bounds and disk are.
    """

    def __init__(self, space: Workspace, folder: Path, *, dice: random.Random, events: int) -> None:
        self.space = space
        self.folder = folder
        self.audit = space.directory("audit")
        self.disk = SmallDisk(space, mebibytes=32 + events // 500)
        self.clock = WallClock(space)
        self.etcd = Etcd(space)
        self.api = ApiServer(space, self.etcd, self.audit / "log")
        kafka_proxy, relay = space.port(), space.port()
        self.kafka = ProxiedKafka(space, proxy=kafka_proxy)
        self.dcache = FakeDcache()
        self.relay = Relay(dice)
        self.relay.url = f"http://127.0.0.1:{relay}/"
        webhook = {
            "MINIO_NOTIFY_WEBHOOK_ENABLE_DCNIOS": "on",
            "MINIO_NOTIFY_WEBHOOK_ENDPOINT_DCNIOS": self.relay.url,
            "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_DCNIOS": str(space.directory("queue")),
        }
        self.minio = MinIO(space, env=webhook)
        self.inbox = folder / "drop"
        self.inbox.mkdir(parents=True)
        self.proxies = {
            "cluster": FaultyProxy(1),
            "kafka": FaultyProxy(self.kafka.inner, port=kafka_proxy),
            "minio": FaultyProxy(int(self.minio.endpoint.rpartition(":")[2])),
            "dcache": FaultyProxy(1),
            "hooks": FaultyProxy(1),
        }
        self.daemon: DaemonProcess
        self._events = events
        self._period = 5 + events // 5000
        """Seconds between listings, which get longer."""
        self._relay_port = relay
        self._held = AsyncExitStack()

    @property
    def access(self) -> ClusterAccess:
        """The administrator's, past the proxy."""
        return self.api.access("admin")

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await asyncio.gather(
                asyncio.to_thread(self._start_cluster),
                asyncio.to_thread(self.kafka.start),
                asyncio.to_thread(self.minio.start),
                self.dcache.start(),
                self.relay.start(self._relay_port),
            )
            stack.push_async_callback(asyncio.to_thread, self._stop_servers)
            stack.push_async_callback(self.dcache.stop)
            stack.push_async_callback(self.relay.stop)
            port = free_port()
            self._aim(port)
            for proxy in self.proxies.values():
                await stack.enter_async_context(proxy)
            self.relay.target = f"{self.hooks_url}/uploads"
            self.daemon = DaemonProcess(self.folder, self._settings(port), env=self.clock.env)
            self._held = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.daemon.lives:
            await self.daemon.kill()
        await self._held.aclose()

    @property
    def hooks_url(self) -> str:
        """Where senders post, by way of the proxy: the source's name follows."""
        return f"http://127.0.0.1:{self.proxies['hooks'].port}/sources"

    def _start_cluster(self) -> None:
        self.etcd.start()
        self.api.start()
        self.access.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        account = {"metadata": {"name": "default"}}
        self.access.call("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", account)

    def _stop_servers(self) -> None:
        for server in (self.api, self.etcd, self.kafka, self.minio):
            server.kill()

    def _aim(self, port: int) -> None:
        """Now that all servers have their ports and certificates."""
        proxy = self.proxies["cluster"]
        proxy.target = int(self.api.url.rpartition(":")[2])
        proxy.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        proxy.tls.load_cert_chain(self.api.pki.certificate, self.api.pki.key)
        proxy.target_tls = self.access.ssl_context
        self.proxies["dcache"].target = self.dcache.port
        self.proxies["hooks"].target = port

    def _settings(self, port: int) -> dict[str, Any]:
        at = {name: f"127.0.0.1:{proxy.port}" for name, proxy in self.proxies.items()}
        kubeconfig = self.folder / "kubeconfig"
        ClusterAccess(f"https://{at['cluster']}", self.access.token, self.access.ca, kubeconfig).write()
        every = LIMITS[""]
        return {
            "daemon": {"instance": "crash", "http": {"port": port}, "shutdown_grace": "4s"},
            "buffer": {
                "path": str(self.disk.path / "journal.db"),
                "max_events": max(150, self._events // 20),
            },
            "limits": {"rate": every.rate, "in_flight": every.in_flight},
            "kubernetes": {"namespace": NAMESPACE, "kubeconfig": str(kubeconfig)},
            "sources": self._sources(at),
            "routes": {name: _route(name, limit) for name, limit in LIMITS.items() if name},
        }

    def _sources(self, at: Mapping[str, str]) -> dict[str, Any]:
        access = self.minio.access
        return {
            "frames": {
                "kind": "kafka",
                "bootstrap": [at["kafka"]],
                "topics": [TOPIC],
                "group": GROUP,
                "static_member": MEMBER,
            },
            "hooks": {"kind": "cloudevents", "token": TOKEN},
            "uploads": {
                "kind": "minio",
                "endpoint": f"http://{at['minio']}",
                "access_key": access.access_key,
                "secret_key": access.secret_key,
                "buckets": [BUCKET],
                "webhook_token": TOKEN,
                "reconcile": f"{self._period}s",
            },
            "detector": {
                "kind": "dcache",
                "url": f"http://{at['dcache']}",
                "watch": {"data": {"path": "/data", "recursive": True}},
                "username": "admin",
                "password": "dickerelch",
                "reconcile": f"{self._period}s",
            },
            "drop": {"kind": "directory", "path": str(self.inbox), "quiet": "200ms"},
        }


def _route(name: str, limit: Limit) -> dict[str, Any]:
    run = {"kind": "job", "image": "localhost/none:0", "command": ["true"], "keep": f"{KEEP}s"}
    limits: dict[str, Any] = {"in_flight": limit.in_flight}
    if limit.rate is not None:
        limits |= {"rate": limit.rate, "burst": limit.burst}
    retry = {
        "attempts": 8,
        "backoff": "500ms",
        "max_backoff": "2s",
        "on": ["infrastructure", "deadline"],
        "exit_codes": [EXIT_CODE],
    }
    return {"from": [name], "payload": "cloudevent", "retry": retry, "run": run, **limits}
