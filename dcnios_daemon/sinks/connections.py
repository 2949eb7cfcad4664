"""Clients of neighbours: shared by plans of equal ``run`` blocks, closed when no plan needs them any more.

A reload compiles every route anew. The plans before it live on for as long as an order needs them: one in
doubt is sent again to where it was sent. Nobody is told when the last of them has ended, so that is left to
Python: a client is closed when its last plan is gone.
"""

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import Callable
from typing import Generic, Never, Protocol, TypeVar


class Client(Protocol):
    """What talks to a neighbour."""

    async def aclose(self) -> None:
        """Let what is on its way end, and disconnect."""
        ...


R = TypeVar("R")
C = TypeVar("C", bound=Client)


class Connection(Generic[R, C]):
    """A client, for as long as somebody keeps this."""

    def __init__(self, run: R, client: C) -> None:
        self.run = run
        self.client = client


class Connections(Generic[R, C]):
    """All of a sink. Plans are compiled, and forgotten, on any thread."""

    def __init__(self) -> None:
        self._used: weakref.WeakSet[Connection[R, C]] = weakref.WeakSet()
        self._unused: deque[C] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()

    def to(self, run: R, make: Callable[[], C]) -> Connection[R, C]:
        """The connection of an equal block, or a new one with the client that ``make`` gives."""
        for found in self._used:
            if found.run == run:
                return found
        made = Connection(run, make())
        weakref.finalize(made, self._left, made.client).atexit = False
        self._used.add(made)
        return made

    async def tidy(self) -> Never:
        """Close what is no longer used, until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            await self._close_unused()
            await self._news.wait()

    async def aclose(self) -> None:
        """Close all."""
        await self._close_unused()
        for connection in list(self._used):
            await connection.client.aclose()

    def _left(self, client: C) -> None:
        self._unused.append(client)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the sink with it
                self._loop.call_soon_threadsafe(self._news.set)

    async def _close_unused(self) -> None:
        while self._unused:
            await self._unused[0].aclose()
            self._unused.popleft()
