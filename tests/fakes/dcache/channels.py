"""Channels: ids, ring buffer, resume, competing clients, expiry (section 2; Channel, Registrar)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import re
from collections import deque
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

from .auth import Login
from .inotify import CLOSE_STREAM, SAY_CLOSED
from .replies import ApiError, compact
from .streams import Deaf, Stream, frame
from .switches import Switches
from .tasks import Tasks

CLIENT_ID_LENGTH = 256
SHUTDOWN_PATIENCE = 0.5
_INT = re.compile(r"-?[0-9]{1,10}")
_INT_RANGE = range(-(2**31), 2**31)


class Subscribed(Protocol):
    """What a channel knows of a subscription of any type."""

    @property
    def id(self) -> str:
        """The last part of the subscription's URL."""

    def described(self) -> dict[str, object]:
        """Return the selector."""

    def close(self, *, then_say_closed: bool = False) -> None:
        """End it, optionally having the channel told when its last event is out."""


class Channel:
    """One client's channel."""

    def __init__(self, registrar: Registrar, uid: int, client_id: str | None, base: str) -> None:
        """Make a channel whose events name URLs below ``base``: those of its creator (section 1)."""
        self.id = base64.urlsafe_b64encode(registrar.rng.randbytes(16)).decode().rstrip("=")
        self.uid = uid
        self.client_id = client_id
        self.timeout = registrar.switches.default_timeout
        self.subscriptions: dict[tuple[str, str], Subscribed] = {}
        self.sink: Stream | None = None
        self.closed = False
        self._registrar = registrar
        self._base = base
        self._ring: deque[tuple[int, bytes]] = deque(maxlen=registrar.switches.backlog)
        self._next_id = 0
        self._lock = asyncio.Lock()
        self._expiry: asyncio.TimerHandle | None = None
        self._start_expiry()

    def url(self, base: str, kind: str = "", subscription: str = "") -> str:
        """Return the URL of the channel or of one of its subscriptions."""
        url = f"{base}/events/channels/{self.id}"
        return f"{url}/subscriptions/{kind}/{quote(subscription, safe='+')}" if kind else url

    async def send_event(self, kind: str, subscription: str, payload: object) -> None:
        """Number, keep and send one event; the lock is held while the client is slow (section 2)."""
        if payload is CLOSE_STREAM:
            await self.close_subscription(kind, subscription)
            return
        if payload is SAY_CLOSED:
            await self._say("SUBSCRIPTION_CLOSED", self.url(self._base, kind, subscription))
            return
        async with self._lock:
            if self.closed:
                return
            envelope = {"event": payload, "subscription": self.url(self._base, kind, subscription)}
            number, self._next_id = self._next_id, self._next_id + 1
            event = frame(kind, compact(envelope), number)
            self._ring.append((number, event))
            await self._send(event, numbered=True)

    async def add(self, kind: str, subscription: Subscribed) -> None:
        """Remember a new subscription and say so on the stream, before the 201 (section 2)."""
        self.subscriptions[kind, subscription.id] = subscription
        await self._say("NEW_SUBSCRIPTION", self.url(self._base, kind, subscription.id))

    async def close_subscription(self, kind: str, subscription: str) -> bool:
        """End a subscription; False if there is none."""
        found = self.subscriptions.pop((kind, subscription), None)
        if found is None:
            return False
        if kind != "inotify" or self._registrar.switches.closed_before_ignored:
            await self._say("SUBSCRIPTION_CLOSED", self.url(self._base, kind, subscription))
            found.close()
        else:
            found.close(then_say_closed=True)
        return True

    async def connect(self, sink: Stream, last_id: str | None) -> None:
        """Make ``sink`` the one stream of the channel and replay (section 2, the table)."""
        async with self._lock:
            if self.closed:
                raise ApiError(404, "Channel is closed")
            old, self.sink = self.sink, None
            self._stop_expiry()
            if old is not None:
                await old.send(frame("SYSTEM", '{"type":"COMPETING_CLIENT"}'), numbered=False)
                old.close()
            self.sink = sink
            number = _as_int(last_id)
            if number is not None:
                await self._replay(number)

    async def _replay(self, last: int) -> None:
        while self._ring and self._ring[0][0] != last:
            self._ring.popleft()
        if not self._ring:
            await self._send(frame("SYSTEM", '{"type":"EVENT_LOSS"}'), numbered=False)
            return
        for _number, event in list(self._ring)[1:]:
            await self._send(event, numbered=True)

    async def say_shutdown(self) -> None:
        """Tell a connected client that the frontend stops; one that does not read is cut off."""
        try:
            async with asyncio.timeout(SHUTDOWN_PATIENCE):
                await self._say("SHUTDOWN", None)
        except TimeoutError:
            if self.sink is not None:
                self.sink.drop()

    async def close(self) -> None:
        """End the channel and its subscriptions (DELETE, expiry, restart)."""
        if self.closed:
            return
        self.closed = True
        self._registrar.forget(self)
        for (kind, name), subscription in list(self.subscriptions.items()):
            await self._say("SUBSCRIPTION_CLOSED", self.url(self._base, kind, name))
            subscription.close()
        self.subscriptions.clear()
        self._stop_expiry()
        if self.sink is not None:
            self.sink.close()
            self.sink = None

    async def steal(self, last_id: str | None = None) -> None:
        """Connect as another client that reads for a moment and goes: the one before is thrown out."""
        other = Deaf()
        with contextlib.suppress(ApiError):
            await self.connect(other, last_id)

    def set_timeout(self, seconds: int) -> None:
        """Change the life without connection; restarts a running clock (section 1, PATCH)."""
        self.timeout = seconds
        if self._expiry is not None:
            self._start_expiry()

    def expire(self) -> bool:
        """Expire now if no client is known to be connected."""
        if self._expiry is None:
            return False
        self._stop_expiry()
        self._registrar.tasks.start(self.close(), name=f"expiry of channel {self.id}")
        return True

    async def _say(self, what: str, subscription: str | None) -> None:
        data = {"type": what} if subscription is None else {"type": what, "subscription": subscription}
        async with self._lock:
            await self._send(frame("SYSTEM", compact(data)), numbered=False)

    async def _send(self, event: bytes, *, numbered: bool) -> None:
        sink = self.sink
        if sink is not None and not await sink.send(event, numbered=numbered):
            sink.close()
            if self.sink is sink and not self.closed:
                self.sink = None
                self._start_expiry()

    def _start_expiry(self) -> None:
        self._stop_expiry()
        delay = self.timeout * self._registrar.switches.expiry_scale
        self._expiry = asyncio.get_running_loop().call_later(delay, self.expire)

    def _stop_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None


class Registrar:
    """All channels of the frontend; in memory only, so a restart loses them (section 2)."""

    def __init__(self, switches: Switches, tasks: Tasks, rng: random.Random) -> None:
        self.switches = switches
        self.tasks = tasks
        self.rng = rng
        self._channels: dict[str, Channel] = {}

    def new(self, login: Login, client_id: str | None, base: str) -> Channel:
        """Make a channel, or answer 429 at the quota (section 1)."""
        if len(self.of(login)) >= self.switches.quota:
            raise ApiError(429)
        channel = Channel(self, login.uid, client_id, base)
        self._channels[channel.id] = channel
        return channel

    def get(self, channel_id: str, login: Login) -> Channel:
        """Return a channel if it exists (404) and is this uid's (403), section 4."""
        channel = self._channels.get(channel_id)
        if channel is None:
            raise ApiError(404, "No such channel")
        if channel.uid != login.uid:
            raise ApiError(403)
        return channel

    def of(self, login: Login, select: Callable[[Channel], bool] = lambda _: True) -> list[Channel]:
        """Return the channels of this uid."""
        return [c for c in self._channels.values() if c.uid == login.uid and select(c)]

    def all(self) -> list[Channel]:
        """Return every channel."""
        return list(self._channels.values())

    def forget(self, channel: Channel) -> None:
        """Drop a closed channel."""
        self._channels.pop(channel.id, None)

    def expire(self) -> int:
        """Expire every channel without a client now; return how many."""
        return sum(channel.expire() for channel in self.all())

    async def shut_down(self) -> None:
        """Say SHUTDOWN, wait the grace, lose all channels (``Registrar.beforeStop``)."""
        for channel in self.all():
            await channel.say_shutdown()
        if self.switches.shutdown_grace > 0:
            await asyncio.sleep(self.switches.shutdown_grace)
        for channel in self.all():
            await channel.close()


def _as_int(text: str | None) -> int | None:
    """Read an int as Guava's ``Ints.tryParse`` does; anything else is None."""
    if text is None or not _INT.fullmatch(text):
        return None
    return int(text) if int(text) in _INT_RANGE else None
