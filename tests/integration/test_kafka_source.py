"""The Kafka source against a real broker, under the runner, with a journal that outlives both."""

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from dcnios_daemon.core.errors import Disconnected, Rejected, SourceError
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.ports import Source
from dcnios_daemon.sources import runner
from dcnios_daemon.sources.kafka import membership
from dcnios_daemon.sources.kafka import source as kafka_source
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.sources.kafka.source import KafkaSource
from dcnios_daemon.sources.status import SourceState
from tests.contract.source_rig import NAME, Bench, Rig
from tests.servers.fixtures import KafkaAccess
from tests.servers.kafka import Kafka
from tests.servers.workspace import Workspace

PARTITIONS = 4


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.5)


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
        self.more: dict[str, Any] = {}

    async def open(self) -> None:
        """Make the topic."""
        async with admin_of(self.bootstrap) as admin:
            await admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)])

    def build(self) -> Source:
        """As the registry would."""
        given = {"bootstrap": [self.bootstrap], "topics": [self.topic], "group": self.topic}
        return KafkaSource(name=NAME, settings=KafkaSettings(**(given | self.more)), instance="test")

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
            offsets = await admin.list_consumer_group_offsets(self.topic)
        return {tp.partition: at.offset for tp, at in offsets.items() if tp.topic == self.topic}


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


@pytest_asyncio.fixture
async def rig(kafka: KafkaAccess) -> RealKafkaRig:
    made = RealKafkaRig(kafka.bootstrap)
    await made.open()
    return made


@pytest.mark.slow
async def test_every_record_once_over_stops_of_the_daemon_and_of_the_broker(workspace: Workspace) -> None:
    dice = random.Random(1)
    server = Kafka(workspace)
    await asyncio.to_thread(server.start)
    rig = RealKafkaRig(server.bootstrap)
    await rig.open()
    bench = Bench(rig)
    await rig.happen(3000)
    for enough in (1, 600, 1200):
        async with bench.running():
            await bench.journal.until(lambda: len(bench.journal.events) >= enough)  # noqa: B023 - used at once
            await asyncio.sleep(dice.random() * 0.02)
        await assert_nothing_is_committed_beyond_the_journal(bench, rig)
    async with bench.running():
        bench.journal.takes.clear()
        await asyncio.to_thread(server.kill)
        bench.journal.takes.set()  # what was read is in the journal now, and cannot be committed
        await asyncio.to_thread(server.start)
        await assert_nothing_is_committed_beyond_the_journal(bench, rig)
        await bench.journal.until(lambda: len(bench.journal.events) >= 3000, within=60)
        await rig.happen(10)
        await bench.all_accepted()
    assert await rig.committed() == journaled(bench)
    assert sum((await rig.committed()).values()) == 3010
    await asyncio.to_thread(server.stop)


async def test_records_arrive_as_they_are(rig: RealKafkaRig) -> None:
    big = random.Random(2).randbytes(1_000_000)
    values = [b"", big, b"\xff\x00", b'{"a": "\xc3\xa9"}', None]
    async with producer_of(rig.bootstrap, compression_type="gzip") as producer:
        for value in values:
            await producer.send_and_wait(
                rig.topic,
                value,
                key=b"k\xff",
                headers=[("X-Run", b"7")],
                partition=2,
                timestamp_ms=1_600_000_000_001,
            )
    bench = Bench(rig)
    async with bench.running():
        await bench.journal.until(lambda: len(bench.journal.events) == len(values))
    events = bench.journal.events
    assert [event.data for event in events] == [value or b"" for value in values]
    assert [event.action for event in events] == [Action.MESSAGE] * 4 + [Action.REMOVED]
    assert {event.time for event in events} == {1_600_000_000.001}
    assert events[0].attributes == {
        "partition": "2",
        "offset": "0",
        "record_key": "k\ufffd",
        "header.x-run": "7",
    }


async def test_what_was_aborted_in_a_transaction_is_not_seen_and_holds_up_nothing(rig: RealKafkaRig) -> None:
    async with producer_of(rig.bootstrap, transactional_id=rig.topic) as producer:
        async with producer.transaction():
            await producer.send(rig.topic, b"committed", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(rig.topic, b"aborted", partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send(rig.topic, b"after", partition=0)
    bench = Bench(rig)
    async with bench.running():
        await bench.journal.until(lambda: len(bench.journal.events) >= 2)
    assert [event.data for event in bench.journal.events] == [b"committed", b"after"]
    assert (await rig.committed())[0] == 5  # two markers and the aborted one are passed over


async def test_two_daemons_in_one_group_share_the_topic_and_double_nothing(rig: RealKafkaRig) -> None:
    one, other = Bench(rig), Bench(rig)
    await rig.happen(400)
    async with one.running():
        await one.journal.until(lambda: len(one.journal.events) >= 100)
        async with other.running():
            while not keys(other):
                await rig.happen(40)
            await until(lambda: len({*keys(one), *keys(other)}) >= len(rig.happened))
        await rig.happen(100)  # the first has all partitions again
        await until(lambda: len({*keys(one), *keys(other)}) >= len(rig.happened))
    assert Counter(keys(one) + keys(other)).most_common(1)[0][1] == 1


def keys(bench: Bench) -> list[str]:
    return [event.key for event in bench.journal.events]


async def until(happy: Callable[[], bool], *, within: float = 20) -> None:
    async with asyncio.timeout(within):
        while not happy():  # noqa: ASYNC110 - two journals are looked at, neither calls for both
            await asyncio.sleep(0.01)


async def test_a_shut_gate_keeps_the_partitions_for_longer_than_a_session(
    rig: RealKafkaRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "_SESSION_MS", 6000)  # the broker's shortest
    bench = Bench(rig)
    async with bench.running() as running:
        await rig.happen(8)
        await bench.all_accepted()
        bench.gate.set("full")
        await until(lambda: running.status.state is SourceState.PAUSED)
        before = await members(rig)
        await rig.happen(8)
        await asyncio.sleep(7.0)  # time itself is what is tested
        assert len(bench.journal.events) == 8
        assert await members(rig) == before
        bench.gate.set(None)
        await bench.journal.until(lambda: len(bench.journal.events) == 16)
        await bench.all_accepted()
    assert await members(rig) == []  # and a stop gives them back at once


async def members(rig: RealKafkaRig) -> list[str]:
    async with admin_of(rig.bootstrap) as admin:
        (described,) = await admin.describe_consumer_groups([rig.topic])
    return [member[0] for member in described.groups[0][5]]


async def test_brokers_that_go_before_there_are_partitions_are_missed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client library would wait for its partitions for ever, and say nothing."""
    monkeypatch.setattr(membership, "_PATIENCE", 0.5)
    server = Kafka(workspace)
    await asyncio.to_thread(server.start)
    rig = RealKafkaRig(server.bootstrap)
    await rig.open()
    source = rig.build()
    await source.connect(None)
    await asyncio.to_thread(server.kill)
    monkeypatch.setattr(kafka_source, "_POLL", 0.5)
    monkeypatch.setattr(kafka_source, "_PROBE_AFTER", 0.0)
    with pytest.raises(Disconnected):
        await source.read()
    await source.aclose()


async def test_latest_takes_what_comes_after_the_first_start_even_if_that_failed(rig: RealKafkaRig) -> None:
    await rig.happen(20)
    rig.more = {"start": "latest"}
    source = rig.build()
    await source.connect(None)
    await until_committed(rig)
    await source.aclose()  # before it had anything for the journal
    rig.happened.clear()
    await rig.happen(5)
    bench = Bench(rig)
    async with bench.running():
        await bench.all_accepted()


async def until_committed(rig: RealKafkaRig) -> None:
    async with asyncio.timeout(20):
        while len(await rig.committed()) < PARTITIONS:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"topics": ["no-such-topic"]}, Rejected, "no-such-topic"),
        ({"bootstrap": ["127.0.0.1:1"]}, Disconnected, "127.0.0.1:1"),
        (
            {"security": {"protocol": "SASL_PLAINTEXT", "username": "u", "password": "secret-word"}},
            Rejected,
            "Sasl",
        ),
    ],
)
async def test_what_is_wrong_is_said(
    rig: RealKafkaRig, more: dict[str, Any], kind: type[SourceError], words: str
) -> None:
    rig.more = more
    source = rig.build()
    with pytest.raises(kind, match=words) as raised:
        await source.connect(None)
    await source.aclose()
    assert "secret-word" not in str(raised.value)
