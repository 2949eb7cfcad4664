"""The server's end of one text/event-stream connection (section 2)."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Protocol

from aiohttp import web

from .switches import Switches


def frame(kind: str, data: str, number: int | None = None) -> bytes:
    """Return one event, byte for byte as Jersey's OutboundEventWriter writes it."""
    number_line = "" if number is None else f"id: {number}\n"
    return f"event: {kind}\n{number_line}data: {data}\n\n".encode()


class Stream(Protocol):
    """Where a channel's events go."""

    half_open: bool

    async def send(self, data: bytes, *, numbered: bool) -> bool:
        """Write one event; False if the client turns out to be gone."""

    def close(self) -> None:
        """End it properly."""

    def drop(self, *, reset: bool = True) -> None:
        """Break it."""


class Deaf:
    """A client that connects, takes one event and is gone."""

    half_open = False

    def __init__(self) -> None:
        self._is_there = True

    async def send(self, data: bytes, *, numbered: bool) -> bool:
        """Take it and go."""
        await asyncio.sleep(0)
        was_there, self._is_there = self._is_there, False
        return was_there

    def close(self) -> None:
        """Go."""
        self._is_there = False

    def drop(self, *, reset: bool = True) -> None:
        """Go."""
        self._is_there = False


class Sink:
    """One connected client; silent for ever once it is half open."""

    def __init__(self, switches: Switches) -> None:
        self.closed = asyncio.Event()
        self.half_open = False
        self._switches = switches
        self._response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        self._transport: asyncio.Transport | None = None
        self._numbered = 0

    async def open(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send the headers, before any event."""
        self._transport = request.transport
        if self._switches.socket_buffer > 0 and self._transport is not None:
            self._transport.set_write_buffer_limits(high=self._switches.socket_buffer)
            peer: socket.socket = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._switches.socket_buffer)
        await self._response.prepare(request)
        return self._response

    async def send(self, data: bytes, *, numbered: bool) -> bool:
        """Write one event; False if the client turns out to be gone."""
        if self.half_open:
            return True
        if self.closed.is_set():
            return False
        if numbered:
            self._numbered += 1
            if self._switches.lose_every > 0 and self._numbered % self._switches.lose_every == 0:
                return True
            if 0 < self._switches.half_open_after < self._numbered:
                self.half_open = True
                return True
            if 0 < self._switches.drop_after < self._numbered:
                await self._write(data[: len(data) // 2])
                self.drop(reset=False)
                return False
        return await self._write(data)

    async def _write(self, data: bytes) -> bool:
        try:
            await self._response.write(data)
        except ConnectionError:
            self.closed.set()
            return False
        return True

    def close(self) -> None:
        """End the response properly."""
        self.closed.set()

    def drop(self, *, reset: bool = True) -> None:
        """Break the connection; the server notices at its next write (section 2, "Expiry").

        A reset takes with it what the client has not read; without, the client sees a cut body.
        """
        if self._transport is None or self._transport.is_closing():
            return
        if reset:
            peer: socket.socket = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
