"""A WebDAV door under ``/dav``: what is done here produces the events of section 3."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp import web

from .calls import Call, Requests, origin
from .dav_xml import finite_depth, multistatus
from .macaroon_door import MACAROON_REQUEST, MacaroonDoor
from .namespace import (
    FileExistsInWayError,
    Inode,
    Namespace,
    NamespaceError,
    NoSuchFileError,
    NotDirectoryError,
    join,
)
from .pool import BLOCK, Pool
from .storage import Storage, Upload

METHODS = "OPTIONS, GET, HEAD, PUT, DELETE, MKCOL, MOVE, PROPFIND, POST"


class DoorError(Exception):
    """A refusal of the door: a status with a short text."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status


class Door:
    """Handlers of ``/dav/...``."""

    def __init__(
        self,
        namespace: Namespace,
        storage: Storage,
        pool: Pool,
        macaroons: MacaroonDoor,
        requests: Requests,
    ) -> None:
        self._namespace = namespace
        self._storage = storage
        self._pool = pool
        self._macaroons = macaroons
        self._requests = requests
        self._handlers = {
            "GET": self._get,
            "HEAD": self._get,
            "PUT": self._put,
            "DELETE": self._delete,
            "MKCOL": self._mkcol,
            "MOVE": self._move,
            "PROPFIND": self._propfind,
            "OPTIONS": self._options,
        }

    async def handle(self, call: Call) -> web.StreamResponse:
        """Dispatch on the method."""
        path = call.login.resolve("/".join(call.segments))
        if call.method == "POST" and call.request.headers.get("Content-Type") == MACAROON_REQUEST:
            self._requests.count("macaroon")
            return await self._macaroons.handle(call)
        self._requests.count(f"{call.method} dav")
        handler = self._handlers.get(call.method, self._not_allowed)
        try:
            return await handler(call, path)
        except DoorError as error:
            return web.Response(status=error.status, text=str(error))
        except NoSuchFileError:
            return web.Response(status=404, text="File not found")
        except NamespaceError as error:
            return web.Response(status=409, text=str(error))

    async def _not_allowed(self, call: Call, path: str) -> web.Response:
        return web.Response(status=405, headers={"Allow": METHODS})

    async def _options(self, call: Call, path: str) -> web.Response:
        return web.Response(headers={"Allow": METHODS, "DAV": "1", "MS-Author-Via": "DAV"})

    async def _get(self, call: Call, path: str) -> web.StreamResponse:
        _permit(call, "READ_METADATA" if call.method == "HEAD" else "DOWNLOAD", path)
        inode = self._namespace.find(path)
        if inode.is_dir:
            return self._index(call, inode, path)
        if inode.size is None:
            raise DoorError(404, "File not yet uploaded")
        if inode.early_404 > 0 and call.method == "GET":  # issue #5285
            inode.early_404 -= 1
            raise DoorError(404, "File not found")
        if call.method == "GET" and self._storage.switches.redirect_reads:
            location = origin(call.request, self._storage.switches) + self._pool.url(inode)
            return web.Response(status=302, headers={"Location": location})
        return await self._pool.reply(call.request, inode)

    def _index(self, call: Call, inode: Inode, path: str) -> web.Response:
        _permit(call, "LIST", path)
        names = "\n".join(child.name for child in self._storage.list(inode))
        return web.Response(text=names + "\n")

    async def _put(self, call: Call, path: str) -> web.Response:
        _permit(call, "UPLOAD", path)
        replaces = self._namespace.exists(path)
        if replaces:
            _permit(call, "DELETE", path)
            if self._namespace.find(path).is_dir:
                raise DoorError(409, "Is a directory")
        self._storage.mkdir(join(path, ".."), owner=call.login.uid, parents=True)
        if call.request.headers.get("Expect", "").lower() == "100-continue":
            await call.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            call.request.writer.output_size = 0
        upload = self._storage.begin(path, owner=call.login.uid)
        try:
            await _receive(call, upload)
        except BaseException:
            upload.abort()
            raise
        inode = upload.finish()
        return web.Response(status=204 if replaces else 201, headers={"ETag": f'"{inode.pnfsid}"'})

    async def _delete(self, call: Call, path: str) -> web.Response:
        _permit(call, "DELETE", path)
        inode = self._namespace.find(path)
        if inode.parent is None:
            raise DoorError(403, "The root stays")
        self._storage.delete_tree(inode)
        return web.Response(status=204)

    async def _mkcol(self, call: Call, path: str) -> web.Response:
        _permit(call, "MANAGE", join(path, ".."))
        if await call.request.read():
            raise DoorError(415)
        if self._namespace.exists(path):
            raise DoorError(405, "Exists")
        try:
            self._storage.mkdir(path, owner=call.login.uid)
        except NoSuchFileError:
            raise DoorError(409, "No parent") from None
        return web.Response(status=201)

    async def _move(self, call: Call, path: str) -> web.Response:
        target = _destination(call)
        overwrite = call.request.headers.get("Overwrite", "T").upper() != "F"
        _permit(call, "MANAGE", join(path, ".."))
        _permit(call, "MANAGE", join(target, ".."))
        self._namespace.find(path)
        replaces = self._namespace.exists(target)
        if replaces and not overwrite:
            raise DoorError(412, "Destination exists")
        if replaces:
            _permit(call, "DELETE", target)
        try:
            self._storage.move(path, target)
        except (NoSuchFileError, NotDirectoryError, FileExistsInWayError) as error:
            raise DoorError(409, str(error)) from None
        return web.Response(status=204 if replaces else 201)

    async def _propfind(self, call: Call, path: str) -> web.Response:
        await call.request.read()
        _permit(call, "READ_METADATA", path)
        inode = self._namespace.find(path)
        depth = finite_depth(call.request.headers.get("Depth", "infinity"))
        if depth is None:
            raise DoorError(403, "Depth: infinity is not supported")
        inodes = [inode]
        if depth == 1 and inode.is_dir:
            _permit(call, "LIST", path)
            inodes += self._storage.list(inode)
        body = multistatus(inodes, hrefs_below="/dav", root=call.login.root)
        return web.Response(status=207, body=body, content_type="application/xml", charset="utf-8")


async def _receive(call: Call, upload: Upload) -> None:
    """Read the body; a length that is not kept, or a broken connection, is an aborted upload."""
    expected = call.request.content_length
    total = 0
    try:
        async for chunk in call.request.content.iter_chunked(BLOCK):
            total += len(chunk)
            if call.login.max_upload is not None and total > call.login.max_upload:
                raise DoorError(413, "max-upload")
            upload.write(chunk)
    except (aiohttp.ClientError, asyncio.IncompleteReadError, ConnectionError) as error:
        raise DoorError(400, f"Upload broken off: {error}") from None
    if expected is not None and total != expected:
        raise DoorError(400, "Upload is incomplete")


def _destination(call: Call) -> str:
    raw = urlsplit(call.request.headers.get("Destination", "")).path
    names = raw.split("/")
    if names[:2] != ["", "dav"]:
        raise DoorError(400, "Bad Destination")
    return call.login.resolve("/".join(unquote(name) for name in names[2:]))


def _permit(call: Call, activity: str, path: str) -> None:
    if not call.login.permits(activity, path):
        raise DoorError(403, f"Restricted: {activity}")
