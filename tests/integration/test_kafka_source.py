"""The Kafka source against a real broker, under the runner, with a journal that outlives both."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
import pytest_asyncio

from dcnios_daemon.core.errors import Disconnected, Rejected, SourceError
from dcnios_daemon.core.event import Action
from dcnios_daemon.sources import runner
from dcnios_daemon.sources.kafka import membership
from dcnios_daemon.sources.kafka import source as kafka_source
from dcnios_daemon.sources.status import SourceState
from tests.contract.source_rig import Bench
from tests.integration.kafka_rig import (
    RealKafkaRig,
    assert_nothing_is_committed_beyond_the_journal,
    journaled,
    keys,
    members,
    producer_of,
    until,
    until_committed,
    until_lag_is_gone,
)
from tests.servers.fixtures import KafkaAccess
from tests.servers.kafka import Kafka
from tests.servers.workspace import Workspace


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.5)


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
        await until_lag_is_gone(rig)
    assert [event.data for event in bench.journal.events] == [b"committed", b"after"]
    assert (await rig.committed())[0] == 6  # the aborted one and the three markers are passed over


async def test_a_batch_of_nothing_but_aborted_records_moves_the_group_on(rig: RealKafkaRig) -> None:
    bench = Bench(rig)
    async with bench.running():
        async with producer_of(rig.bootstrap, transactional_id=rig.topic) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(rig.topic, b"aborted", partition=1)
            await producer.abort_transaction()
        await until_lag_is_gone(rig)
    assert (await rig.committed())[1] == 2
    assert bench.journal.events == []


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_records_arrive(rig: RealKafkaRig, compression: str) -> None:
    values = [b"%d " % number + bytes(2000) for number in range(300)]
    async with producer_of(rig.bootstrap, compression_type=compression) as producer:
        await asyncio.gather(*[await producer.send(rig.topic, value, partition=0) for value in values])
    bench = Bench(rig)
    async with bench.running():
        await bench.journal.until(lambda: len(bench.journal.events) >= len(values))
    assert [event.data for event in bench.journal.events] == values


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


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"topics": ["no-such-topic"]}, Rejected, "no-such-topic"),
        ({"bootstrap": ["127.0.0.1:1"]}, Disconnected, "127.0.0.1:1"),
        (
            {"security": {"protocol": "SASL_PLAINTEXT", "username": "u", "password": "secret-word"}},
            Rejected,
            "no login there",
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
