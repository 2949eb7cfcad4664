"""A client of the fake that does by hand what the fact sheet says, for the fake's own tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from .server import FakeDcache

STREAM = {"Accept": "text/event-stream"}
ALICE = {"Authorization": aiohttp.encode_basic_auth("alice", "secret")}
BOB = {"Authorization": aiohttp.encode_basic_auth("bob", "secret")}


@dataclass(frozen=True)
class Event:
    kind: str
    id: int | None
    data: dict[str, Any]
    raw: bytes

    @property
    def mask(self) -> str:
        return ",".join(self.data["event"]["mask"])

    @property
    def told(self) -> tuple[str | None, str]:
        return self.data["event"].get("name"), self.mask


class Stream:
    """A reader of one text/event-stream response."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._buffer = b""

    async def next(self) -> Event:
        async with asyncio.timeout(10):
            while b"\n\n" not in self._buffer:
                chunk = await self._response.content.readany()
                if not chunk:
                    raise EOFError(self._buffer)
                self._buffer += chunk
        raw, _, self._buffer = self._buffer.partition(b"\n\n")
        fields = dict(line.split(b": ", 1) for line in raw.split(b"\n"))
        number = fields.get(b"id")
        return Event(
            fields[b"event"].decode(),
            None if number is None else int(number),
            json.loads(fields[b"data"]),
            raw + b"\n\n",
        )

    async def numbered(self) -> Event:
        while (event := await self.next()).id is None:
            pass
        return event

    async def system(self) -> str:
        while (event := await self.next()).kind != "SYSTEM":
            pass
        return str(event.data["type"])

    async def until(self, done: Callable[[Event], bool]) -> list[Event]:
        events = [await self.next()]
        while not done(events[-1]):
            events.append(await self.next())
        return events

    def close(self) -> None:
        self._response.close()


class Client:
    """A client that does by hand what the sheet says."""

    def __init__(self, dcache: FakeDcache, session: aiohttp.ClientSession) -> None:
        self.dcache = dcache
        self.session = session
        self.headers = ALICE
        self._streams: list[Stream] = []

    def close(self) -> None:
        for stream in self._streams:
            stream.close()

    async def call(self, method: str, url: str | URL, **options: Any) -> aiohttp.ClientResponse:
        headers = {**self.headers, **options.pop("headers", {})}
        target = url if isinstance(url, URL) else URL(url, encoded=True)
        response = await self.session.request(
            method, target, headers=headers, allow_redirects=False, **options
        )
        await response.read()
        return response

    async def channel(self, body: object = None) -> str:
        response = await self.call("POST", f"{self.dcache.api}/events/channels", json=body or {})
        assert response.status == 201, await response.text()
        return response.headers["Location"]

    async def connect(self, channel: str, last: object = None) -> Stream:
        headers = {**self.headers, **STREAM}
        if last is not None:
            headers["Last-Event-ID"] = str(last)
        response = await self.session.get(URL(channel, encoded=True), headers=headers)
        assert response.status == 200
        self._streams.append(Stream(response))
        return self._streams[-1]

    async def subscribe(self, channel: str, path: str, *flags: str) -> aiohttp.ClientResponse:
        body: dict[str, object] = {"path": path}
        if flags:
            body["flags"] = list(flags)
        return await self.call("POST", f"{channel}/subscriptions/inotify", json=body)

    async def watching(self, path: str, *flags: str) -> tuple[str, Stream]:
        await self.dcache.mkdir(path)
        channel = await self.channel()
        stream = await self.connect(channel)
        response = await self.subscribe(channel, path, *flags)
        assert response.status == 201, await response.text()
        return channel, stream

    async def dav(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        return await self.call(method, self.dcache.dav + path, **options)

    async def stat(self, path: str, query: str = "") -> Any:
        response = await self.call("GET", f"{self.dcache.api}/namespace{path}{query}")
        assert response.status == 200, await response.text()
        return await response.json()


@contextlib.asynccontextmanager
async def serving(dcache: FakeDcache) -> AsyncIterator[Client]:
    async with dcache, aiohttp.ClientSession() as session:
        with contextlib.closing(Client(dcache, session)) as client:
            yield client


async def detail(response: aiohttp.ClientResponse) -> str:
    return str((await response.json())["detail"])
