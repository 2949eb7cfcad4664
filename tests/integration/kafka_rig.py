"""A topic and a group of its own on a real broker, and what can be asked about them."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Source
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.sources.kafka.source import KafkaSource
from tests.contract.source_rig import NAME, Bench, Rig

PARTITIONS = 4
FOR_EVER = {"retention.ms": "-1"}
"""Records whose time is long ago are deleted else, whenever the broker comes by."""


@asynccontextmanager
async def admin_of(bootstrap: str) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def producer_of(bootstrap: str, **options: Any) -> AsyncIterator[Any]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=4 << 20, **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


class RealKafkaRig(Rig):
    """Records on a topic of its own; what happened is told by their values."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self.bootstrap = bootstrap
        self.topic = f"frames-{secrets.token_hex(4)}"
        self.group = self.topic
        self.instance = "test"
        self.more: dict[str, Any] = {}
        self.built: KafkaSource
        """The last that was."""

    async def open(self) -> None:
        """Make the topic."""
        await self.make(self.topic)

    async def make(self, topic: str, partitions: int = PARTITIONS) -> None:
        """Make a topic, and see it there."""
        async with admin_of(self.bootstrap) as admin:
            await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=FOR_EVER)])
            while topic not in await admin.list_topics():  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(0.02)

    async def delete(self) -> None:
        """Delete the topic, and see it gone."""
        async with admin_of(self.bootstrap) as admin:
            await admin.delete_topics([self.topic])
            while self.topic in await admin.list_topics():  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.02)

    async def forget(self, partition: int, before: int) -> None:
        """What retention does: delete records."""
        async with admin_of(self.bootstrap) as admin:
            await admin.delete_records({TopicPartition(self.topic, partition): RecordsToDelete(before)})

    def other(self, instance: str) -> "RealKafkaRig":
        """Another daemon's, on the same topic and in the same group."""
        made = RealKafkaRig(self.bootstrap)
        made.topic, made.group, made.instance = self.topic, self.group, instance
        made.more, made.happened = self.more, self.happened
        return made

    def build(self) -> Source:
        """As the registry would."""
        given = {"bootstrap": [self.bootstrap], "topics": [self.topic], "group": self.group}
        settings = KafkaSettings(**(given | self.more))
        self.built = KafkaSource(name=NAME, settings=settings, instance=self.instance)
        return self.built

    async def happen(self, count: int) -> None:
        """To all partitions in turn."""
        async with producer_of(self.bootstrap) as producer:
            sent = []
            for _ in range(count):
                value = f"record {len(self.happened)}"
                partition = len(self.happened) % PARTITIONS
                self.happened.append(value)
                sent.append(await producer.send(self.topic, value.encode(), partition=partition))
            await asyncio.gather(*sent)

    def identify(self, event: Event) -> str:
        """The value."""
        return event.data.decode()

    async def committed(self) -> dict[int, int]:
        """What the group has committed, by partition."""
        async with admin_of(self.bootstrap) as admin:
            offsets = await admin.list_consumer_group_offsets(self.group)
        return {tp.partition: at.offset for tp, at in offsets.items() if tp.topic == self.topic}

    async def ends(self) -> dict[int, int]:
        """Where the partitions end, markers of transactions included."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            partitions = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]
            return {each.partition: end for each, end in (await consumer.end_offsets(partitions)).items()}
        finally:
            await consumer.stop()


def journaled(bench: Bench) -> dict[int, int]:
    """How far the journal has each partition without a gap."""
    offsets: dict[int, set[int]] = {}
    for event in bench.journal.events:
        offsets.setdefault(int(event.attributes["partition"]), set()).add(int(event.attributes["offset"]))
    return {
        partition: next(offset for offset in range(len(seen) + 1) if offset not in seen)
        for partition, seen in offsets.items()
    }


async def assert_nothing_is_committed_beyond_the_journal(bench: Bench, rig: RealKafkaRig) -> None:
    in_journal = journaled(bench)
    for partition, offset in (await rig.committed()).items():
        assert offset <= in_journal.get(partition, 0), f"partition {partition}"


def keys(bench: Bench) -> list[str]:
    return [event.key for event in bench.journal.events]


async def until(happy: Callable[[], bool], *, within: float = 20) -> None:
    async with asyncio.timeout(within):
        while not happy():  # noqa: ASYNC110 - two journals are looked at, neither calls for both
            await asyncio.sleep(0.01)


async def members(rig: RealKafkaRig) -> list[str]:
    async with admin_of(rig.bootstrap) as admin:
        (described,) = await admin.describe_consumer_groups([rig.group])
    return [member[0] for member in described.groups[0][5]]


async def until_committed(rig: RealKafkaRig) -> None:
    async with asyncio.timeout(20):
        while len(await rig.committed()) < PARTITIONS:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)


async def until_lag_is_gone(rig: RealKafkaRig, *, within: float = 20) -> None:
    """The group has committed all that there is."""
    ends = await rig.ends()
    async with asyncio.timeout(within):
        while await rig.committed() != ends:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)
