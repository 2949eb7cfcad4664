"""Seeing all that changes in a collection of the cluster: list, then watch, and list again when told to.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes is the protocol.
Lines are decoded straight from the bytes into what matters of them.
"""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Generic, TypeVar

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import SinkUnavailable
from dcnios_daemon.kubernetes.answers import Status, failure
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.sinks.kubernetes.objects import Thing

Item = TypeVar("Item", bound=Thing)

WATCH_SECONDS = 240
"""How long the server keeps one watch."""
QUIET_SECONDS = 90.0
"""A bookmark comes about every minute: after this long without a byte the connection is taken for dead."""
_TOO_SHORT = 1.0
"""Seconds: a watch that ends sooner without a word is a failure, or we would ask in circles."""
_PAGE_BYTES = 2 * 1024 * 1024
_FIRST_PAGE, _LONGEST_PAGE = 50, 500


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct, Generic[Item]):
    metadata: _ListMeta
    items: list[Item]


class _Change(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Marker(msgspec.Struct):
    metadata: _ListMeta


class Change(msgspec.Struct, Generic[Item], frozen=True):
    """Something that happened to one object."""

    type: str
    """``ADDED``, ``MODIFIED`` or ``DELETED``."""
    item: Item
    """As it is now, or as it was last."""


class Collection(Generic[Item]):
    """The objects of one kind that a selector picks."""

    def __init__(
        self, session: ClusterSession, clock: Clock, path: str, kind: type[Item], query: Mapping[str, str]
    ) -> None:
        self._session = session
        self._clock = clock
        self._path = path
        self._query = dict(query)
        self._seen = ""
        self._page: msgspec.json.Decoder[_Page[Item]] = msgspec.json.Decoder(_Page[kind])  # type: ignore[valid-type]
        self._item: msgspec.json.Decoder[Item] = msgspec.json.Decoder(kind)
        self._line = msgspec.json.Decoder(_Change)
        self._marker = msgspec.json.Decoder(_Marker)
        self._status = msgspec.json.Decoder(Status)

    async def list(self, visit: Callable[[list[Item]], Awaitable[None]]) -> None:
        """Visit all that is there, page by page, as it was at one moment; changes are then seen from there.

        Raises:
            Expired: It took so long that the moment is forgotten: begin again.
            SinkUnavailable, OrderRefused: See
                :class:`~dcnios_daemon.kubernetes.cluster.ClusterSession`.
        """
        limit, token = _FIRST_PAGE, ""
        while True:
            raw = await self._ask(limit, token)
            page = decode(self._page, raw)
            await visit(page.items)
            token = page.metadata.continue_
            if not token:
                self._seen = page.metadata.resource_version
                return
            each = max(1, len(raw) // max(1, len(page.items)))
            limit = max(1, min(_LONGEST_PAGE, _PAGE_BYTES // each))

    async def skip(self) -> None:
        """Pass over what is there now: changes are seen from here. Raises as :meth:`list`."""
        self._seen = decode(self._page, await self._ask(1, "")).metadata.resource_version

    async def changes(self, *, until: float = math.inf) -> AsyncGenerator[Change[Item]]:
        """What changes. After an error, ask again: it goes on after the last change that it gave.

        Args:
            until: Monotonic seconds; when a watch ends after that, no other is begun.

        Raises:
            Expired: What came next is forgotten: list.
            SinkUnavailable, OrderRefused: As for :meth:`list`.
        """
        while (begun := self._clock.monotonic()) < until:
            told = False
            query = {
                **self._query,
                "watch": "1",
                "allowWatchBookmarks": "true",
                "resourceVersion": self._seen,
                "timeoutSeconds": str(WATCH_SECONDS),
            }
            async with aclosing(self._session.lines(self._path, query, quiet=QUIET_SECONDS)) as lines:
                async for line in lines:
                    told = True
                    if (change := self._read(line)) is not None:
                        yield change
            if not told and self._clock.monotonic() - begun < _TOO_SHORT:
                raise SinkUnavailable(f"the cluster ended the watch on {self._path} at once")

    async def _ask(self, limit: int, token: str) -> bytes:
        query = {**self._query, "limit": str(limit)}
        if token:
            query["continue"] = token
        return await self._session.request("GET", self._path, query=query)

    def _read(self, line: bytes) -> Change[Item] | None:
        change = decode(self._line, line)
        if change.type == "ERROR":
            raise failure(decode(self._status, change.object).code, change.object)
        if change.type == "BOOKMARK":
            self._seen = decode(self._marker, change.object).metadata.resource_version
            return None
        item = decode(self._item, change.object)
        self._seen = item.metadata.resource_version
        return Change(change.type, item)


Decoded = TypeVar("Decoded")


def decode(decoder: msgspec.json.Decoder[Decoded], raw: bytes | msgspec.Raw) -> Decoded:
    """What the bytes say. An answer that is not what the API promises counts as none: SinkUnavailable."""
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SinkUnavailable(f"the cluster's answer cannot be read: {error}") from error
