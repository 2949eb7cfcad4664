"""The REST interface to channels and subscriptions: ``/api/v1/events`` (section 1)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from aiohttp import web

from .calls import Call, Requests
from .channels import CLIENT_ID_LENGTH, Channel, Registrar
from .inotify import Inotify, Payload
from .metronome import Metronome
from .replies import ApiError, json_reply
from .schemas import DESCRIPTIONS, EVENTS, SELECTORS
from .selector import Beat
from .streams import Sink
from .switches import Switches

FIRST_POLL, LONGEST_POLL = 0.05, 1.0


class EventsApi:
    """Handlers of ``/api/v1/events/...``."""

    def __init__(
        self, registrar: Registrar, inotify: Inotify, switches: Switches, requests: Requests
    ) -> None:
        self._registrar = registrar
        self._inotify = inotify
        self._switches = switches
        self._requests = requests

    async def handle(self, call: Call) -> web.StreamResponse:
        """Dispatch on what follows ``events``."""
        match (call.method, *call.segments):
            case ("GET", *rest) if not rest or rest == [""]:
                return self._metadata()
            case ("GET", "eventTypes", *rest):
                return self._event_types(rest)
            case (_, "channels"):
                return await self._channels(call)
            case (_, "channels", channel_id, *rest):
                return await self._channel(call, channel_id, rest)
        raise ApiError(404, "Not Found")

    def _metadata(self) -> web.Response:
        self._requests.count("events")
        life = {
            "minimum": 1,
            "maximum": self._switches.maximum_timeout,
            "default": self._switches.default_timeout,
        }
        return json_reply(
            {"channels": {"lifetimeWhenDisconnected": life, "maximumPerUser": self._switches.quota}}
        )

    def _event_types(self, rest: list[str]) -> web.Response:
        self._requests.count("eventTypes")
        match rest:
            case []:
                return json_reply(sorted(DESCRIPTIONS))
            case [kind] if kind in DESCRIPTIONS:
                return json_reply({"description": DESCRIPTIONS[kind]})
            case [kind, "selector"] if kind in SELECTORS:
                return json_reply(SELECTORS[kind])
            case [kind, "event"] if kind in EVENTS:
                return json_reply(EVENTS[kind])
        raise ApiError(404, "No such event type")

    async def _channels(self, call: Call) -> web.Response:
        self._requests.count(f"{call.method} channels")
        match call.method:
            case "GET":
                return self._list_channels(call)
            case "POST":
                return await self._new_channel(call)
        raise ApiError(405, "Method Not Allowed")

    def _list_channels(self, call: Call) -> web.Response:
        wanted = call.query.get("client-id")
        channels = self._registrar.of(
            call.login, lambda c: wanted is None or c.client_id == (wanted[:CLIENT_ID_LENGTH] or None)
        )
        return json_reply([channel.url(call.base) for channel in channels])

    async def _new_channel(self, call: Call) -> web.Response:
        body = await call.json()
        if body is None:
            body = {}
        if not isinstance(body, dict):
            raise ApiError(400, "Unable to interpret JSON: Cannot construct instance of NewChannelMetadata")
        for key in body:
            if key != "client-id":
                raise ApiError(400, f"'{key}' is an unrecognized field.")
        client_id = str(body.get("client-id") or "")[:CLIENT_ID_LENGTH] or None
        channel = self._registrar.new(call.login, client_id, call.base)
        return web.Response(status=201, headers={"Location": channel.url(call.base)})

    async def _channel(self, call: Call, channel_id: str, rest: list[str]) -> web.StreamResponse:
        match (call.method, *rest):
            case ("GET",):
                return await self._get_channel(call, channel_id)
            case ("PATCH",):
                return await self._modify(call, channel_id)
            case ("DELETE",):
                self._requests.count("DELETE channel")
                await self._registrar.get(channel_id, call.login).close()
                return web.Response(status=204)
            case ("GET", "subscriptions"):
                self._requests.count("GET subscriptions")
                channel = self._registrar.get(channel_id, call.login)
                return json_reply(
                    [channel.url(call.base, kind, name) for kind, name in channel.subscriptions]
                )
            case ("POST", "subscriptions", kind):
                return await self._subscribe(call, channel_id, kind)
            case (_, "subscriptions", kind, name):
                return await self._subscription(call, self._registrar.get(channel_id, call.login), kind, name)
        raise ApiError(404, "Not Found")

    async def _get_channel(self, call: Call, channel_id: str) -> web.StreamResponse:
        accept = call.request.headers.get("Accept", "*/*")
        if "text/event-stream" in accept or ("*/*" in accept and self._switches.ambiguous_is_stream):
            return await self._stream(call, channel_id)
        if "application/json" not in accept and "*/*" not in accept and "application/*" not in accept:
            raise ApiError(406, "Not Acceptable")
        self._requests.count("GET channel")
        return json_reply({"timeout": self._registrar.get(channel_id, call.login).timeout})

    async def _stream(self, call: Call, channel_id: str) -> web.StreamResponse:
        self._requests.count("stream")
        channel = self._registrar.get(channel_id, call.login)
        sink = Sink(self._switches)
        response = await sink.open(call.request)
        try:
            await channel.connect(sink, call.request.headers.get("Last-Event-ID"))
        except ApiError:  # closed meanwhile; the 200 is out already
            return response
        await sink.closed.wait()
        # A silent peer does not close either, and aiohttp has no event for a client that goes.
        pause = FIRST_POLL
        while sink.half_open and not _is_gone(call.request):
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL)
        return response

    async def _modify(self, call: Call, channel_id: str) -> web.Response:
        self._requests.count("PATCH channel")
        body = await call.json()
        channel = self._registrar.get(channel_id, call.login)
        if not isinstance(body, dict):
            raise ApiError(500, "Internal error: java.lang.NullPointerException")
        for key in body:
            if key != "timeout":
                raise ApiError(400, f"'{key}' is an unrecognized field.")
        timeout = body.get("timeout", 0)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise ApiError(400, "Unable to interpret JSON: Cannot deserialize value of type long")
        if timeout < 1:
            raise ApiError(400, "Timeout shorter than minimum allowed")
        if timeout > self._switches.maximum_timeout:
            raise ApiError(400, "Timeout longer than maximum allowed")
        channel.set_timeout(int(timeout))
        return web.Response(status=204)

    async def _subscription(self, call: Call, channel: Channel, kind: str, name: str) -> web.Response:
        self._requests.count(f"{call.method} subscription")
        found = channel.subscriptions.get((kind, name))
        match call.method:
            case "GET" if found is not None:
                return json_reply(found.described())
            case "DELETE" if found is not None:
                await channel.close_subscription(kind, name)
                return web.Response(status=204)
            case "GET" | "DELETE":
                raise ApiError(
                    404, "No such subscription" if call.method == "GET" else "Subscription not found"
                )
        raise ApiError(405, "Method Not Allowed")

    async def _subscribe(self, call: Call, channel_id: str, kind: str) -> web.Response:
        self._requests.count("POST subscription")
        body = await call.json()
        if body is None:
            raise ApiError(400, "Missing JSON entity in POST request")
        channel = self._registrar.get(channel_id, call.login)
        match kind:
            case "metronome":
                return await self._subscribe_metronome(call, channel, body)
            case "inotify":
                return await self._subscribe_inotify(call, channel, body)
        raise ApiError(400, f"Unknown event type: {kind}")

    async def _subscribe_metronome(self, call: Call, channel: Channel, body: object) -> web.Response:
        metronome = Metronome(Beat.parse(body), call.login.name, self._switches, self._registrar.rng)
        await channel.add("metronome", metronome)
        metronome.start(self._registrar.tasks, _receiver(channel, "metronome"))
        return _created(channel.url(call.base, "metronome", metronome.id))

    async def _subscribe_inotify(self, call: Call, channel: Channel, body: object) -> web.Response:
        receiver = _receiver(channel, "inotify")
        selection, is_new = self._inotify.select(channel.id, body, call.login, receiver)
        location = channel.url(call.base, "inotify", selection.id)
        if not is_new:
            return _created(location, 303 if self._switches.merge_answers_303 else 201)
        await channel.add("inotify", selection)
        if self._switches.hold_201 > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._switches.hold_201):
                    await selection.first_sent.wait()
        return _created(location)


def _receiver(channel: Channel, kind: str) -> Callable[[str, Payload | object], Awaitable[None]]:
    async def receive(name: str, payload: object) -> None:
        await channel.send_event(kind, name, payload)

    return receive


def _created(location: str, status: int = 201) -> web.Response:
    return web.Response(status=status, headers={"Location": location})


def _is_gone(request: web.BaseRequest) -> bool:
    return request.transport is None or request.transport.is_closing()
