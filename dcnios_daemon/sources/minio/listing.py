"""The listing that makes up for what a ``minio`` source was not told of.

It goes over the buckets at the start, after each gap and on a period. It offers what is younger than the last
whole pass, less a margin; the cursor holds that instant and the place in an unfinished pass, per bucket, so
that a restart goes on there. Older objects are never offered again, however long ago their keys were
forgotten. Nothing is kept of the objects themselves: memory does not grow with the bucket.

Three clocks meet here. An object has the store's, or that of another store: "For multipart uploads, the
object creation date is the date of initiation" (AWS, "System-defined object metadata"; MinIO takes the end),
and a replica keeps that of its original. The mark is never ahead of ours, which may step back.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Never, Protocol

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import Disconnected, Rejected, StoreError, StoreUnavailable
from dcnios_daemon.core.event import Event
from dcnios_daemon.sources.minio.records import from_listing
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.staging.s3_answers import S3Object
from dcnios_daemon.telemetry import events as telemetry

KIND = "minio"


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
    """The last whole pass has seen all that is older than this (but for the margin)."""
    began: int | None = None
    """When the pass under way began; None: there is none."""
    newest: int = 0
    """The youngest object that the pass under way has seen."""
    after: str = ""
    """The last key that the pass under way has dealt with."""
    prefix: str = ""
    """What the keys of the pass under way begin with."""


_PLACES = msgspec.json.Decoder(dict[str, Place])


class Listing:
    """Lists the buckets of a source.

    Args:
        source: Its name.
        settings: Its block in the configuration.
        client: The store.
        deliver: Takes events and the cursor after them; returns once they are committed.
        until_heard: Returns when the streams are open, if there are any.
        clock: Tells the time.
    """

    def __init__(
        self,
        *,
        source: str,
        settings: MinioSettings,
        client: Lister,
        deliver: Callable[[Sequence[Event], str], Awaitable[None]],
        until_heard: Callable[[], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._source = source
        self._settings = settings
        self._client = client
        self._store = deliver
        self._until_heard = until_heard
        self._clock = clock
        self._places: dict[str, Place] = {}
        self._gap = asyncio.Event()

    def resume_at(self, cursor: str | None) -> None:
        """Go on at a stored cursor; at the beginning, and said, if another kind of source left it."""
        try:
            self._places = _PLACES.decode(cursor or "{}")
        except msgspec.DecodeError as error:
            telemetry.InputMalformed(source=self._source, what="stored cursor", error=str(error)).emit()

    def gap(self) -> None:
        """Something may have been missed: list soon."""
        self._gap.set()

    async def first_page(self, bucket: str, prefix: str) -> Sequence[S3Object]:
        """The first objects whose keys begin so."""
        async with aclosing(self._client.pages(bucket, prefix=prefix)) as pages:
            async for page in pages:
                return page
        return ()

    async def look(self) -> None:
        """Read the first page of each bucket, so that a wrong login or name is known at once.

        Raises:
            Disconnected, Rejected: What is wrong.
        """
        for bucket in self._settings.buckets:
            with errors_are_ours():
                await self.first_page(bucket, self._settings.prefix)

    async def run(self) -> Never:
        """List now, after each gap and on the period."""
        cause = "start"
        await self._until_heard()
        while True:
            self._gap.clear()
            if any(place.began is not None for place in self._places.values()):
                self._gap.set()  # an unfinished pass is finished first, but it began before the gap
            found = 0
            for bucket in self._settings.buckets:
                found += await self._pass(bucket)
            telemetry.SourceRelisted(source=self._source, cause=cause, found=found).emit()
            cause = await self._next_cause()

    async def _next_cause(self) -> str:
        try:
            async with asyncio.timeout(self._settings.reconcile):
                await self._gap.wait()
        except TimeoutError:
            return "period"
        await self._until_heard()
        return "gap"

    async def _pass(self, bucket: str) -> int:
        """Go through the bucket once, or the rest that an earlier life left. Returns how many it offered."""
        place = self._begin(self._places.get(bucket, Place()))
        found = 0
        pages = self._client.pages(bucket, prefix=self._settings.prefix, after=place.after)
        with errors_are_ours():
            async with aclosing(pages):
                async for page in pages:
                    events = self._new(bucket, page, place)
                    newest = max(place.newest, *(_milliseconds(each) for each in page))
                    place = msgspec.structs.replace(place, newest=newest, after=page[-1].key)
                    await self._deliver(events, bucket, place)
                    found += len(events)
        # The store's clock, as far as its objects tell it, or ours: whichever is behind.
        await self._deliver([], bucket, Place(since=min(max(place.since, place.newest), place.began or 0)))
        return found

    def _begin(self, place: Place) -> Place:
        if place.began is not None and place.prefix == self._settings.prefix:
            return place
        began = round(self._clock.now() * 1000)
        # A mark ahead of our clock is of before the clock was set back.
        return Place(since=min(place.since, began), began=began, prefix=self._settings.prefix)

    def _new(self, bucket: str, page: Sequence[S3Object], place: Place) -> list[Event]:
        late = [each for each in page if _milliseconds(each) > place.since - self._settings.margin_of(each)]
        happenings = [from_listing(bucket, each) for each in late]
        return [
            each.event(source=self._source, kind=KIND) for each in happenings if self._settings.wants(each)
        ]

    async def _deliver(self, events: Sequence[Event], bucket: str, place: Place) -> None:
        if self._places.get(bucket) == place:
            return
        self._places[bucket] = place
        places = {name: self._places[name] for name in self._settings.buckets if name in self._places}
        await self._store(events, msgspec.json.encode(places).decode())


def _milliseconds(listed: S3Object) -> int:
    return round(listed.modified * 1000)


@contextmanager
def errors_are_ours() -> Iterator[None]:
    """A store's errors, as the runner knows them."""
    try:
        yield
    except StoreUnavailable as error:
        raise Disconnected(str(error)) from error
    except StoreError as error:
        raise Rejected(str(error)) from error
