"""More events than the journal may hold, while nothing runs: what is kept, what is said, what arrives."""

import asyncio
import contextlib
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.bench.cap import post
from tests.daemon import DaemonProcess, eventually, free_port
from tests.e2e.stores import make_topic, minio_source, notify, produce, s3_client
from tests.fakes.dcache import FakeDcache
from tests.servers.minio import MinIO
from tests.servers.workspace import Workspace

SOURCE = "upstream"
_PATIENCE = 1500.0
_BATCH = 100
_OK, _BUSY = 200, 503


class Receiver:
    """Where the events go: says no until it is opened."""

    def __init__(self) -> None:
        self.port = free_port()
        self.keys: set[str] = set()
        self._is_open = False

    def open(self) -> None:
        """From now on take everything."""
        self._is_open = True

    async def _take(self, request: web.Request) -> web.Response:
        if not self._is_open:
            return web.Response(status=503, headers={"Retry-After": "1"})
        self.keys.add(request.headers["ce-id"])
        return web.Response(status=204)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """For as long as this lasts."""
        app = web.Application()
        app.router.add_post("/", self._take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            yield
        finally:
            await runner.cleanup()


class Upstream(ABC):
    """What a kind of source reads from."""

    @contextlib.asynccontextmanager
    async def ready(self, port: int) -> AsyncIterator[None]:
        """Serve, with the daemon at that port."""
        del port
        yield

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The source's block."""

    @abstractmethod
    async def give(self, url: str, count: int) -> None:
        """Let so many things happen. A push upstream comes again until it is answered 2xx."""


class CloudEvents(Upstream):
    """A client that posts batches."""

    def settings(self) -> dict[str, Any]:
        """See :class:`Upstream`."""
        return {"kind": "cloudevents"}

    async def give(self, url: str, count: int) -> None:
        """See :class:`Upstream`."""
        address = f"{url}/sources/{SOURCE}"
        for first in range(0, count, _BATCH):
            size = min(_BATCH, count - first)
            while (status := await post(address, first, size, padding=300)) != _OK:
                assert status == _BUSY, status
                await asyncio.sleep(0.5)


class Files(Upstream):
    """A directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def settings(self) -> dict[str, Any]:
        """See :class:`Upstream`."""
        self._folder.mkdir()
        return {"kind": "directory", "path": str(self._folder), "quiet": "100ms"}

    async def give(self, url: str, count: int) -> None:
        """See :class:`Upstream`."""
        del url

        def write() -> None:
            for number in range(count):
                (self._folder / f"{number}.dat").write_bytes(b"%d" % number)

        await asyncio.to_thread(write)


class Records(Upstream):
    """A Kafka topic."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._topic = f"overload-{secrets.token_hex(4)}"

    @contextlib.asynccontextmanager
    async def ready(self, port: int) -> AsyncIterator[None]:
        """See :class:`Upstream`."""
        del port
        await make_topic(self._bootstrap, self._topic, 4)
        yield

    def settings(self) -> dict[str, Any]:
        """See :class:`Upstream`."""
        return {"kind": "kafka", "bootstrap": [self._bootstrap], "topics": [self._topic]}

    async def give(self, url: str, count: int) -> None:
        """See :class:`Upstream`."""
        del url
        values = [b'{"n":%d,"pad":"%s"}' % (number, b"x" * 300) for number in range(count)]
        await produce(self._bootstrap, self._topic, values, linger_ms=5)


class Objects(Upstream):
    """A MinIO of its own, which calls the daemon; what it cannot tell is found by listing."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._server: MinIO

    @contextlib.asynccontextmanager
    async def ready(self, port: int) -> AsyncIterator[None]:
        """See :class:`Upstream`."""
        queue = self._workspace.new_directory("minio-queue")
        env = {
            "MINIO_NOTIFY_WEBHOOK_ENABLE_DCNIOS": "on",
            "MINIO_NOTIFY_WEBHOOK_ENDPOINT_DCNIOS": f"http://127.0.0.1:{port}/sources/{SOURCE}",
            "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_DCNIOS": "hush",
            "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_DCNIOS": str(queue),
        }
        self._server = MinIO(self._workspace, env=env)
        await asyncio.to_thread(self._server.start)
        try:
            async with s3_client(self._server.access) as client:
                await client.create_bucket(Bucket="inbox")
            yield
        finally:
            await asyncio.to_thread(self._server.kill)

    def settings(self) -> dict[str, Any]:
        """See :class:`Upstream`."""
        return dict(minio_source(self._server.access, "inbox", webhook_token="hush", reconcile="10s"))

    async def give(self, url: str, count: int) -> None:
        """See :class:`Upstream`."""
        del url
        numbers = iter(range(count))
        async with s3_client(self._server.access) as client:
            await notify(client, "inbox", "DCNIOS")

            async def put() -> None:
                for number in numbers:
                    await client.put_object(Bucket="inbox", Key=f"{number}.dat", Body=b"x")

            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(put())


class Uploads(Upstream):
    """A dCache frontend: the fake."""

    def __init__(self) -> None:
        self._dcache: FakeDcache

    @contextlib.asynccontextmanager
    async def ready(self, port: int) -> AsyncIterator[None]:
        """See :class:`Upstream`."""
        del port
        async with FakeDcache() as self._dcache:
            await self._dcache.mkdir("/data")
            yield

    def settings(self) -> dict[str, Any]:
        """See :class:`Upstream`."""
        return {
            "kind": "dcache",
            "url": self._dcache.url,
            "watch": {"data": {"path": "/data"}},
            "username": "u",
            "password": "p",
            "reconcile": "10s",
        }

    async def give(self, url: str, count: int) -> None:
        """See :class:`Upstream`."""
        del url
        for number in range(count):
            await self._dcache.upload(f"/data/{number}.dat")


async def overload(folder: Path, upstream: Upstream, *, events: int, bound: int) -> dict[str, Any]:
    """Give the events to a daemon whose receiver says no, look, then open the receiver and wait for all.

    Returns what was seen: what the daemon said when it was full, its memory before and after, how many keys
    the receiver got.
    """
    port, receiver = free_port(), Receiver()
    async with upstream.ready(port), receiver.serving():
        daemon = DaemonProcess(
            folder,
            {
                "daemon": {"http": {"port": port}, "log": {"level": "warning"}},
                "buffer": {"max_events": bound},
                "limits": {"rate": None, "in_flight": None},
                "sources": {SOURCE: upstream.settings()},
                "routes": {
                    "all": {
                        "from": [SOURCE],
                        "run": {"kind": "http", "url": f"http://127.0.0.1:{receiver.port}/"},
                    }
                },
            },
        )
        await asyncio.to_thread(daemon.start)
        try:
            await daemon.until_ready()
            async with asyncio.TaskGroup() as group:
                giving = group.create_task(upstream.give(daemon.url, events))
                found = await _look(daemon)
                receiver.open()
                begun = time.monotonic()
                await eventually(lambda: _all_came(receiver, events), f"{events} events", within=_PATIENCE)
                await giving
            await daemon.until_ready()
            return found | {
                "arrived": len(receiver.keys),
                "seconds": round(time.monotonic() - begun, 1),
                "rss_mib_after": round(daemon.rss_mib(), 1),
            }
        finally:
            await daemon.kill()


async def _all_came(receiver: Receiver, events: int) -> bool:
    return len(receiver.keys) >= events


async def _look(daemon: DaemonProcess) -> dict[str, Any]:
    """Wait until the source waits for room, then take down what the daemon says."""

    async def waits() -> bool:
        return bool((await daemon.get("/api/v1/status"))["sources"][SOURCE]["state"] == "paused")

    await eventually(waits, "the source to wait for room", within=_PATIENCE)
    status, readiness = await daemon.get("/api/v1/status"), await daemon.get("/readyz")
    return {
        "readyz": readiness,
        "page": status["reasons"],
        "held": sum((await daemon.counts("all")).values()),
        "rss_mib_full": round(daemon.rss_mib(), 1),
    }
