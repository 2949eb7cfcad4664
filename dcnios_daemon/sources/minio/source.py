"""The port of a ``minio`` source: what it is told in either way, and the listing that makes up for gaps.

The listing goes over the buckets at the start, after each pause, each time that a stream was opened, and on a
period. It offers what is younger than the last whole pass, less a margin; the cursor holds that instant and
the place in an unfinished pass, per bucket, so that a restart goes on there. Older objects are never offered
again, however long ago their keys were forgotten.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from http import HTTPStatus
from typing import Never, Protocol

import msgspec

from dcnios_daemon.core.clock import Clock, SystemClock
from dcnios_daemon.core.errors import Disconnected, Rejected, StoreError, StoreUnavailable
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Batch, Inbound, Reply
from dcnios_daemon.sources.inbound import Mailbox, busy
from dcnios_daemon.sources.minio.listen import Hearer, Listener
from dcnios_daemon.sources.minio.records import Happening, from_listing, read_notification
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.staging.s3 import S3Client
from dcnios_daemon.staging.s3_answers import S3Object
from dcnios_daemon.telemetry import events as telemetry

KIND = "minio"
MARGIN = 15 * 60 * 1000
"""Milliseconds by which our clock and the store's may differ. S3 refuses signatures that are further off."""
HEARD_WITHIN = 5.0
"""Seconds that a listing waits for the streams: only what happens once they are open needs no listing."""


class Lister(Protocol):
    """What is needed of :class:`~dcnios_daemon.staging.s3.S3Client`."""

    def pages(
        self, bucket: str, *, prefix: str = "", after: str = ""
    ) -> AsyncGenerator[Sequence[S3Object], None]:
        """Up to 1,000 objects at a time, in key order."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class Place(msgspec.Struct, frozen=True):
    """Where the listing of one bucket is. Instants in milliseconds since the epoch."""

    since: int = 0
    """The last whole pass has seen all that is older than this (but for :data:`MARGIN`)."""
    began: int | None = None
    """When the pass under way began; None: there is none."""
    newest: int = 0
    """The youngest object that the pass under way has seen."""
    after: str = ""
    """The last key that the pass under way has dealt with."""


_PLACES = msgspec.json.Decoder(dict[str, Place])


def _hearer(settings: MinioSettings) -> Hearer:
    """A client that may hold a connection to each bucket."""
    return S3Client(settings, connections=0)


class MinioSource:
    """Implements :class:`~dcnios_daemon.core.ports.Source`, ``Working`` and ``Receiver``.

    Args:
        name: The source's name in the configuration.
        settings: Its block there.
        instance: Not needed here; all kinds of source are built alike.
        lister: Makes the client that lists; called once.
        hearer: Makes the client that listens; called once, if at all.
        clock: Tells the time.
    """

    def __init__(
        self,
        *,
        name: str,
        settings: MinioSettings,
        instance: str = "",  # noqa: ARG002 - all kinds are built alike
        lister: Callable[[MinioSettings], Lister] = S3Client,
        hearer: Callable[[MinioSettings], Hearer] = _hearer,
        clock: Clock | None = None,
    ) -> None:
        self._name = name
        self._settings = settings
        self._client = lister(settings)
        self._clock = clock or SystemClock()
        self._mailbox = Mailbox()
        self._places: dict[str, Place] = {}
        self._gap = asyncio.Event()
        self._hearer = hearer(settings) if "listen" in settings.receive else None
        self._listeners: list[Listener] = []
        if self._hearer is not None:
            self._listeners = [self._listener(bucket, self._hearer) for bucket in settings.buckets]

    async def connect(self, cursor: str | None) -> None:
        """Read the first page of each bucket, so that a wrong login or name is known at once."""
        self._places = self._read_cursor(cursor)
        for bucket in self._settings.buckets if self._settings.reconcile else ():
            with _errors_are_ours():
                await self._first_page(bucket, self._settings.prefix)

    async def read(self) -> Batch:
        """All that was told, and the page that was listed, since the last read."""
        return await self._mailbox.collect()

    async def ack(self, batch: Batch) -> None:
        """Answer the store's requests; let the listing go on."""
        self._mailbox.acknowledge(batch)

    async def pause(self) -> None:
        """Answer the store that we are busy; close the streams. The listing waits."""
        self._mailbox.pause()
        for listener in self._listeners:
            listener.pause()

    async def resume(self) -> None:
        """Take requests and listen again, and list: what was turned away need not come again."""
        self._mailbox.resume()
        for listener in self._listeners:
            listener.resume()
        self._gap.set()

    async def aclose(self) -> None:
        """Turn away who waits; release connections."""
        self._mailbox.close()
        await self._client.aclose()
        if self._hearer is not None:
            await self._hearer.aclose()

    # --- told -------------------------------------------------------------------------------------------

    async def receive(self, request: Inbound) -> Reply:
        """A notification (POST), or a store that looks whether we are there (GET, HEAD)."""
        if "webhook" not in self._settings.receive:
            return Reply(HTTPStatus.NOT_FOUND, f"source {self._name!r} takes no webhook\n")
        if request.method in {"GET", "HEAD"}:
            return Reply(HTTPStatus.OK)
        if request.method != "POST":
            return Reply(HTTPStatus.METHOD_NOT_ALLOWED, "POST a notification\n", {"allow": "GET, HEAD, POST"})
        told = [happening for happening in read_notification(request.body) if self._settings.wants(happening)]
        try:
            return await self._mailbox.post([self._event(await self._dated(happening)) for happening in told])
        except StoreError as error:
            return busy(f"the store was asked what it told of: {error}")

    def _listener(self, bucket: str, hearer: Hearer) -> Listener:
        return Listener(
            bucket,
            source=self._name,
            settings=self._settings,
            hearer=hearer,
            take=self._heard,
            gap=self._gap.set,
            clock=self._clock,
        )

    async def _heard(self, happenings: Sequence[Happening]) -> None:
        """Return once what is wanted of it is committed."""
        events = [self._event(await self._dated(each)) for each in happenings if self._settings.wants(each)]
        if events:
            await self._mailbox.deliver(events)

    async def _dated(self, happening: Happening) -> Happening:
        """With the instant of its creation, asked of the store where the record does not tell it.

        Only MinIO's records do. Without it the same creation would have another key when it is listed.
        """
        if not happening.is_creation or happening.modified is not None or not self._settings.reconcile:
            return happening
        page = await self._first_page(happening.bucket, happening.key)
        if not page or page[0].key != happening.key:
            return happening  # gone again: no listing will show it
        listed = from_listing(happening.bucket, page[0])
        return msgspec.structs.replace(
            happening, etag=listed.etag, size=listed.size, modified=listed.modified, time=listed.time
        )

    async def _first_page(self, bucket: str, prefix: str) -> Sequence[S3Object]:
        async with aclosing(self._client.pages(bucket, prefix=prefix)) as pages:
            async for page in pages:
                return page
        return ()

    def _event(self, happening: Happening) -> Event:
        return happening.event(source=self._name, kind=KIND)

    # --- listed -----------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Listen to all buckets; list them now, after each gap and on the period."""
        async with asyncio.TaskGroup() as group:
            for listener in self._listeners:
                group.create_task(listener.run(), name=f"{self._name}: {listener.bucket}")
            if self._settings.lists:
                group.create_task(self._list(), name=f"{self._name}: listing")

    async def _list(self) -> Never:
        cause = "start"
        await self._until_heard()
        while True:
            self._gap.clear()
            if any(place.began is not None for place in self._places.values()):
                self._gap.set()  # an unfinished pass is finished first, but it began before the gap
            found = 0
            for bucket in self._settings.buckets:
                found += await self._pass(bucket)
            telemetry.SourceRelisted(source=self._name, cause=cause, found=found).emit()
            cause = await self._next_cause()

    async def _next_cause(self) -> str:
        try:
            async with asyncio.timeout(self._settings.reconcile):
                await self._gap.wait()
        except TimeoutError:
            return "period"
        await self._until_heard()
        return "gap"

    async def _until_heard(self) -> None:
        """Until all streams are open. Not for long: each that opens later is a gap of its own."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARD_WITHIN):
                for listener in self._listeners:
                    await listener.opened.wait()

    async def _pass(self, bucket: str) -> int:
        """Go through the bucket once, or the rest that an earlier life left. Returns how many it offered."""
        place = self._places.get(bucket, Place())
        if place.began is None:
            place = Place(since=place.since, began=round(self._clock.now() * 1000))
        began, found = place.began or 0, 0
        pages = self._client.pages(bucket, prefix=self._settings.prefix, after=place.after)
        with _errors_are_ours():
            async with aclosing(pages):
                async for page in pages:
                    happenings = [from_listing(bucket, listed) for listed in page]
                    events = [self._event(each) for each in happenings if self._is_new(each, place)]
                    newest = max(place.newest, *(each.modified or 0 for each in happenings))
                    place = Place(since=place.since, began=began, newest=newest, after=page[-1].key)
                    await self._deliver(events, bucket, place)
                    found += len(events)
        # The store's clock, as far as its objects tell it, or ours: whichever is behind.
        await self._deliver([], bucket, Place(since=max(place.since, min(place.newest, began))))
        return found

    def _is_new(self, happening: Happening, place: Place) -> bool:
        return (happening.modified or 0) > place.since - MARGIN and self._settings.wants(happening)

    async def _deliver(self, events: Sequence[Event], bucket: str, place: Place) -> None:
        if self._places.get(bucket) == place:
            return
        self._places[bucket] = place
        places = {name: self._places[name] for name in self._settings.buckets if name in self._places}
        await self._mailbox.deliver(events, cursor=msgspec.json.encode(places).decode())

    def _read_cursor(self, cursor: str | None) -> dict[str, Place]:
        """Where to go on; at the beginning, and said, if another kind of source left the cursor."""
        try:
            return _PLACES.decode(cursor or "{}")
        except msgspec.DecodeError as error:
            telemetry.InputMalformed(source=self._name, what="stored cursor", error=str(error)).emit()
            return {}


@contextmanager
def _errors_are_ours() -> Iterator[None]:
    try:
        yield
    except StoreUnavailable as error:
        raise Disconnected(str(error)) from error
    except StoreError as error:
        raise Rejected(str(error)) from error
