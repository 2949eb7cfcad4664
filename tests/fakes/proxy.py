"""A TCP proxy that can be told to be a bad network: cut, refuse, freeze. For tests of any protocol."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

_PIECE = 65536
_AT_ONCE = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing is a reset."""


class FaultyProxy:
    """Stands on a port of loopback before a server.

    Args:
        target: The server's port on loopback; it need not listen yet.
        port: Where to stand; 0: anywhere.
    """

    def __init__(self, target: int, *, port: int = 0) -> None:
        self.target = target
        self.port = port
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
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    # --- faults -----------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset all connections, in the middle of whatever they carry. New ones are taken."""
        for writer in self._open:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            writer.transport.abort()

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

    # ----------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
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
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._open.add(back_writer)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._carry(reader, back_writer))
                    group.create_task(self._carry(back_reader, writer))
            finally:
                await self._close(back_writer)
        except* OSError:
            pass  # either side is gone: so is the connection
        finally:
            await self._close(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE):
            await self._may_pass.wait()
            writer.write(piece)
            await writer.drain()
        await self._may_pass.wait()
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
