"""A TCP proxy that can be told to be a bad network, or to stand before a bad server; for any protocol.

Where the protocol is TLS it can end that on both sides, so that faults meet what is inside.
"""

import asyncio
import contextlib
import enum
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

_PIECE = 65536
_AT_ONCE = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing is a reset."""


class _Fault(enum.Enum):
    SLOW = enum.auto()
    LOST = enum.auto()
    TRUNCATED = enum.auto()
    GARBAGE = enum.auto()
    HALF_OPEN = enum.auto()
    ANSWERED = enum.auto()


class _Link:
    """One connection, of two halves."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.is_dead = False
        """Half open: whatever is sent into it is gone."""


class FaultyProxy:
    """Stands on a port of loopback before a server.

    Args:
        target: The server's port on loopback; it need not listen yet.
        port: Where to stand; 0: anywhere.
        tls: What clients speak to us; None: nothing but the protocol itself.
        target_tls: What we speak to the server.
    """

    def __init__(
        self,
        target: int,
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        target_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.target = target
        self.port = port
        self.tls = tls
        self.target_tls = target_tls
        self._fault: _Fault | None = None
        self._delay = 0.0
        self._share = 1.0
        self._words = b""
        self.connections = 0
        """How many were ever taken."""
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._may_pass = asyncio.Event()
        self._may_pass.set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_listening()
        self._may_pass.set()  # what is cut ends by itself; what is still on its way to the server may not
        if self._serving:
            _, left = await asyncio.wait(self._serving, timeout=1)
            for task in left:
                task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    # --- faults -----------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset all connections, in the middle of whatever they carry. New ones are taken."""
        for writer in self._open:
            _reset(writer)

    @contextlib.asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Cut all connections and refuse new ones, as a server that is down."""
        await self._stop_listening()
        try:
            yield
        finally:
            await self._listen()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let no byte pass in either direction, and tell nobody, as a firewall that forgot. Connections are
        taken and stay; what was sent meanwhile arrives afterwards."""
        self._may_pass.clear()
        try:
            yield
        finally:
            self._may_pass.set()

    def slow(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Let every piece wait for so long."""
        self._delay = seconds
        return self._doing(_Fault.SLOW)

    def losing_answers(self, share: float = 1.0) -> contextlib.AbstractContextManager[None]:
        """Let requests pass and be done; reset the connection when the answer is on its way back.

        Args:
            share: Of the answers.
        """
        self._share = share
        return self._doing(_Fault.LOST)

    def truncating(self) -> contextlib.AbstractContextManager[None]:
        """End the connection in the middle of an answer, in good order."""
        return self._doing(_Fault.TRUNCATED)

    def garbling(self) -> contextlib.AbstractContextManager[None]:
        """Give other bytes than the answer's, then reset the connection."""
        return self._doing(_Fault.GARBAGE)

    def half_opening(self) -> contextlib.AbstractContextManager[None]:
        """Let connections that carry anything die, now and for ever, and tell neither side."""
        return self._doing(_Fault.HALF_OPEN)

    def answering(self, words: bytes) -> contextlib.AbstractContextManager[None]:
        """Answer with these bytes in the server's place, which never sees the request."""
        self._words = words
        return self._doing(_Fault.ANSWERED)

    @contextlib.contextmanager
    def _doing(self, fault: _Fault) -> Iterator[None]:
        self._fault = fault
        try:
            yield
        finally:
            self._fault = None

    # ----------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self.connections += 1
        self._open.add(writer)
        try:
            await self._may_pass.wait()
            back_reader, back_writer = await asyncio.open_connection(
                "127.0.0.1", self.target, ssl=self.target_tls
            )
            self._open.add(back_writer)
            link = _Link(writer)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._carry(reader, back_writer, link))
                    group.create_task(self._carry(back_reader, writer, link))
            finally:
                await self._close(back_writer)
        except* OSError:
            pass  # either side is gone: so is the connection
        finally:
            await self._close(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link) -> None:
        while piece := await reader.read(_PIECE):
            await self._may_pass.wait()
            left = await self._spoil(piece, link, is_answer=writer is link.client)
            if left:
                await _pass_on(left, writer)
            if left is not piece and not link.is_dead:
                raise ConnectionResetError
        await self._may_pass.wait()
        if not writer.can_write_eof():
            raise ConnectionResetError  # TLS has no half-closed connections
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _spoil(self, piece: bytes, link: _Link, *, is_answer: bool) -> bytes:
        """What is left of a piece. Anything but the piece itself ends the connection, unless that is dead."""
        fault = self._fault
        if fault is _Fault.SLOW:
            await asyncio.sleep(self._delay)
        elif fault is _Fault.HALF_OPEN:
            link.is_dead = True
        elif fault is _Fault.ANSWERED and not is_answer:
            await _pass_on(self._words, link.client)
            return b""
        elif is_answer and fault is _Fault.LOST and random.random() < self._share:
            _reset(link.client)
            return b""
        elif is_answer and fault is _Fault.TRUNCATED:
            return piece[: len(piece) // 2]
        elif is_answer and fault is _Fault.GARBAGE:
            return random.randbytes(len(piece))
        return b"" if link.is_dead else piece

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _pass_on(piece: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(piece)
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    # A closed one is gone under TLS; else it stays until its reader has noticed, but has no number any more.
    if connection is not None and connection.fileno() != -1:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    writer.transport.abort()
