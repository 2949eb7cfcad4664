"""What a store tells by way of an SQS queue: S3 -> SQS, or S3 -> SNS -> SQS.

A message is deleted only after what it told of is committed; until then it is kept hidden from others, for as
long as the journal takes, and if we die it comes again, under the same keys. One that cannot be read is said
and left alone: after some tries the queue's own redrive policy puts it where its owner looks.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Never, Protocol

import msgspec

from dcnios_daemon.core.errors import Malformed, Rejected, StoreError, StoreUnavailable
from dcnios_daemon.core.patience import pause_after
from dcnios_daemon.sources.minio.queue_client import Message
from dcnios_daemon.sources.minio.records import Happening, read_notification
from dcnios_daemon.sources.time_limits import first_error
from dcnios_daemon.telemetry import events as telemetry

READERS = 4
"""Calls for messages at the same time."""
HIDDEN = 60
"""Seconds for which a message in hand is hidden from others."""
EXTEND_EVERY = 20.0
"""Seconds after which it is hidden anew."""
IDLE = 1.0
"""Seconds after which a queue that does not wait for messages, as we ask it to, is asked again."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before a queue that cannot be reached is asked again, doubling from the first to the longest."""


class Queue(Protocol):
    """What is needed of :class:`~dcnios_daemon.sources.minio.queue_client.QueueClient`."""

    url: str

    async def receive(self, *, hidden: int) -> list[Message]:
        """Wait for messages."""
        ...

    async def delete(self, messages: Sequence[Message]) -> None:
        """Take them off the queue."""
        ...

    async def extend(self, messages: Sequence[Message], *, hidden: int) -> None:
        """Hide them anew."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class _Envelope(msgspec.Struct):
    kind: str = msgspec.field(name="Type", default="")
    message: str | None = msgspec.field(name="Message", default=None)


def read_message(body: str) -> list[Happening]:
    """The happenings in a message, as S3 sent it or wrapped by SNS; none in a store's test message.

    Raises:
        Malformed: It is no notification; says where.
    """
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(f"the message is no S3 notification: {error}") from error
    is_wrapped = envelope.kind == "Notification" and envelope.message is not None
    document = envelope.message if is_wrapped and envelope.message is not None else body
    return read_notification(document.encode(errors="surrogatepass"), via="sqs")


class QueueReader:
    """Empties one queue.

    Args:
        source: The source's name, for what is said.
        queue: The client.
        take: Takes what was told; returns once what is wanted of it is committed, also after hours.
    """

    def __init__(
        self, *, source: str, queue: Queue, take: Callable[[Sequence[Happening]], Awaitable[None]]
    ) -> None:
        self._source = source
        self._queue = queue
        self._take = take
        self._may_read = asyncio.Event()
        self._may_read.set()

    def pause(self) -> None:
        """Receive no more; what is in hand stays hidden from others."""
        self._may_read.clear()

    def resume(self) -> None:
        """Receive again."""
        self._may_read.set()

    async def run(self) -> Never:
        """Read until cancelled. A queue that cannot be reached is asked again and again: it keeps what it
        holds.

        Raises:
            Rejected: It refuses.
        """
        async with asyncio.TaskGroup() as group:
            for number in range(READERS):
                group.create_task(self._read(), name=f"{self._source}: queue {number}")
        raise AssertionError("readers never end")

    async def aclose(self) -> None:
        """Release connections."""
        await self._queue.aclose()

    async def _read(self) -> Never:
        broken = 0
        while True:
            await self._may_read.wait()
            try:
                await self._settle(await self._receive())
                broken = 0
            except StoreUnavailable as error:
                broken += 1
                await self._wait(broken, error)
            except StoreError as error:
                raise Rejected(str(error)) from error

    async def _receive(self) -> list[Message]:
        began = time.monotonic()
        messages = await self._queue.receive(hidden=HIDDEN)
        if not messages and (early := began + IDLE - time.monotonic()) > 0:
            await asyncio.sleep(early)
        return messages

    async def _wait(self, broken: int, error: StoreUnavailable) -> None:
        pause = pause_after(broken, first=FIRST_PAUSE, most=LONGEST_PAUSE)
        telemetry.StreamLost(
            source=self._source, what=self._queue.url, error=str(error), again_in=pause
        ).emit()
        await asyncio.sleep(pause)

    async def _settle(self, messages: Sequence[Message]) -> None:
        """Bring what they tell of into the journal, then delete them."""
        told = [(message, self._happenings(message)) for message in messages]
        read = [message for message, happenings in told if happenings is not None]
        if not read:
            return
        async with self._hidden(read):
            await self._take([each for _, happenings in told for each in happenings or ()])
        await self._queue.delete(read)

    def _happenings(self, message: Message) -> list[Happening] | None:
        try:
            return read_message(message.body)
        except Malformed as error:
            what = f"message {message.id} of {self._queue.url}"
            telemetry.InputMalformed(source=self._source, what=what, error=str(error)).emit()
            return None

    @contextlib.asynccontextmanager
    async def _hidden(self, messages: Sequence[Message]) -> AsyncIterator[None]:
        """Keep them hidden from others meanwhile."""
        try:
            async with asyncio.TaskGroup() as group:
                extending = group.create_task(self._extend(messages))
                yield
                extending.cancel()
        except BaseExceptionGroup as error:
            raise first_error(error) from error

    async def _extend(self, messages: Sequence[Message]) -> Never:
        while True:
            await asyncio.sleep(EXTEND_EVERY)
            await self._queue.extend(messages, hidden=HIDDEN)
