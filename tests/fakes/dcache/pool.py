"""A pool: sends the bytes of files, for the door or by redirect from it (webdav.redirect.on-read)."""

from __future__ import annotations

import random
import uuid
from urllib.parse import quote

from aiohttp import web

from .namespace import Inode
from .ranges import BadRangeError, byte_range, http_date
from .storage import Storage

BLOCK = 256 * 1024
TICKET = "dcache-http-uuid"


class Pool:
    """Serves whole files and ranges; a redirected client shows a ticket instead of a login."""

    def __init__(self, storage: Storage, rng: random.Random) -> None:
        self._storage = storage
        self._rng = rng
        self._tickets: dict[str, Inode] = {}

    def url(self, inode: Inode) -> str:
        """Return path and query by which anybody may read ``inode``."""
        ticket = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        self._tickets[ticket] = inode
        return f"/pool{quote(inode.path())}?{TICKET}={ticket}"

    async def handle(self, request: web.BaseRequest, query: dict[str, str]) -> web.StreamResponse:
        """Answer a redirected client."""
        inode = self._tickets.get(query.get(TICKET, ""))
        if inode is None or request.method not in {"GET", "HEAD"}:
            return web.Response(status=400, text="Request is missing a valid UUID")
        return await self.reply(request, inode)

    async def reply(self, request: web.BaseRequest, inode: Inode) -> web.StreamResponse:
        """Send a file, or the range of it that the client wants."""
        size = inode.size or 0
        try:
            start, end = byte_range(request.headers.get("Range"), size)
        except BadRangeError:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        headers = {
            "Content-Length": str(end - start),
            "Content-Type": "application/octet-stream",
            "ETag": f'"{inode.pnfsid}"',
            "Last-Modified": http_date(inode.mtime),
            "Accept-Ranges": "bytes",
        }
        is_whole = end - start == size
        if not is_whole:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        response = web.StreamResponse(status=200 if is_whole else 206, headers=headers)
        await response.prepare(request)
        if request.method == "GET":
            await self._send(response, inode, start, end)
        return response

    async def _send(self, response: web.StreamResponse, inode: Inode, start: int, end: int) -> None:
        if not inode.locations:
            self._storage.stage(inode)
        closed = self._storage.opened_for_reading(inode)
        data = memoryview(inode.data)
        try:
            for first in range(start, end, BLOCK):
                await response.write(bytes(data[first : min(first + BLOCK, end)]))
        finally:
            closed()
