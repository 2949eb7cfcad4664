"""A queue of AWS before the ``minio`` source, as bad as queues may be: what is not deleted comes again."""

import asyncio
from collections.abc import Sequence

from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Source
from dcnios_daemon.sources.minio.queue_client import BATCH, Message
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.sources.minio.source import MinioSource
from tests.contract.source_rig import NAME, Rig
from tests.contract.store_notification import notification


class FakeQueue:
    """One queue in memory."""

    url = "http://queue/inbox"

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._hidden: set[str] = set()
        self._changed = asyncio.Event()
        self._sent = 0

    def send(self, body: str) -> None:
        """Put it in."""
        self._sent += 1
        self._bodies[str(self._sent)] = body
        self._changed.set()

    def show_all(self) -> None:
        """As if all that is hidden had been so for long enough."""
        self._hidden.clear()
        self._changed.set()

    async def receive(self, *, hidden: int) -> list[Message]:
        """Up to ten of those that are not hidden."""
        while not (visible := [name for name in self._bodies if name not in self._hidden]):
            self._changed.clear()
            await self._changed.wait()
        taken = visible[:BATCH]
        self._hidden |= set(taken)
        await asyncio.sleep(0)
        return [Message(name, name, self._bodies[name]) for name in taken]

    async def delete(self, messages: Sequence[Message]) -> None:
        """For good."""
        await asyncio.sleep(0)
        for message in messages:
            self._bodies.pop(message.receipt, None)

    async def extend(self, messages: Sequence[Message], *, hidden: int) -> None:
        """Nothing is shown before its time here."""

    async def aclose(self) -> None:
        """Whoever held messages is gone: they are shown again."""
        self.show_all()


class SqsRig(Rig):
    """Uploads of which a queue tells, nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self._queue = FakeQueue()
        self._documents: list[str] = []

    def build(self) -> Source:
        """Without a listing."""
        self._queue.show_all()
        settings = MinioSettings(
            endpoint="http://s3.example",
            buckets=("inbox",),
            receive=("sqs",),
            queue_url=self._queue.url,
            reconcile=0,
        )
        return MinioSource(name=NAME, settings=settings, queue=lambda _: self._queue)

    async def happen(self, count: int) -> None:
        """Uploads."""
        for _ in range(count):
            number = len(self.happened)
            body = notification(f"some/key {number}", etag="e", size=3, instant=1_700_000_000_000 + number)
            self._documents.append(body.decode())
            self.happened.append(f"inbox/some/key {number}")
            self._queue.send(self._documents[-1])
            await asyncio.sleep(0)

    async def send_again(self) -> None:
        """SQS delivers at least once."""
        for document in self._documents:
            self._queue.send(document)
        await asyncio.sleep(0)

    async def send_malformed(self) -> None:
        """No notification at all, and one cut short."""
        self._queue.send("poison")
        self._queue.send(self._documents[-1][:-5] if self._documents else "{")
        await asyncio.sleep(0)

    def identify(self, event: Event) -> str:
        """Bucket and key."""
        return event.subject
