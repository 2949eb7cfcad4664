"""A source that is told by way of a queue: a real queue server (ElasticMQ) before a real store (MinIO).

Nobody here plays S3's part of writing into the queue but the test, in the words of AWS.
"""

import asyncio
import contextlib
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote_plus

import pytest
import pytest_asyncio

from dcnios_daemon.core.errors import DcniosError
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Source
from dcnios_daemon.sources import runner
from dcnios_daemon.sources.minio import queue, queue_client
from dcnios_daemon.sources.minio.queue_client import QueueClient
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.sources.minio.source import MinioSource
from tests.contract.source_rig import NAME, Bench, Rig
from tests.daemon import eventually
from tests.e2e.stores import s3_client, sqs_client
from tests.servers.elasticmq import ElasticMQ
from tests.servers.minio import S3Access
from tests.servers.workspace import Workspace
from tests.unit.s3_samples import AWS
from tests.unit.test_s3_queue import TEST_EVENT, wrapped


class QueueRig(Rig):
    """Uploads, and writes into the queue what S3 would."""

    def __init__(self, store: S3Access, server: ElasticMQ, name: str) -> None:
        super().__init__()
        self.store, self.server, self.bucket = store, server, name
        self.more: dict[str, Any] = {}
        self._held = contextlib.AsyncExitStack()
        self.client: Any = None
        self.dead = QueueClient(self.settings(), server.queue_url(f"{name}-dead"))
        self.documents: list[str] = []

    async def open(self) -> None:
        """Make a bucket, a queue, and one for what was received too often."""
        self.client = await self._held.enter_async_context(sqs_client(self.server.endpoint))
        await self.client.create_queue(QueueName=f"{self.bucket}-dead")
        policy = json.dumps({"deadLetterTargetArn": await self.dead.arn(), "maxReceiveCount": 3})
        await self.client.create_queue(QueueName=self.bucket, Attributes={"RedrivePolicy": policy})
        async with s3_client(self.store) as client:
            await client.create_bucket(Bucket=self.bucket)

    async def close(self) -> None:
        """Release connections."""
        await self.dead.aclose()
        await self._held.aclose()

    def settings(self) -> MinioSettings:
        """With what the test asks for."""
        given = {
            "endpoint": self.store.endpoint,
            "access_key": self.store.access_key,
            "secret_key": self.store.secret_key,
            "buckets": [self.bucket],
            "receive": ["sqs"],
            "queue_url": self.server.queue_url(self.bucket),
            "reconcile": 3600,
        }
        return MinioSettings.model_validate(given | self.more)

    def build(self) -> Source:
        """See above."""
        return MinioSource(name=NAME, settings=self.settings())

    async def happen(self, count: int) -> None:
        """Upload and tell."""
        async with s3_client(self.store) as client:
            for _ in range(count):
                key = f"a b+c/{len(self.happened)}"
                answer = await client.put_object(Bucket=self.bucket, Key=key, Body=b"x")
                record = json.loads(json.dumps(AWS["Records"][0]))
                record["s3"]["bucket"]["name"] = self.bucket
                del record["s3"]["object"]["versionId"]  # the bucket keeps none
                record["s3"]["object"] |= {"key": quote_plus(key), "eTag": answer["ETag"].strip('"')}
                record["responseElements"]["x-amz-request-id"] = str(len(self.happened))
                self.documents.append(json.dumps({"Records": [record]}))
                self.happened.append(f"{self.bucket}/{key}")
        await self.send(*self.documents[-count:])

    async def send_again(self) -> None:
        """SQS delivers at least once."""
        await self.send(*self.documents)

    async def send(self, *bodies: str) -> None:
        """Into the queue."""
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies[start : start + 10])
            ]
            url = self.server.queue_url(self.bucket)
            answer = await self.client.send_message_batch(QueueUrl=url, Entries=entries)
            assert not answer.get("Failed")

    async def counts(self) -> tuple[int, int]:
        """Messages that wait, and that are hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = self.server.queue_url(self.bucket)
        found = await self.client.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return int(found["Attributes"][names[0]]), int(found["Attributes"][names[1]])

    async def is_there(self) -> bool:
        """Whether the server knows the queue."""
        try:
            await self.counts()
        except DcniosError:
            return False
        return True

    async def until_empty(self) -> None:
        """All that was told is deleted."""
        await eventually(self._is_empty, "an empty queue")

    async def _is_empty(self) -> bool:
        return not sum(await self.counts())

    async def until_hidden(self, count: int) -> None:
        """So many are in hand."""

        async def hidden() -> bool:
            return (await self.counts())[1] >= count

        await eventually(hidden, f"{count} hidden messages")

    def identify(self, event: Event) -> str:
        """Bucket and key."""
        return event.subject


class Site(Bench):
    """A bench with its rig."""

    rig: QueueRig


@pytest.fixture(scope="module")
def server() -> Iterator[ElasticMQ]:
    with Workspace() as space, ElasticMQ(space) as made:
        yield made


@pytest_asyncio.fixture
async def site(server: ElasticMQ, minio: S3Access, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(queue, "HIDDEN", 2)
    monkeypatch.setattr(queue, "EXTEND_EVERY", 0.5)
    monkeypatch.setattr(queue, "LONGEST_PAUSE", 0.5)
    monkeypatch.setattr(queue_client, "LONG_POLL", 2)
    rig = QueueRig(minio, server, f"sqs-{secrets.token_hex(4)}")
    try:
        await rig.open()
        yield Site(rig)
    finally:
        await rig.close()


async def test_each_object_is_one_event_however_often_it_is_told_and_also_listed(site: Site) -> None:
    site.rig.more = {"reconcile": 0.3}
    async with site.running() as running:
        await site.rig.happen(25)
        await site.rig.send(TEST_EVENT, wrapped(TEST_EVENT))
        await site.rig.send(*map(wrapped, site.rig.documents))
        await site.rig.send_again()
        await site.all_accepted()
        await site.rig.until_empty()
        seen = site.journal.duplicates
        await site.journal.until(lambda: site.journal.duplicates > seen + 25)
        await site.all_accepted()
        assert not running.status.last_error


async def test_while_the_journal_takes_nothing_messages_stay_hidden_and_none_is_deleted(site: Site) -> None:
    async with site.running():
        site.journal.takes.clear()
        await site.rig.happen(3)
        await site.rig.until_hidden(3)
        for _ in range(15):
            assert await site.rig.counts() == (0, 3), "longer than they are hidden by one call"
            await asyncio.sleep(0.2)
        site.journal.takes.set()
        await site.all_accepted()
        await site.rig.until_empty()


async def test_what_a_life_that_ended_had_in_hand_comes_again(site: Site) -> None:
    site.rig.more = {"reconcile": 0}
    site.journal.takes.clear()
    async with site.running():
        await site.rig.happen(5)
        await site.rig.until_hidden(1)
    assert not site.journal.events
    site.journal.takes.set()
    async with site.running():
        await site.all_accepted()
        await site.rig.until_empty()
    assert Counter(event.attributes["via"] for event in site.journal.events) == {"sqs": 5}


async def test_poison_goes_where_the_queues_owner_looks_and_holds_nobody_up(site: Site) -> None:
    async with site.running():
        await site.rig.send("poison")
        await site.rig.happen(5)
        await site.all_accepted()
        async with asyncio.timeout(60):
            while not (left := await site.rig.dead.receive(hidden=60)):
                pass
    assert [message.body for message in left] == ["poison"]


async def test_a_restart_of_the_queue_loses_nothing(site: Site) -> None:
    site.rig.more = {"reconcile": 0}
    async with site.running() as running:
        await site.rig.happen(3)
        await site.all_accepted()
        await asyncio.to_thread(site.rig.server.kill)
        await asyncio.to_thread(site.rig.server.start)
        await eventually(site.rig.is_there, "the queue is read from the disk, some time after the port opens")
        await site.rig.happen(3)
        await site.all_accepted()
        await site.rig.until_empty()
        assert not running.status.error, "whatever was wrong meanwhile is over"


async def test_a_queue_that_is_not_there_is_said(site: Site) -> None:
    site.rig.more = {"queue_url": site.rig.server.queue_url("nowhere")}
    async with site.running() as running:

        async def refused() -> bool:
            return "nowhere" in running.status.last_error

        await eventually(refused, "the refusal to be said")
