"""The one HTTP port. Everything a person, a probe or a push source says to the daemon comes through here."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from importlib import resources

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client.openmetrics import exposition

from dcnios_daemon.core.errors import DcniosError
from dcnios_daemon.core.ports import Inbound, Receiver
from dcnios_daemon.core.settings import Secret
from dcnios_daemon.telemetry.health import Health
from dcnios_daemon.telemetry.metrics import REGISTRY
from dcnios_daemon.web import access
from dcnios_daemon.web.api import Api

MAX_BODY = 8 * 1024 * 1024
"""Bytes of a body at ``/sources/<name>``; larger is answered 413."""
BODY_WITHIN = 30.0
"""Seconds for such a body to arrive; slower is answered 408."""

_PAGE_TYPES = {"index.html": "text/html", "page.js": "text/javascript", "page.css": "text/css"}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
_ADMIN = "\0admin"
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Door(msgspec.Struct, frozen=True):
    """A push source's way in."""

    receiver: Receiver
    token: Secret | None = None
    """What callers must present (:func:`~dcnios_daemon.web.access.presents`); None: anyone may."""


_OPEN = frozenset({"/livez", "/readyz", "/metrics"})
_OPEN_BELOW = ("/page/", "/sources/")


class WebServer:
    """Serves until left. Everything is mounted before entering."""

    def __init__(self, *, health: Health, api: Api, admin_token: Secret | None) -> None:
        self._health = health
        self._api = api
        self._admin = admin_token
        self._doors: dict[str, Door] = {}
        self._tokens: dict[str, str] = {}
        self._host = ""

    def mount(self, source: str, door: Door) -> None:
        """Lead ``/sources/<source>`` to it."""
        self._doors[source] = door

    @contextlib.asynccontextmanager
    async def listen(self, host: str, port: int) -> AsyncIterator[int]:
        """Listen while inside; yields the port (of interest with port 0).

        Raises:
            DcniosError: The address cannot be had; says which.
        """
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/page/{name}", self._page),
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.route("*", "/sources/{name}", self._source),
                *self._api.routes(),
            ]
        )
        self._host = host
        await self._read_tokens()
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=2.0, lingering_time=2.0
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            try:
                await site.start()
            except OSError as error:
                raise DcniosError(
                    f"cannot listen on {host}:{port} (daemon.http): {error.strerror}"
                ) from error
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    async def _read_tokens(self) -> None:
        named = {name: door.token for name, door in self._doors.items() if door.token}
        if self._admin:
            named[_ADMIN] = self._admin
        for name, secret in named.items():
            try:
                self._tokens[name] = await asyncio.to_thread(secret.reveal)
            except OSError as error:
                raise DcniosError(f"cannot read the token file {error.filename}: {error.strerror}") from error
            if not self._tokens[name].strip():
                raise DcniosError(f"the token file {secret.path} is empty")

    # --- who may ----------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Probes, metrics and sources are open (sources have their own tokens). Reading all else from beyond
        this machine needs the admin token; changing anything always does, and only as Bearer: that a browser
        never sends by itself.
        """
        try:
            refusal = None if _is_open(request) else self._refusal(request)
            response = refusal or await handler(request)
        except web.HTTPException as error:
            words = error.text if error.text and not error.empty_body else error.reason
            allow = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
            response = _error(HTTPStatus(error.status), words, allow)
        except DcniosError as error:
            response = _error(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        response.headers.update(_HEADERS)
        return response

    def _refusal(self, request: web.Request) -> web.Response | None:
        changing = request.method not in {"GET", "HEAD"}
        admin = self._tokens.get(_ADMIN)
        if changing and admin is None:
            return _error(HTTPStatus.FORBIDDEN, "set daemon.http.admin_token to allow changes over HTTP")
        if not changing and access.is_local(request, self._host):
            return None
        if admin is not None and access.bears(request, admin):
            return None
        if admin is not None and not changing and access.has_password(request, admin):
            return None
        challenge = {} if changing else {"WWW-Authenticate": 'Basic realm="dcnios"'}
        return _error(HTTPStatus.UNAUTHORIZED, "the admin token is missing or wrong", challenge)

    # --- what for ---------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "index.html")
        if name not in _PAGE_TYPES:
            raise web.HTTPNotFound
        text = await asyncio.to_thread(
            resources.files("dcnios_daemon.web").joinpath("page", name).read_text, "utf-8"
        )
        return web.Response(text=text, content_type=_PAGE_TYPES[name], headers=_PAGE_HEADERS)

    async def _livez(self, _: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _readyz(self, _: web.Request) -> web.Response:
        reasons = dict(self._health.reasons())
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=status)

    async def _metrics(self, _: web.Request) -> web.Response:
        await self._api.measure()
        body = exposition.generate_latest(REGISTRY)  # type: ignore[no-untyped-call]
        return web.Response(body=body, headers={"Content-Type": exposition.CONTENT_TYPE_LATEST})

    async def _source(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        door = self._doors.get(name)
        if door is None:
            return _error(HTTPStatus.NOT_FOUND, f"no push source is called {name!r}")
        # A sender asks whether it is welcome before it shows a token, and without a body.
        is_question = request.method == "OPTIONS"
        refusal = None if is_question else self._not_from(request, name, door)
        if refusal is not None:
            return refusal
        try:
            body = b"" if is_question else await _body(request)
        except web.HTTPRequestEntityTooLarge:
            return _error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {MAX_BODY} bytes at most")
        except TimeoutError:
            slow = _error(HTTPStatus.REQUEST_TIMEOUT, f"the body took more than {BODY_WITHIN:g} s")
            slow.force_close()
            return slow
        reply = await door.receiver.receive(
            Inbound(
                method=request.method,
                headers={key.lower(): value for key, value in request.headers.items()},
                body=body,
                query=dict(request.query),
            )
        )
        return web.Response(status=reply.status, text=reply.body, headers=dict(reply.headers))

    def _not_from(self, request: web.Request, name: str, door: Door) -> web.Response | None:
        """Why the source takes nothing from this caller; None: it may."""
        if door.token and not access.presents(request, self._tokens[name]):
            return _error(HTTPStatus.UNAUTHORIZED, f"source {name!r}: the token is missing or wrong")
        if door.token is None and access.is_from_a_page(request):
            return _error(HTTPStatus.FORBIDDEN, f"source {name!r} has no token: web pages may not feed it")
        return None


async def _body(request: web.Request) -> bytes:
    announced = request.content_length or 0
    if announced > MAX_BODY:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY, announced)
    async with asyncio.timeout(BODY_WITHIN):
        return await request.read()


def _is_open(request: web.Request) -> bool:
    """What is not named here asks for the admin token: a new address is shut until someone opens it."""
    return request.path in _OPEN or request.path.startswith(_OPEN_BELOW)


def _error(status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": message}, status=status, headers=dict(headers or {}))
