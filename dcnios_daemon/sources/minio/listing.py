"""The listing that makes up for what a ``minio`` source was not told of.

It goes over the buckets at the start, after each gap and on a period. It offers what is younger than the last
whole pass, less a margin; the cursor holds that instant and the place in an unfinished pass, per bucket, so
that a restart goes on there. Older objects are never offered again, however long ago their keys were
forgotten. Nothing is kept of the objects themselves: memory does not grow with the bucket.

Where a bucket keeps versions they are listed, so that what was overwritten or deleted before anybody looked
is found, too. Of what was there before the first pass ever, only the latest versions are taken: the bucket as
it was, not how it came to be so.

Three clocks meet here. An object has the store's, or that of another store: "For multipart uploads, the
object creation date is the date of initiation" (AWS, "System-defined object metadata"; MinIO takes the end),
and a replica keeps that of its original. The mark is never ahead of ours, which may step back.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Never, Protocol

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import Disconnected, Rejected, StoreError, StoreUnavailable
from dcnios_daemon.core.event import Event
from dcnios_daemon.sources.minio.records import Happening, from_listing
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.staging.s3_answers import Refused, S3Object
from dcnios_daemon.telemetry import events as telemetry

KIND = "minio"


class Lister(Protocol):
    """What is needed of :class:`~dcnios_daemon.staging.s3.S3Client`."""

    def pages(
        self, bucket: str, *, prefix: str = "", after: str = ""
    ) -> AsyncGenerator[Sequence[S3Object], None]:
        """Up to 1,000 objects at a time, in key order."""
        ...

    def versions(
        self, bucket: str, *, prefix: str = "", after: str = ""
    ) -> AsyncGenerator[Sequence[S3Object], None]:
        """Likewise all versions and delete markers."""
        ...

    async def keeps_versions(self, bucket: str) -> bool:
        """Whether there may be any but the latest."""
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
    """The last key of which the pass under way has dealt with all versions."""
    prefix: str = ""
    """What the keys of the pass under way begin with."""
    first: int = 0
    """When the first pass ever began. What was overwritten or deleted before is history."""


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
        self._hidden: set[str] = set()

    def resume_at(self, cursor: str | None) -> None:
        """Go on at a stored cursor; at the beginning, and said, if another kind of source left it."""
        try:
            self._places = _PLACES.decode(cursor or "{}")
        except msgspec.DecodeError as error:
            telemetry.InputMalformed(source=self._source, what="stored cursor", error=str(error)).emit()

    def gap(self) -> None:
        """Something may have been missed: list soon."""
        self._gap.set()

    async def find(self, told: Happening) -> S3Object | None:
        """What was made then, if it is still there to be seen.

        Raises:
            StoreError: The store cannot be asked.
        """
        if told.version:
            with suppress(Refused):
                return await self._find_version(told)
        page = await self._first_page(told.bucket, told.key)
        return page[0] if page and page[0].key == told.key and _is_of(page[0], told) else None

    async def _find_version(self, told: Happening) -> S3Object | None:
        async with aclosing(self._client.versions(told.bucket, prefix=told.key)) as pages:
            async for page in pages:
                for each in page:
                    if each.key != told.key:
                        return None  # the key itself is the first of all that begin with it
                    if each.version == told.version and _is_of(each, told):
                        return each
        return None

    async def _first_page(self, bucket: str, prefix: str) -> Sequence[S3Object]:
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
                await self._first_page(bucket, self._settings.prefix)

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
        place = self._begin(self._places.get(bucket))
        found = 0
        with errors_are_ours():
            async with aclosing(self._pages(bucket, place.after)) as pages:
                async for page in pages:
                    events = self._new(bucket, page, place)
                    newest = max(place.newest, *(_milliseconds(each) for each in page))
                    place = msgspec.structs.replace(place, newest=newest, after=_dealt_with(page, place))
                    await self._deliver(events, bucket, place)
                    found += len(events)
        # The store's clock, as far as its objects tell it, or ours: whichever is behind.
        since = min(max(place.since, place.newest), place.began or 0)
        await self._deliver([], bucket, Place(since=since, first=place.first))
        return found

    async def _pages(self, bucket: str, after: str) -> AsyncGenerator[Sequence[S3Object], None]:
        """What there is after a key: versions where the bucket keeps and shows them, else objects."""
        prefix, began = self._settings.prefix, False
        try:
            if await self._client.keeps_versions(bucket):
                async with aclosing(self._client.versions(bucket, prefix=prefix, after=after)) as pages:
                    async for page in pages:
                        began = True
                        from_the_oldest = page[::-1]
                        yield sorted(from_the_oldest, key=_by_age)
                return
        except Refused as error:
            if began:
                raise
            self._say_hidden(bucket, error)
        if self._settings.wants_creations:
            async with aclosing(self._client.pages(bucket, prefix=prefix, after=after)) as pages:
                async for page in pages:
                    yield page

    def _say_hidden(self, bucket: str, error: Refused) -> None:
        if bucket not in self._hidden:
            self._hidden.add(bucket)
            telemetry.VersionsHidden(source=self._source, bucket=bucket, error=str(error)).emit()

    def _begin(self, place: Place | None) -> Place:
        began = round(self._clock.now() * 1000)
        if place is None:
            return Place(began=began, prefix=self._settings.prefix, first=began)
        if place.began is not None and place.prefix == self._settings.prefix:
            return place
        # A mark ahead of our clock is of before the clock was set back.
        since, first = min(place.since, began), min(place.first, began)
        return Place(since=since, began=began, prefix=self._settings.prefix, first=first)

    def _new(self, bucket: str, page: Sequence[S3Object], place: Place) -> list[Event]:
        happenings = [from_listing(bucket, each) for each in page if self._is_late(each, place)]
        return [
            each.event(source=self._source, kind=KIND) for each in happenings if self._settings.wants(each)
        ]

    def _is_late(self, listed: S3Object, place: Place) -> bool:
        is_state = listed.is_latest and not listed.is_marker
        since = place.since if is_state else max(place.since, place.first)
        return _milliseconds(listed) > since - self._settings.margin_of(listed)

    async def _deliver(self, events: Sequence[Event], bucket: str, place: Place) -> None:
        if not events and self._places.get(bucket) == place:
            return
        self._places[bucket] = place
        places = {name: self._places[name] for name in self._settings.buckets if name in self._places}
        await self._store(events, msgspec.json.encode(places).decode())


def _milliseconds(listed: S3Object) -> int:
    return round(listed.modified * 1000)


def _is_of(listed: S3Object, told: Happening) -> bool:
    """Whether it came of that. With another ETag it was overwritten since: what is listed is another
    creation, told of by itself."""
    return listed.is_marker == told.is_marker and (
        told.is_marker or listed.etag == (told.etag or listed.etag)
    )


def _by_age(listed: S3Object) -> tuple[str, float]:
    return listed.key, listed.modified


def _dealt_with(page: Sequence[S3Object], place: Place) -> str:
    """The last key of which nothing may come with the next page. A version, which may be gone by then, would
    be no place to go on at."""
    last = page[-1]
    if not last.version:
        return last.key
    return max((each.key for each in page if each.key != last.key), default=place.after)


@contextmanager
def errors_are_ours() -> Iterator[None]:
    """A store's errors, as the runner knows them."""
    try:
        yield
    except StoreUnavailable as error:
        raise Disconnected(str(error)) from error
    except StoreError as error:
        raise Rejected(str(error)) from error
