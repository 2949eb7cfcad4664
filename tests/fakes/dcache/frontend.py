"""From a raw HTTP request to the right interface: limiter, login, errors. No protocol of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from .auth import Directory, Login, LoginFailedError, challenge, log_in
from .calls import Call, Requests, origin, split_target
from .door import Door
from .events_api import EventsApi
from .limiter import Limiter
from .namespace_api import NamespaceApi
from .pool import Pool
from .replies import ApiError, error_reply, json_reply
from .switches import Switches

API = ("api", "v1")


class Frontend:
    """The handler of every request."""

    def __init__(
        self,
        parts: tuple[EventsApi, NamespaceApi, Door, Pool],
        directory: Directory,
        switches: Switches,
        requests: Requests,
        before: Callable[[str, str], Awaitable[bool]],
    ) -> None:
        """``before`` is called first with method and path; False refuses as the limiter does."""
        self._events, self._namespace, self._door, self._pool = parts
        self._directory = directory
        self._switches = switches
        self._requests = requests
        self._before = before
        self.limiter = Limiter(switches)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self._requests.add(request.method, request.raw_path)
        refusal = self.limiter.refusal(request)
        if refusal is None and not await self._before(request.method, request.raw_path):
            refusal = self.limiter.busy(1)
        if refusal is not None:
            self._requests.count("429")
            return refusal
        response = await self._answer(request)
        self.limiter.answered(request, response.status)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        segments, query = split_target(request)
        if segments == ["fake", "requests"]:
            return json_reply({"counts": self._requests.counts, "listed": self._requests.listed})
        if segments[:1] == ["pool"]:
            return await self._pool.handle(request, query)
        try:
            login = log_in(request, self._directory, self._switches, query.get("authz"))
            self._refuse(login)
        except LoginFailedError:
            return web.Response(status=401, headers=challenge(request))
        is_door = segments[:1] == ["dav"]
        if login is None:
            return self._anonymous(request, is_door=is_door)
        inner = segments[1:] if is_door else segments[3:]
        call = Call(request, inner, query, login, origin(request, self._switches) + "/api/v1")
        if is_door:
            return await self._door.handle(call)
        try:
            return await self._rest(call, segments)
        except ApiError as error:
            return error_reply(error, self._switches, _error_type(request))

    def _refuse(self, login: Login | None) -> None:
        if login is not None and self._switches.refuse_logins > 0:
            self._switches.refuse_logins -= 1
            raise LoginFailedError("gPlazma is away")

    async def _rest(self, call: Call, segments: list[str]) -> web.StreamResponse:
        if tuple(segments[:2]) != API:
            raise ApiError(404, "HTTP 404 Not Found")
        match segments[2:3]:
            case ["events"]:
                return await self._events.handle(call)
            case ["namespace"]:
                return await self._namespace.handle(call)
            case ["user"]:
                return json_reply(_describe_user(call.login))
        raise ApiError(404, "HTTP 404 Not Found")

    def _anonymous(self, request: web.BaseRequest, *, is_door: bool) -> web.Response:
        if is_door:
            return web.Response(status=401, headers=challenge(request))
        reply = error_reply(ApiError(401), self._switches, _error_type(request))
        reply.headers.update(challenge(request))
        return reply


def _describe_user(login: Login) -> dict[str, object]:
    return {
        "status": "AUTHENTICATED",
        "uid": login.uid,
        "gids": [login.uid],
        "username": login.name,
        "rootDirectory": login.root,
        "homeDirectory": "/",
    }


def _error_type(request: web.BaseRequest) -> str:
    """An error on the stream URL is labelled as a stream (section 1, "Errors")."""
    is_stream = "text/event-stream" in request.headers.get("Accept", "")
    return "text/event-stream" if is_stream else "application/json"
