"""Channels and subscriptions of the dCache frontend (``EventResources``, ``Channel``).

A channel outlives its connection for as long as its timeout says, and then keeps the last 16,383 events, so a
daemon that comes back in time reads on where it was. It finds its channel by the client-id that it gave.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from dcnios_daemon.core.errors import Disconnected, Malformed
from dcnios_daemon.sources.dcache.client.frontend import (
    CREATED,
    NO_CONTENT,
    NOT_FOUND,
    OK,
    SEE_OTHER,
    Answer,
    Frontend,
    Missing,
)

_T = TypeVar("_T")


class _Lifetime(msgspec.Struct):
    maximum: int = 300


class _Channels(msgspec.Struct):
    lifetime: _Lifetime = msgspec.field(default_factory=_Lifetime, name="lifetimeWhenDisconnected")


class _Metadata(msgspec.Struct):
    channels: _Channels = msgspec.field(default_factory=_Channels)


class Subscription(msgspec.Struct, frozen=True):
    """A watch on the server."""

    url: str
    is_new: bool
    """False: the channel watched this directory already."""


class Channel:
    """One channel."""

    def __init__(self, frontend: Frontend, url: str, *, is_new: bool) -> None:
        self._frontend = frontend
        self.url = url
        self.is_new = is_new

    @classmethod
    async def find_or_make(cls, frontend: Frontend, client_id: str, *, known: str | None) -> "Channel":
        """The channel that we ``know``, else another of ours, else a new one; made to last when we are away.

        Raises:
            Disconnected, Rejected: See :meth:`Frontend.call`.
        """
        urls = await _list(frontend, client_id)
        url = known if known in urls else next(iter(urls), None)
        channel = cls(frontend, url or await _make(frontend, client_id), is_new=url is None)
        metadata = _decoded(await frontend.call("GET", frontend.url("/events")), _Metadata)
        try:
            await frontend.call(
                "PATCH",
                channel.url,
                expect=(NO_CONTENT, OK),
                body={"timeout": metadata.channels.lifetime.maximum},
            )
        except Missing as error:
            raise Disconnected(f"{error} (it has just expired)") from error
        return channel

    async def open_stream(self, last_id: int | None) -> aiohttp.ClientResponse:
        """Connect; see :meth:`Frontend.open_stream`. An id must be of this channel and never go back:
        the server forgets what came before it."""
        try:
            return await self._frontend.open_stream(self.url, last_id=last_id)
        except Missing as error:
            raise Disconnected(str(error)) from error

    async def subscribe(self, kind: str, selector: Mapping[str, Any]) -> Subscription:
        """Subscribe to an event type.

        Raises:
            Missing, Forbidden: The path of the selector.
            Disconnected: The channel is gone; or dCache failed to tell its services (500), which leaves a
                watch that this channel does not know: then it is deleted, so that the next one is clean.
        """
        url = f"{self.url}/subscriptions/{kind}"
        expect = (CREATED, SEE_OTHER, NOT_FOUND, 500)
        answer = await self._frontend.call("POST", url, body=selector, expect=expect)
        if answer.status == NOT_FOUND:
            raise Disconnected("the channel is gone")
        if answer.status not in {CREATED, SEE_OTHER}:
            await self.delete(self.url)
            raise Disconnected(f"POST {url}: {answer.status}; a new channel is needed")
        return Subscription(_location(answer, url), is_new=answer.status == CREATED)

    async def subscriptions(self) -> Sequence[str]:
        """The URLs of all subscriptions, in no order."""
        answer = await self._frontend.call("GET", f"{self.url}/subscriptions")
        return _decoded(answer, list[str])

    async def delete(self, url: str) -> None:
        """Delete a subscription, or the channel; it may be gone already."""
        await self._frontend.call("DELETE", url, expect=(NO_CONTENT, OK, NOT_FOUND))


async def _list(frontend: Frontend, client_id: str) -> Sequence[str]:
    answer = await frontend.call(
        "GET", frontend.url(f"/events/channels?client-id={quote(client_id, safe='')}")
    )
    return _decoded(answer, list[str])


async def _make(frontend: Frontend, client_id: str) -> str:
    answer = await frontend.call(
        "POST", frontend.url("/events/channels"), body={"client-id": client_id}, expect=(CREATED,)
    )
    return _location(answer, frontend.url("/events/channels"))


def _location(answer: Answer, url: str) -> str:
    if not answer.location:
        raise Malformed(f"POST {url}: {answer.status} without Location")
    return answer.location


def _decoded(answer: Answer, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.DecodeError as error:
        raise Malformed(f"the frontend's answer cannot be read: {error}") from error
