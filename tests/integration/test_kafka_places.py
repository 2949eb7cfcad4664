"""Where a Kafka source begins and goes on, against a real broker: first starts, lost records, topics that are
made again, topics by pattern."""

import asyncio
import re
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from aiokafka.admin import NewPartitions

from dcnios_daemon.core.errors import Rejected
from dcnios_daemon.core.ports import Source
from dcnios_daemon.sources import runner
from dcnios_daemon.sources.kafka import membership
from dcnios_daemon.sources.kafka import source as kafka_source
from dcnios_daemon.sources.kafka.check import check
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.telemetry.metrics import REGISTRY
from tests.contract.source_rig import NAME, Bench
from tests.integration.kafka_rig import (
    PARTITIONS,
    RealKafkaRig,
    admin_of,
    keys,
    producer_of,
    until,
    until_lag_is_gone,
)
from tests.servers.fixtures import KafkaAccess


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.5)


@pytest_asyncio.fixture
async def rig(kafka: KafkaAccess) -> RealKafkaRig:
    made = RealKafkaRig(kafka.bootstrap)
    await made.open()
    return made


def lost(rig: RealKafkaRig) -> float:
    labels = {"source": NAME, "topic": rig.topic}
    return REGISTRY.get_sample_value("dcnios_kafka_offsets_lost_total", labels) or 0.0


async def read_on(source: Source) -> None:
    while True:
        await source.ack(await source.read())


# --- the first start ------------------------------------------------------------------------------------


async def test_a_start_at_a_time_takes_what_is_as_old_or_younger_and_holds_from_then_on(
    rig: RealKafkaRig,
) -> None:
    moment = 1_700_000_000
    async with producer_of(rig.bootstrap) as producer:
        for number, seconds in enumerate((moment - 10, moment - 1, moment, moment + 5)):
            value = b"%d" % number
            await producer.send_and_wait(rig.topic, value, partition=0, timestamp_ms=seconds * 1000)
        await producer.send_and_wait(rig.topic, b"too old", partition=1, timestamp_ms=(moment - 1) * 1000)
    rig.more = {"start": datetime.fromtimestamp(moment, UTC)}
    bench = Bench(rig)
    async with bench.running():
        await bench.journal.until(lambda: len(bench.journal.events) >= 2)
        await until_lag_is_gone(rig)
    assert [event.data for event in bench.journal.events] == [b"2", b"3"]
    assert await rig.committed() == {0: 4, 1: 1, 2: 0, 3: 0}
    rig.happened.clear()
    rig.more = {"start": datetime.fromtimestamp(0, UTC)}  # says nothing any more
    again = Bench(rig)
    async with again.running():
        await rig.happen(4)
        await again.all_accepted()


async def test_what_comes_after_an_idle_first_start_at_the_end_is_read_even_from_a_new_partition(
    rig: RealKafkaRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``latest`` speaks of the first start. A partition that is added later was not there then."""
    monkeypatch.setattr(membership, "_METADATA_MS", 200)
    await rig.happen(8)
    rig.more = {"start": "latest"}
    bench = Bench(rig)
    async with bench.running():
        await bench.journal.until(lambda: bool(bench.journal.cursors))
    async with admin_of(rig.bootstrap) as admin:
        await admin.create_partitions({rig.topic: NewPartitions(PARTITIONS + 1)})
        while len((await admin.describe_topics([rig.topic]))[0]["partitions"]) <= PARTITIONS:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.02)
    async with producer_of(rig.bootstrap) as producer:
        await producer.send_and_wait(rig.topic, b"first of its partition", partition=PARTITIONS)
    async with bench.running():
        await bench.journal.until(lambda: len(bench.journal.events) >= 1)
    assert [event.data for event in bench.journal.events] == [b"first of its partition"]


# --- lost records ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "expected", "passed_over"), [("earliest", 2, 3), ("latest", 0, 5)])
async def test_records_deleted_before_they_were_read_are_counted_and_the_rest_goes_on(
    rig: RealKafkaRig, policy: str, expected: int, passed_over: int
) -> None:
    bench = Bench(rig)
    async with bench.running():
        await rig.happen(PARTITIONS)
        await bench.all_accepted()
    async with producer_of(rig.bootstrap) as producer:
        for number in range(5):
            await producer.send_and_wait(rig.topic, b"%d" % number, partition=0)
    await rig.forget(0, before=4)
    rig.more = {"on_lost_offset": policy}
    async with bench.running():
        await until(lambda: lost(rig) > 0)
        await until_lag_is_gone(rig)
        async with producer_of(rig.bootstrap) as producer:
            await producer.send_and_wait(rig.topic, b"after", partition=0)
        await bench.journal.until(lambda: bench.journal.events[-1].data == b"after")
    assert lost(rig) == passed_over
    assert len(bench.journal.events) == PARTITIONS + expected + 1


async def test_a_source_that_must_not_lose_anything_says_so_and_stays_where_it_is(rig: RealKafkaRig) -> None:
    bench = Bench(rig)
    async with bench.running():
        await rig.happen(PARTITIONS)
        await bench.all_accepted()
        await until_lag_is_gone(rig)
    await rig.happen(PARTITIONS * 2)
    await rig.forget(0, before=2)
    rig.more = {"on_lost_offset": "fail"}
    source = rig.build()
    await source.connect(None)
    with pytest.raises(Rejected, match=re.escape(f"partition 0 of {rig.topic} has offsets 2 to 3, not 1")):
        await read_on(source)
    await source.aclose()
    assert (await rig.committed())[0] == 1


# --- another topic of the same name ---------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 8], ids=["fewer", "as many", "more"])
async def test_a_topic_made_again_is_read_from_its_beginning(rig: RealKafkaRig, count: int) -> None:
    bench = Bench(rig)
    async with bench.running():
        await rig.happen(3 * PARTITIONS)
        await bench.all_accepted()
        await until_lag_is_gone(rig)
    await rig.delete()
    await rig.make(rig.topic)
    await rig.happen(count * PARTITIONS)
    async with bench.running():
        await bench.all_accepted()
    assert len(set(keys(bench))) == (3 + count) * PARTITIONS


@pytest.mark.parametrize("count", [2, 8], ids=["fewer", "more"])
async def test_a_topic_made_again_behind_a_running_source_is_noticed(
    rig: RealKafkaRig, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetches name topics and offsets: the broker finds nothing wrong with going on in the middle."""
    monkeypatch.setattr(membership, "_METADATA_MS", 300)
    monkeypatch.setattr(kafka_source, "_POLL", 0.2)
    monkeypatch.setattr(kafka_source, "_PROBE_AFTER", 0.5)
    bench = Bench(rig)
    async with bench.running():
        await rig.happen(3 * PARTITIONS)
        await bench.all_accepted()
        await until_lag_is_gone(rig)
        await rig.delete()
        await rig.make(rig.topic)
        await rig.happen(count * PARTITIONS)
        await bench.all_accepted()


async def test_a_group_that_was_forgotten_goes_on_where_the_journal_is(rig: RealKafkaRig) -> None:
    """Brokers forget a group's offsets when it is empty for a week: that is no reason to run all anew."""
    bench = Bench(rig)
    async with bench.running():
        await rig.happen(2 * PARTITIONS)
        await bench.all_accepted()
    rig.group += "-unknown"
    assert await rig.committed() == {}
    await rig.happen(PARTITIONS)
    async with bench.running():
        await bench.all_accepted()
    assert bench.journal.duplicates == 0


# --- topics by pattern ----------------------------------------------------------------------------------


async def test_a_pattern_takes_the_topics_that_match_and_those_that_are_made_later(
    rig: RealKafkaRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "_METADATA_MS", 300)
    name = rig.topic
    rig.more = {"topics": [], "pattern": rf"{name}\.\d+", "start": "latest"}
    for topic in (f"{name}.1", f"{name}.1-else"):
        await rig.make(topic, 1)
    bench = Bench(rig)
    async with bench.running():
        await bench.journal.until(lambda: bool(bench.journal.cursors))
        async with producer_of(rig.bootstrap) as producer:
            await rig.make(f"{name}.2", 1)
            for topic in (f"{name}.1", f"{name}.2", f"{name}.1-else", name):
                await producer.send_and_wait(topic, topic.encode())
            await bench.journal.until(lambda: len(bench.journal.events) >= 2)
    assert {event.subject for event in bench.journal.events} == {f"{name}.1", f"{name}.2"}


async def test_a_check_says_when_nothing_matches(rig: RealKafkaRig) -> None:
    def given(pattern: str) -> KafkaSettings:
        return KafkaSettings(bootstrap=(rig.bootstrap,), pattern=pattern)

    [finding] = await check(name="it", settings=given("no-such-.*"), instance="test", targets={})
    assert "'no-such-.*'" in finding
    assert "sources.it.pattern" in finding
    fine = given(re.escape(rig.topic))
    assert await check(name="it", settings=fine, instance="test", targets={}) == []


# --- lag ------------------------------------------------------------------------------------------------


async def test_the_lag_of_each_partition_is_told_while_it_is_ours(
    rig: RealKafkaRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lags() -> dict[str, float]:
        return {
            sample.labels["partition"]: sample.value
            for metric in REGISTRY.collect()
            for sample in metric.samples
            if sample.name == "dcnios_kafka_lag" and sample.labels["topic"] == rig.topic
        }

    monkeypatch.setattr(kafka_source, "_LAG_EVERY", 0.0)
    monkeypatch.setattr(kafka_source, "_POLL", 0.2)
    bench = Bench(rig)
    written = 2500 * PARTITIONS  # of each partition more than a batch holds: which of them it is of is luck
    await rig.happen(written)
    bench.journal.takes.clear()
    async with bench.running():
        most = kafka_source._BATCH_RECORDS
        await until(lambda: written - most <= sum(lags().values()) < written)
        bench.journal.takes.set()
        await until(lambda: lags() == {str(number): 0.0 for number in range(PARTITIONS)})
    assert lags() == {}
