"""An HTTP front before a real API server: it passes requests on, or answers itself as a server in trouble."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.servers.access import ClusterAccess

Trouble = Callable[[web.Request], web.Response | None]
"""The answer in the server's place; None: ask the server."""


def status(code: int, reason: str, message: str, *, retry_after: int | None = None) -> web.Response:
    """An answer as the API server gives it."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    body = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code, headers=headers)


class ApiFront:
    """Speaks to the API server as its user; whoever speaks to the front needs one of ``tokens``."""

    def __init__(self, access: ClusterAccess) -> None:
        self._access = access
        self.tokens = {"good"}
        self.trouble: Trouble | None = None
        self.asked_for_jobs = 0
        """Creations of Jobs that came."""
        self.turned_away = 0
        """Creations of Jobs that the front answered itself."""
        self.at_once = 0
        """Creations of Jobs that are being answered."""
        self.most_at_once: list[int] = []
        """``at_once`` at each creation, in their order."""
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """On a port of loopback."""
        application = web.Application()
        application.router.add_route("*", "/{rest:.*}", self._handle)
        connector = aiohttp.TCPConnector(ssl=self._access.ssl_context, limit=0)
        async with aiohttp.ClientSession(connector=connector) as self._http, TestServer(application) as made:
            self.url = str(made.make_url("/")).rstrip("/")
            yield

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST" or not request.path.endswith("/jobs"):
            return await self._answer(request)
        self.asked_for_jobs += 1
        self.at_once += 1
        self.most_at_once.append(self.at_once)
        try:
            return await self._answer(request)
        finally:
            self.at_once -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return status(401, "Unauthorized", "Unauthorized")
        if self.trouble is not None and (answer := self.trouble(request)) is not None:
            self.turned_away += 1
            return answer
        return await self._pass_on(request)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        headers: dict[str, Any] = {
            name: request.headers[name] for name in ("Accept", "Content-Type") if name in request.headers
        }
        async with self._http.request(
            request.method,
            self._access.url + request.path_qs,
            data=await request.read() or None,
            headers=headers | {"Authorization": f"Bearer {self._access.token}"},
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            reply = web.StreamResponse(status=answer.status)
            reply.content_type = answer.content_type
            await reply.prepare(request)
            async for piece in answer.content.iter_any():
                await reply.write(piece)
            await reply.write_eof()
            return reply
