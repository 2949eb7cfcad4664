"""A network in memory, for hours of trouble in seconds: no sockets, so it runs in virtual time.

HTTP is spoken in full by both sides; only the bytes between them do not pass the kernel. A connection can end
as real ones do: closed, reset, or gone without a word, when the first writes into it still seem to go well
(section 2, "Expiry"). Bytes arrive in order, each time after another delay.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar, cast

import aiohttp
from aiohttp import web

from tests.virtual import VirtualLoop

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler

_HIGH = 64 * 1024
_VANISHING_WRITES = 2
_R = TypeVar("_R")


class _Socket:
    """What the transports' users ask of a socket."""

    family = socket.AF_UNIX

    def __init__(self) -> None:
        self.resets = False

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """A lingering time of 0 makes an abort a reset."""
        if option == socket.SO_LINGER and isinstance(value, bytes):
            self.resets = struct.unpack("ii", value) == (1, 0)


class End(asyncio.Transport):
    """One end of a connection."""

    peer: End

    def __init__(self, protocol: asyncio.BaseProtocol, delay: Callable[[], float]) -> None:
        super().__init__()
        self.vanished = False
        """The other side is not told of anything any more."""
        self._protocol = cast("asyncio.Protocol", protocol)
        self._delay = delay
        self._socket = _Socket()
        self._inbox: deque[bytes] = deque()
        self._eof = self._closing = self._is_reading_paused = self._is_due = self._is_writing_paused = False
        self._into_nothing = 0
        self._loop = asyncio.get_running_loop()

    # --- what the protocols use ---------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Addresses, and a socket that takes options."""
        known = {"socket": self._socket, "peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}
        return known.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Another protocol goes on."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The one that reads."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it was closed here."""
        return self._closing

    def pause_reading(self) -> None:
        """Leave what comes where it is."""
        self._is_reading_paused = True

    def resume_reading(self) -> None:
        """Take it."""
        self._is_reading_paused = False
        self._soon()

    def is_reading(self) -> bool:
        """Whether what comes is taken."""
        return not self._is_reading_paused

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is one limit."""

    def get_write_buffer_size(self) -> int:
        """Bytes that the other end has not taken."""
        return sum(map(len, self.peer._inbox))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """To the other end, or into nothing."""
        if self._closing or not data:
            return
        if self.peer.vanished:
            self._into_nothing += 1
            if self._into_nothing > _VANISHING_WRITES:
                self._lose(ConnectionResetError("nobody is there"))
            return
        self.peer._inbox.append(bytes(data))
        self.peer._soon()
        if not self._is_writing_paused and self.get_write_buffer_size() > _HIGH:
            self._is_writing_paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """Properly: what was written arrives."""
        self._say_end()
        self._lose(None)

    def abort(self) -> None:
        """At once; with a lingering time of 0 as a reset, which takes along what was not read."""
        if self._socket.resets and not self.vanished:
            self.peer._inbox.clear()
            self.peer._lose(ConnectionResetError("connection reset by peer"))
        else:
            self._say_end()
        self._lose(None)

    def vanish(self) -> None:
        """As with the power cut: the protocol here hears and says nothing more."""
        self.vanished = self._closing = True

    # --- arrival ------------------------------------------------------------------------------------------

    def _say_end(self) -> None:
        if not self._closing and not self.vanished:
            self.peer._eof = True
            self.peer._soon()

    def _soon(self) -> None:
        if not self._is_due and not self._closing:
            self._is_due = True
            self._loop.call_later(self._delay(), self._arrive)

    def _arrive(self) -> None:
        self._is_due = False
        if self._closing or self._is_reading_paused:
            return
        if self._inbox:
            data = b"".join(self._inbox)
            self._inbox.clear()
            self.peer._was_read()
            self._protocol.data_received(data)
        if self._eof and not self._is_reading_paused:
            self._protocol.eof_received()
            self._lose(None)

    def _was_read(self) -> None:
        if self._is_writing_paused and not self._closing:
            self._is_writing_paused = False
            self._protocol.resume_writing()

    def _lose(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, error)


class Wire:
    """The network between clients and the one server on it.

    Args:
        dice: For how long bytes travel.
        slow: The longest, in seconds.
    """

    def __init__(self, dice: Random, *, slow: float = 0.0) -> None:
        self.slow = slow
        self._dice = dice
        self._server: web.Server | None = None
        self._clients: list[End] = []

    def listen(self, server: web.Server | None) -> None:
        """From now on connections go to this server; None: they are refused."""
        self._server = server

    def connect(self, client: asyncio.BaseProtocol) -> None:
        """Make a connection.

        Raises:
            ConnectionRefusedError: Nobody listens.
        """
        if self._server is None:
            raise ConnectionRefusedError("nobody listens")
        accepted = self._server()
        near, far = End(client, self._travel), End(accepted, self._travel)
        near.peer, far.peer = far, near
        self._clients = [*(end for end in self._clients if not end.is_closing()), near]
        accepted.connection_made(far)
        client.connection_made(near)

    def cut(self) -> None:
        """All clients end as in a power cut."""
        for end in self._clients:
            end.vanish()
        self._clients.clear()

    def _travel(self) -> float:
        return self._dice.choice((0.0, 0.0, self._dice.uniform(0.0, self.slow))) if self.slow else 0.0


def connector(wire: Wire) -> type[aiohttp.BaseConnector]:
    """What stands for :class:`aiohttp.TCPConnector` on this network."""

    class WireConnector(aiohttp.BaseConnector):
        def __init__(self, *, ssl: object = None, limit: int = 100) -> None:
            super().__init__(limit=limit)

        async def _create_connection(
            self,
            req: aiohttp.ClientRequest,
            traces: Any,
            timeout: Any,  # noqa: ASYNC109 - the library's name
        ) -> ResponseHandler:
            protocol = self._factory()
            try:
                wire.connect(protocol)
            except OSError as error:
                raise aiohttp.ClientConnectorError(req.connection_key, error) from error
            await asyncio.sleep(0)
            return protocol

    return WireConnector


class WireLoop(VirtualLoop):
    """Virtual time for what also calls functions in threads: they are called at once."""

    turn = 1e-6

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., _R], *args: Any
    ) -> asyncio.Future[_R]:
        """See :class:`asyncio.AbstractEventLoop`."""
        future: asyncio.Future[_R] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            future.set_exception(error)
        return future


def run(main: Coroutine[Any, Any, _R]) -> _R:
    """As :func:`asyncio.run`, in virtual time, on a loop for this network."""
    with asyncio.Runner(loop_factory=WireLoop) as runner:
        return runner.run(main)
