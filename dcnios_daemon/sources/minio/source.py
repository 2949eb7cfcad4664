"""The port of a ``minio`` source: what it is told in any way, and the listing that makes up for gaps."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from http import HTTPStatus

import msgspec

from dcnios_daemon.core.clock import Clock, SystemClock
from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Batch, Inbound, Reply
from dcnios_daemon.sources.inbound import Mailbox, busy
from dcnios_daemon.sources.minio.listen import Hearer, Listener
from dcnios_daemon.sources.minio.listing import KIND, Lister, Listing
from dcnios_daemon.sources.minio.queue import Queue, QueueReader
from dcnios_daemon.sources.minio.queue_client import QueueClient
from dcnios_daemon.sources.minio.records import Happening, from_listing, read_notification
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.staging.s3 import S3Client

HEARD_WITHIN = 5.0
"""Seconds that a listing waits for the streams: only what happens once they are open needs no listing."""


def _hearer(settings: MinioSettings) -> Hearer:
    """A client that may hold a connection to each bucket."""
    return S3Client(settings, connections=0)


def _queue(settings: MinioSettings) -> Queue:
    """A client of the queue."""
    return QueueClient(settings, settings.queue_url or "")


class MinioSource:
    """Implements :class:`~dcnios_daemon.core.ports.Source`, ``Working`` and ``Receiver``.

    Args:
        name: The source's name in the configuration.
        settings: Its block there.
        instance: Not needed here; all kinds of source are built alike.
        lister: Makes the client that lists; called once.
        hearer: Makes the client that listens; called once, if at all.
        queue: Makes the client of the queue; called once, if at all.
        clock: Tells the time.
    """

    def __init__(  # noqa: PLR0913 - all by keyword; the last four are for tests
        self,
        *,
        name: str,
        settings: MinioSettings,
        instance: str = "",  # noqa: ARG002 - all kinds are built alike
        lister: Callable[[MinioSettings], Lister] = S3Client,
        hearer: Callable[[MinioSettings], Hearer] = _hearer,
        queue: Callable[[MinioSettings], Queue] = _queue,
        clock: Clock | None = None,
    ) -> None:
        self._name = name
        self._settings = settings
        self._client = lister(settings)
        self._clock = clock or SystemClock()
        self._mailbox = Mailbox()
        self._listing = Listing(
            source=name,
            settings=settings,
            client=self._client,
            deliver=lambda events, cursor: self._mailbox.deliver(events, cursor=cursor),
            until_heard=self._until_heard,
            clock=self._clock,
        )
        self._hearer = hearer(settings) if "listen" in settings.receive else None
        self._listeners: list[Listener] = []
        if self._hearer is not None:
            self._listeners = [self._listener(bucket, self._hearer) for bucket in settings.buckets]
        self._queue: QueueReader | None = None
        if "sqs" in settings.receive:
            self._queue = QueueReader(source=name, queue=queue(settings), take=self._heard)

    async def connect(self, cursor: str | None) -> None:
        """Look whether the buckets can be listed, if they are to be."""
        self._listing.resume_at(cursor)
        if self._settings.reconcile:
            await self._listing.look()

    async def read(self) -> Batch:
        """All that was told, and the page that was listed, since the last read."""
        return await self._mailbox.collect()

    async def ack(self, batch: Batch) -> None:
        """Answer the store's requests; let the listing and the queue go on."""
        self._mailbox.acknowledge(batch)

    async def pause(self) -> None:
        """Answer the store that we are busy; close the streams; leave the queue. The listing waits."""
        self._mailbox.pause()
        for listener in self._listeners:
            listener.pause()
        if self._queue is not None:
            self._queue.pause()

    async def resume(self) -> None:
        """Take requests and listen again, and list: what was turned away need not come again."""
        self._mailbox.resume()
        for listener in self._listeners:
            listener.resume()
        if self._queue is not None:
            self._queue.resume()
        self._listing.gap()

    async def work(self) -> None:
        """Listen to all buckets, empty the queue, and list."""
        async with asyncio.TaskGroup() as group:
            for listener in self._listeners:
                group.create_task(listener.run(), name=f"{self._name}: {listener.bucket}")
            if self._queue is not None:
                group.create_task(self._queue.run(), name=f"{self._name}: queue")
            if self._settings.lists:
                group.create_task(self._listing.run(), name=f"{self._name}: listing")

    async def aclose(self) -> None:
        """Turn away who waits; release connections."""
        self._mailbox.close()
        await self._client.aclose()
        if self._hearer is not None:
            await self._hearer.aclose()
        if self._queue is not None:
            await self._queue.aclose()

    # --- told -------------------------------------------------------------------------------------------

    async def receive(self, request: Inbound) -> Reply:
        """A notification (POST), or a store that looks whether we are there (GET, HEAD)."""
        if "webhook" not in self._settings.receive:
            return Reply(HTTPStatus.NOT_FOUND, f"source {self._name!r} takes no webhook\n")
        if request.method in {"GET", "HEAD"}:
            return Reply(HTTPStatus.OK)
        if request.method != "POST":
            return Reply(HTTPStatus.METHOD_NOT_ALLOWED, "POST a notification\n", {"allow": "GET, HEAD, POST"})
        try:
            return await self._mailbox.post(await self._wanted(read_notification(request.body)))
        except StoreError as error:
            return busy(f"the store was asked what it told of: {error}")

    def _listener(self, bucket: str, hearer: Hearer) -> Listener:
        return Listener(
            bucket,
            source=self._name,
            settings=self._settings,
            hearer=hearer,
            take=self._heard,
            gap=self._listing.gap,
            clock=self._clock,
        )

    async def _until_heard(self) -> None:
        """Until all streams are open. Not for long: each that opens later is a gap of its own."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARD_WITHIN):
                for listener in self._listeners:
                    await listener.opened.wait()

    async def _heard(self, happenings: Sequence[Happening]) -> None:
        """Return once what is wanted of it is committed."""
        events = await self._wanted(happenings)
        if events:
            await self._mailbox.deliver(events)

    async def _wanted(self, happenings: Sequence[Happening]) -> list[Event]:
        wanted = [each for each in happenings if self._settings.wants(each)]
        return [(await self._dated(each)).event(source=self._name, kind=KIND) for each in wanted]

    async def _dated(self, happening: Happening) -> Happening:
        """With the instant of its creation, asked of the store where the record does not tell it.

        Only MinIO's records do. Without it the same creation would have another key when it is listed.
        """
        if not happening.lacks_instant or not self._settings.reconcile:
            return happening
        found = await self._listing.find(happening)
        if found is None:
            return happening  # gone again: no listing will show it
        listed = from_listing(happening.bucket, found)
        return msgspec.structs.replace(
            happening, etag=listed.etag, size=listed.size, modified=listed.modified, time=listed.time
        )
