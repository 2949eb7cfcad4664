"""Where events come from: what a source is, and what it hands over."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from dcnios_daemon.core.event import Event


class Batch(msgspec.Struct, frozen=True):
    """Events read together, and the place in the source after them."""

    events: tuple[Event, ...] = ()
    cursor: str | None = None
    """Opaque to all but the source; stored in the same transaction as the events. None: no change."""
    receipt: object = None
    """The source's own, for :meth:`Source.ack`."""


class Source(Protocol):
    """Gives events. One supervised loop (``sources.runner``) calls these, never two at a time:

    connect, then read and ack in turn; pause and resume between reads; aclose at the end. Any error makes
    the runner close the source, wait, build it anew and connect with the stored cursor.
    """

    async def connect(self, cursor: str | None) -> None:
        """Open what is needed and go on after ``cursor`` (None: first time ever).

        Raises:
            Disconnected: Not reachable now.
            Rejected: Reached, but refused: login, right, missing topic or path.
        """
        ...

    async def read(self) -> Batch:
        """Wait for the next events. Cancelling loses nothing: the same events come again.

        Raises:
            Disconnected: Connect again.
        """
        ...

    async def ack(self, batch: Batch) -> None:
        """The batch is in the journal, durably: now, and only now, tell the upstream.

        Raises:
            Disconnected: The upstream was not told; what it sends again is known by its key.
        """
        ...

    async def pause(self) -> None:
        """The journal is full: take no more, but stay alive upstream. Push sources answer *busy*."""
        ...

    async def resume(self) -> None:
        """The journal has room again."""
        ...

    async def aclose(self) -> None:
        """Release everything. Called once, also after a failed connect."""
        ...


@runtime_checkable
class Working(Protocol):
    """A source with work of its own beside reading: a stream to keep up, a folder to list."""

    async def work(self) -> None:
        """Run beside :meth:`Source.read` and the rest, from the end of connect until it is cancelled, which
        is before aclose. An error counts as one of read's; returning means that there is no more to do."""
        ...


Ended = Callable[[Sequence[str]], Awaitable[Mapping[str, bool]]]
"""Asks what became of events, by their keys: :meth:`~dcnios_daemon.core.ports.Journal.ended`."""


@runtime_checkable
class Following(Protocol):
    """A source that does something for events whose deliveries have ended."""

    def follow(self, ended: Ended) -> None:
        """Called once, before connect: this is whom to ask, whenever it likes."""
        ...


class Inbound(msgspec.Struct, frozen=True):
    """An HTTP request to ``/sources/<name>``, its body whole."""

    method: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    query: Mapping[str, str] = msgspec.field(default_factory=dict)


class Reply(msgspec.Struct, frozen=True):
    """The answer to an :class:`Inbound`."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)


@runtime_checkable
class Receiver(Protocol):
    """A source that is told of events over HTTP. The web server checks token and size before it."""

    async def receive(self, request: Inbound) -> Reply:
        """Answer 2xx only after the journal's commit; 503 with Retry-After while paused or too slow."""
        ...
