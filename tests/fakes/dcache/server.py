"""The fake dCache as tests use it: a real server on a loopback port, and hands to work it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from types import TracebackType
from typing import Self

from aiohttp import web

from .auth import Directory
from .calls import Requests
from .channels import Registrar
from .chaos import Chaos
from .crowd import Crowd
from .door import Door
from .events_api import EventsApi
from .frontend import Frontend
from .inotify import Inotify
from .macaroon_door import MacaroonDoor
from .namespace import Inode, Namespace
from .namespace_api import NamespaceApi
from .notifier import Notifier
from .pool import Pool
from .storage import Storage
from .switches import Switches
from .tasks import Tasks
from .wire import Wire


class FakeDcache:
    """One frontend with its door, pools and name space; ``async with FakeDcache() as dcache:``."""

    def __init__(
        self,
        *,
        switches: Switches | None = None,
        directory: Directory | None = None,
        chaos: Chaos | None = None,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        seed: int = 0,
    ) -> None:
        """Prepare a server; ``seed`` fixes every id it will give out."""
        self.switches = switches or Switches()
        self.directory = directory or Directory()
        self.requests = Requests()
        self.chaos = chaos
        self.host = "127.0.0.1"
        self.port = port
        self.rng = random.Random(seed)
        self._tls = tls
        self.wire: Wire | None = None
        """Where it listens instead of on a port, if set before the start."""
        self._tasks = Tasks()
        self._runner: web.ServerRunner | None = None
        self._server: web.Server | None = None
        self._assemble()

    def _assemble(self) -> None:
        self.namespace = Namespace(self.rng)
        self.inotify = Inotify(self.namespace, self.switches, self._tasks, self.rng)
        self.notifier = Notifier(self.switches, self.inotify, self._tasks)
        self.inotify.on_change = self.notifier.watches_changed
        self.storage = Storage(self.namespace, self.notifier, self.switches, self.rng)
        self.registrar = Registrar(self.switches, self._tasks, self.rng)
        macaroons = MacaroonDoor(self.directory, self.switches, self.rng)
        pool = Pool(self.storage, self.rng)
        parts = (
            EventsApi(self.registrar, self.inotify, self.switches, self.requests),
            NamespaceApi(self.namespace, self.storage, self.requests),
            Door(self.namespace, self.storage, pool, macaroons, self.requests),
            pool,
        )
        self._frontend = Frontend(parts, self.directory, self.switches, self.requests, self._before)

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def api(self) -> str:
        """The base of the REST interface."""
        return f"{self.url}/api/v1"

    @property
    def dav(self) -> str:
        """The base of the WebDAV door."""
        return f"{self.url}/dav"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after :meth:`stop` on the same port as before, with the same files."""
        server = web.Server(self._frontend.handle, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await self._runner.setup()
        self._server = server
        if self.wire is not None:
            self.wire.listen(server)
            return
        site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self, *, crash: bool = False) -> None:
        """Go down: channels are lost, files stay; a crash does not say SHUTDOWN first."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        if self.wire is not None:
            self.wire.listen(None)
        for site in list(runner.sites):
            await site.stop()
        if crash:
            self._abort_connections()
        await self._lose_channels()
        await _let_streams_end()
        self._abort_connections()
        await runner.cleanup()
        await self._tasks.close()

    async def restart(self, *, crash: bool = False) -> None:
        """Restart the frontend: all channels gone; files and the door stay (section 2, "Restart")."""
        if crash:
            self._abort_connections(spare_door=True)
        await self._lose_channels()
        await _let_streams_end()
        self._abort_connections(spare_door=True)

    async def upload(self, path: str, data: bytes = b"data") -> Inode:
        """Upload through a door, making missing parents."""
        await self._between(path)
        inode = self.storage.put(path, data)
        await asyncio.sleep(0)
        return inode

    async def overwrite(self, path: str, data: bytes = b"data") -> Inode:
        """Upload over an existing file, which must be there: a new pnfsId."""
        self.namespace.find(path)
        return await self.upload(path, data)

    async def upload_srm(self, path: str, data: bytes = b"data") -> Inode:
        """Upload as SRM does: only IN_MOVED_TO."""
        await self._between(path)
        inode = self.storage.put_srm(path, data)
        await asyncio.sleep(0)
        return inode

    async def abort_upload(self, path: str, data: bytes = b"half") -> None:
        """Begin an upload and break it off."""
        await self._between(path)
        upload = self.storage.begin(path)
        upload.write(data)
        upload.abort()
        await asyncio.sleep(0)

    async def mkdir(self, path: str) -> Inode:
        """Make a directory and its missing parents; one that exists is fine."""
        await self._step()
        inode = self.storage.mkdir(path, parents=True)
        await asyncio.sleep(0)
        return inode

    async def crowd(self, path: str, count: int) -> None:
        """Let a directory have so many complete files more, which cost nothing while nobody asks."""
        directory = await self.mkdir(path)
        directory.children = Crowd(directory, count)

    async def move(self, source: str, target: str) -> Inode:
        """Rename a file or directory, over a file that exists."""
        await self._between(target)
        inode = self.storage.move(source, target)
        await asyncio.sleep(0)
        return inode

    async def delete(self, path: str) -> None:
        """Delete a file, or a directory with all below."""
        await self._step()
        self.storage.delete_tree(self.namespace.find(path))
        await asyncio.sleep(0)

    async def touch_nfs(self, path: str) -> Inode:
        """Make an empty file over NFS."""
        await self._between(path)
        inode = self.storage.touch_nfs(path)
        await asyncio.sleep(0)
        return inode

    async def flush(self, path: str, *, keep_replica: bool = False) -> None:
        """Write a file to tape; its disk replica goes unless kept."""
        await self._step()
        self.storage.flush(self.namespace.find(path), keep_replica=keep_replica)
        await asyncio.sleep(0)

    async def stage(self, path: str) -> None:
        """Bring a file back from tape."""
        await self._step()
        self.storage.stage(self.namespace.find(path))
        await asyncio.sleep(0)

    def files(self) -> dict[str, bytes]:
        """Return every complete file: path and bytes."""
        return {i.path(): i.data for i in self.namespace.walk() if not i.is_dir and i.size is not None}

    def streams(self) -> int:
        """The number of streams that the server believes to be connected."""
        return sum(channel.sink is not None for channel in self.registrar.all())

    def drop_streams(self) -> int:
        """Break all streams as a network does; the server notices at its next write."""
        sinks = [channel.sink for channel in self.registrar.all() if channel.sink is not None]
        for sink in sinks:
            sink.drop()
        return len(sinks)

    def freeze_streams(self) -> int:
        """Make all streams half open: silent for ever, not closed (section 2, NAT drop)."""
        sinks = [channel.sink for channel in self.registrar.all() if channel.sink is not None]
        for sink in sinks:
            sink.half_open = True
        return len(sinks)

    def expire_channels(self) -> int:
        """Expire now every channel whose client is known to be gone."""
        return self.registrar.expire()

    def forgive_clients(self) -> None:
        """The rate limiter forgets who was to be blocked."""
        self._frontend.limiter.forgive()

    def drop_unsent_events(self) -> int:
        """Lose what the sources have queued (section 3, "Silent loss"); return how many."""
        return self.notifier.drop_unsent()

    def overflow(self) -> None:
        """Let a source's queue overflow: IN_Q_OVERFLOW on every subscription."""
        self.inotify.accept_overflow()

    async def _lose_channels(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self.registrar.shut_down()
        self.inotify.clear()
        self.notifier.drop_unsent()

    def _abort_connections(self, *, spare_door: bool = False) -> None:
        for connection in self._server.connections if self._server is not None else ():
            transport, request = connection.transport, connection._current_request
            at_door = request is not None and request.raw_path.startswith("/dav")
            if transport is not None and not (spare_door and at_door):
                transport.abort()

    async def _between(self, path: str) -> None:
        await self._step()
        self.storage.mkdir(path + "/..", parents=True)

    async def _step(self) -> None:
        if self.chaos is not None:
            await self.chaos.step(self)

    async def _before(self, method: str, path: str) -> bool:
        return self.chaos is None or await self.chaos.before_request(self, method, path)


async def _let_streams_end() -> None:
    """Give the handlers of streams the few turns of the loop that a proper end of the body takes."""
    for _ in range(5):
        await asyncio.sleep(0)
