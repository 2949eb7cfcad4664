"""What a queue's messages say, and what becomes of them."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from dcnios_daemon.core.errors import Malformed, Rejected, StoreError, StoreUnavailable
from dcnios_daemon.sources.minio import queue
from dcnios_daemon.sources.minio.queue import QueueReader, read_message
from dcnios_daemon.sources.minio.queue_client import Message
from dcnios_daemon.sources.minio.records import Happening, read_notification
from tests.unit.s3_samples import AWS, minio_body

TEST_EVENT = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "inbox"})


def wrapped(document: str) -> str:
    """As SNS delivers it, unless "raw message delivery" is on."""
    envelope = {"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:::t", "Message": document}
    return json.dumps(envelope)


def test_a_message_tells_what_the_webhook_would_also_wrapped_by_sns() -> None:
    body = json.dumps(AWS)
    (told,) = read_notification(body.encode())
    for message in (body, wrapped(body)):
        (read,) = read_message(message)
        assert read.event(source="s", kind="minio").key == told.event(source="s", kind="minio").key
        assert read.data == told.data
        assert read.via == "sqs"
    assert read_message(TEST_EVENT) == read_message(wrapped(TEST_EVENT)) == []


@pytest.mark.parametrize("body", ["", "hello", "{}", "[]", wrapped("hello"), '{"Type":"Notification"}'])
def test_what_is_no_notification_is_said(body: str) -> None:
    with pytest.raises(Malformed):
        read_message(body)


class FakeQueue:
    """Gives what it was given, and remembers."""

    url = "http://queue"

    def __init__(self, *bodies: str) -> None:
        self.waiting = [Message(str(number), f"r{number}", body) for number, body in enumerate(bodies)]
        self.deleted: list[str] = []
        self.extended = 0
        self.errors: list[StoreError] = []
        self.changed = asyncio.Event()

    async def receive(self, *, hidden: int) -> list[Message]:
        """All there is, or wait."""
        if self.errors:
            raise self.errors.pop(0)
        taken, self.waiting = self.waiting, []
        if not taken:
            await asyncio.sleep(3600)
        return taken

    async def delete(self, messages: Sequence[Message]) -> None:
        """For good."""
        self.deleted += [message.id for message in messages]
        self.changed.set()

    async def extend(self, messages: Sequence[Message], *, hidden: int) -> None:
        """Hide them."""
        self.extended += len(messages)
        self.changed.set()

    async def aclose(self) -> None: ...


class Journal:
    """Commits when it is let."""

    def __init__(self) -> None:
        self.takes = asyncio.Event()
        self.takes.set()
        self.taken: list[str] = []

    async def take(self, happenings: Sequence[Happening]) -> None:
        """Commit."""
        await self.takes.wait()
        self.taken += [happening.key for happening in happenings]


async def _until(made: FakeQueue, done: int) -> None:
    async with asyncio.timeout(10):
        while len(made.deleted) < done:
            made.changed.clear()
            await made.changed.wait()


async def test_only_what_was_read_is_deleted_and_what_cannot_be_is_left() -> None:
    made, journal = FakeQueue(minio_body("a").decode(), "poison", TEST_EVENT), Journal()
    reader = QueueReader(source="s", queue=made, take=journal.take)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(reader.run())
        await _until(made, 2)
        running.cancel()
    assert journal.taken == ["a"]
    assert made.deleted == ["0", "2"]


async def test_nothing_is_deleted_before_the_commit_and_it_stays_hidden_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "EXTEND_EVERY", 0.01)
    made, journal = FakeQueue(minio_body("a").decode()), Journal()
    journal.takes.clear()
    reader = QueueReader(source="s", queue=made, take=journal.take)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(reader.run())
        async with asyncio.timeout(10):
            while made.extended < 3:
                made.changed.clear()
                await made.changed.wait()
        assert not made.deleted
        reader.pause()
        journal.takes.set()
        await _until(made, 1)
        made.waiting = [Message("late", "r", minio_body("b").decode())]
        await asyncio.sleep(0.05)
        running.cancel()
    assert made.deleted == ["0"]


async def test_a_queue_that_is_away_is_asked_again_and_one_that_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(queue, "READERS", 1)
    made, journal = FakeQueue(minio_body("a").decode()), Journal()
    made.errors = [StoreUnavailable("away"), StoreUnavailable("away")]
    reader = QueueReader(source="s", queue=made, take=journal.take)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(reader.run())
        await _until(made, 1)
        running.cancel()
    made.errors = [StoreError("403 AccessDenied")]
    with pytest.raises(ExceptionGroup) as raised:
        await reader.run()
    assert isinstance(raised.value.exceptions[0], Rejected)


async def test_a_message_whose_commit_fails_is_not_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "FIRST_PAUSE", 0.001)
    made = FakeQueue(minio_body("a").decode())
    asked = asyncio.Event()

    async def take(_: Sequence[Happening]) -> None:
        asked.set()
        raise StoreUnavailable("the store cannot say when it was made")

    reader = QueueReader(source="s", queue=made, take=take)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(reader.run())
        await asked.wait()
        await asyncio.sleep(0.02)
        running.cancel()
    assert not made.deleted


async def test_a_queue_that_does_not_wait_is_not_asked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as what stands before it and answers for it, with something else."""
    monkeypatch.setattr(queue, "IDLE", 0.05)
    monkeypatch.setattr(queue, "READERS", 1)
    made, journal = FakeQueue(), Journal()
    asked = 0

    async def receive(*, hidden: int) -> list[Message]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return []

    made.receive = receive  # type: ignore[method-assign]
    reader = QueueReader(source="s", queue=made, take=journal.take)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(reader.run())
        await asyncio.sleep(0.2)
        running.cancel()
    assert 1 <= asked <= 5
