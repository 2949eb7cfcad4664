"""A Kafka source among others of its group, on a real broker: who may commit, what moves, what stays shut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from dcnios_daemon.sources import runner
from dcnios_daemon.sources.kafka import membership
from dcnios_daemon.sources.status import SourceState
from tests.contract.source_rig import Bench
from tests.integration.kafka_rig import PARTITIONS, RealKafkaRig, keys, members, until, until_lag_is_gone
from tests.servers.fixtures import KafkaAccess
from tests.servers.kafka import Kafka
from tests.servers.workspace import Workspace


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.5)
    monkeypatch.setattr(membership, "_SESSION_MS", 6000)  # the broker's shortest
    monkeypatch.setattr(membership, "_HEARTBEAT_MS", 500)


@pytest_asyncio.fixture
async def rig(kafka: KafkaAccess) -> RealKafkaRig:
    made = RealKafkaRig(kafka.bootstrap)
    await made.open()
    return made


def partitions(rig: RealKafkaRig) -> set[int]:
    """What its source has."""
    consumer: Any = rig.built._membership._consumer
    return {partition for _, partition in consumer.assignment()} if rig.built._is_ours else set()


@asynccontextmanager
async def joined(*rigs: RealKafkaRig) -> AsyncIterator[list[Bench]]:
    """Sources under their runners, one after the other; each has partitions when the next one joins."""
    if not rigs:
        yield []
        return
    bench, built = Bench(rigs[0]), getattr(rigs[0], "built", None)
    async with bench.running():
        await until(lambda: getattr(rigs[0], "built", None) is not built and bool(partitions(rigs[0])))
        async with joined(*rigs[1:]) as others:
            yield [bench, *others]


# --- who may commit -------------------------------------------------------------------------------------


async def test_a_member_that_was_given_up_cannot_set_the_group_back(rig: RealKafkaRig) -> None:
    """It slept through its session and still believes that the partitions are its own."""
    await rig.happen(PARTITIONS)
    zombie = rig.build()
    await zombie.connect(None)
    batch = await zombie.read()
    await rig.built._membership._coordinator._stop_heartbeat_task()
    heir = Bench(rig.other("heir"))
    async with heir.running():
        await rig.happen(PARTITIONS)
        await heir.journal.until(lambda: len(heir.journal.events) == 2 * PARTITIONS)
        await until_lag_is_gone(rig)
        before = await rig.committed()
        await zombie.ack(batch)
        assert await rig.committed() == before
    await zombie.aclose()
    assert await rig.committed() == before


async def test_a_commit_is_not_repeated_in_the_name_of_a_later_membership(
    rig: RealKafkaRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coordinator that moves makes it try again. By then the partition may be another's."""
    await rig.happen(PARTITIONS)
    source = rig.build()
    await source.connect(None)
    batch = await source.read()
    before = await rig.committed()
    coordinator: Any = rig.built._membership._coordinator
    tried = asyncio.Event()

    async def moves(*_: object) -> None:
        from aiokafka.errors import NotCoordinatorForGroupError  # noqa: PLC0415

        tried.set()
        raise NotCoordinatorForGroupError

    monkeypatch.setattr(coordinator, "_do_commit_offsets", moves)
    async with asyncio.TaskGroup() as group:
        group.create_task(source.ack(batch))
        await tried.wait()
        coordinator.request_rejoin()
        await until(lambda: coordinator.generation > 1 and rig.built._is_ours)
        monkeypatch.undo()
    assert await rig.committed() == before
    again = await source.read()
    assert {event.key for event in again.events} == {event.key for event in batch.events}
    await source.ack(again)
    await until_lag_is_gone(rig)
    await source.aclose()


# --- what moves -----------------------------------------------------------------------------------------


async def test_a_rebalance_moves_hardly_more_than_it_must(rig: RealKafkaRig) -> None:
    rig.topic += "-wide"
    await rig.make(rig.topic, 12)
    rigs = [rig.other(instance) for instance in ("a", "b", "c")]
    async with joined(*rigs[:2]):
        await until(lambda: [len(partitions(each)) for each in rigs[:2]] == [6, 6])
        before = [partitions(each) for each in rigs[:2]]
        async with joined(rigs[2]):
            await until(lambda: [len(partitions(each)) for each in rigs] == [4, 4, 4])
            kept = [partitions(each) & had for each, had in zip(rigs[:2], before, strict=True)]
            assert sum(map(len, kept)) >= 7, kept  # 8 would be perfect; the library moves one in vain
        await until(lambda: [len(partitions(each)) for each in rigs[:2]] == [6, 6])


async def test_the_restart_of_a_static_member_moves_nothing(rig: RealKafkaRig) -> None:
    rig.more = {"static_member": True}
    stays, restarts = rig.other("stays"), rig.other("restarts")
    async with joined(stays) as [bench]:
        async with joined(restarts):
            await until(lambda: len(partitions(stays)) == len(partitions(restarts)) == PARTITIONS // 2)
            had, term = partitions(restarts), stays.built._term
        await rig.happen(PARTITIONS)
        await bench.journal.until(lambda: len(bench.journal.events) == PARTITIONS // 2)
        async with joined(restarts) as [back]:
            await back.journal.until(lambda: len(back.journal.events) == PARTITIONS // 2)
            assert partitions(restarts) == had
        assert stays.built._term == term
        assert len({*keys(bench), *keys(back)}) == PARTITIONS


# --- what stays paused ----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_shut_gate_outlasts_many_sessions_and_a_rebalance(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "_SESSION_MS", 500)
    monkeypatch.setattr(membership, "_HEARTBEAT_MS", 100)
    server = Kafka(workspace, properties="group.min.session.timeout.ms=100\n")
    await asyncio.to_thread(server.start)
    rig = RealKafkaRig(server.bootstrap)
    await rig.open()
    bench = Bench(rig)
    async with bench.running() as running:
        await rig.happen(PARTITIONS)
        await bench.all_accepted()
        bench.gate.set("full")
        await until(lambda: running.status.state is SourceState.PAUSED)
        before = await members(rig)
        await rig.happen(PARTITIONS)
        await asyncio.sleep(10)  # twenty sessions: time itself is what is tested
        assert await members(rig) == before
        async with joined(rig.other("passes by")) as [other]:
            await other.journal.until(lambda: len(other.journal.events) == PARTITIONS // 2)
        await until(lambda: len(partitions(rig)) == PARTITIONS)
        assert await members(rig) == before
        assert len(bench.journal.events) == PARTITIONS
        bench.gate.set(None)
        await bench.journal.until(lambda: len(bench.journal.events) == PARTITIONS + PARTITIONS // 2)
    await asyncio.to_thread(server.stop)
