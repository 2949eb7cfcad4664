"""Two daemons in one group on a real broker, one of them killed and started again and again.

``DCNIOS_TEST_SCALE=full`` makes it 200,000 records and 20 kills; otherwise it is a tenth.
"""

import asyncio
import os
import random
import re
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from dcnios_daemon.core.names import event_key, order_name
from tests.daemon import DaemonProcess, eventually
from tests.integration.kafka_rig import admin_of
from tests.servers.fixtures import KafkaAccess

FULL = os.environ.get("DCNIOS_TEST_SCALE") == "full"
RECORDS, KILLS = (200_000, 20) if FULL else (20_000, 3)
PARTITIONS = 12
_ORDER = re.compile(rb'"order": ?"([^"]+)"')


class Group:
    """The topic, what was written to it, and the two daemons."""

    def __init__(self, bootstrap: str, folder: Path, *, static_member: bool) -> None:
        self.bootstrap = bootstrap
        self.topic = f"group-{secrets.token_hex(4)}"
        self.began = int(time.time() * 1000)
        """The first record's time: of now, since a broker deletes what is old."""
        self.places: dict[bytes, tuple[int, int]] = {}
        """The key in a journal to partition and offset."""
        source = {
            "kind": "kafka",
            "bootstrap": [bootstrap],
            "topics": [self.topic],
            "group": self.topic,
            "static_member": static_member,
        }
        self.daemons = [
            DaemonProcess(
                folder / instance,
                {
                    "daemon": {"instance": instance},
                    "limits": {"rate": None, "in_flight": None},
                    "sources": {"frames": source},
                    "routes": {"all": {"from": ["frames"], "run": {"kind": "dry-run", "image": "none"}}},
                },
            )
            for instance in ("hall-a", "hall-b")
        ]

    async def make(self) -> None:
        """Make the topic."""
        from aiokafka.admin import NewTopic  # noqa: PLC0415

        async with admin_of(self.bootstrap) as admin:
            await admin.create_topics([NewTopic(self.topic, PARTITIONS, 1)])

    async def write(self, count: int) -> None:
        """To all partitions in turn, some hundreds at a time."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5)
        await producer.start()
        try:
            first = len(self.places)
            for begin in range(first, first + count, 500):
                sent = [
                    await producer.send(
                        self.topic, b'{"n":%d}' % n, partition=n % PARTITIONS, timestamp_ms=self.began + n
                    )
                    for n in range(begin, min(begin + 500, first + count))
                ]
                for n, written in enumerate(await asyncio.gather(*sent), start=begin):
                    place = (written.partition, written.offset)
                    key = event_key("frames", self.topic, *place, self.began + n)
                    self.places[bytes.fromhex(key)] = place
        finally:
            await producer.stop()

    async def committed(self) -> dict[int, int]:
        """The group's offsets."""
        async with admin_of(self.bootstrap) as admin:
            offsets = await admin.list_consumer_group_offsets(self.topic)
        return {each.partition: mark.offset for each, mark in offsets.items()}

    async def keys(self) -> set[bytes]:
        """What the journals hold, of the living and of the dead."""
        held = await asyncio.gather(*[asyncio.to_thread(_keys, each.folder) for each in self.daemons])
        return set().union(*held)

    async def assert_nothing_is_committed_beyond_the_journals(self) -> None:
        """Offsets first: journals only grow."""
        committed = await self.committed()
        held: dict[int, set[int]] = {}
        for key in await self.keys():
            partition, offset = self.places[key]
            held.setdefault(partition, set()).add(offset)
        for partition, offset in committed.items():
            missing = set(range(offset)) - held.get(partition, set())
            assert not missing, f"partition {partition}: committed {offset}, no journal has {sorted(missing)}"


def _keys(folder: Path) -> set[bytes]:
    path = folder / "state" / "journal.db"
    if not path.exists():
        return set()
    with closing(sqlite3.connect(path, timeout=30)) as journal:
        return {key for (key,) in journal.execute("SELECT key FROM keys")}


def _names(daemon: DaemonProcess) -> set[str]:
    """Of all orders that the sink was ever given, and of those that the journal still shows."""
    said = {name.decode() for name in _ORDER.findall(daemon.log.read_bytes())}
    with closing(sqlite3.connect(daemon.folder / "state" / "journal.db", timeout=30)) as journal:
        kept = journal.execute("SELECT name FROM deliveries WHERE name != ''")
        return said | {name for (name,) in kept}


@asynccontextmanager
async def running(daemons: list[DaemonProcess]) -> AsyncIterator[None]:
    for daemon in daemons:
        await asyncio.to_thread(daemon.start)
    try:
        for daemon in daemons:
            await daemon.until_ready()
        yield
    finally:
        for daemon in daemons:
            await daemon.kill()


async def accepted(daemon: DaemonProcess) -> int:
    status: Any = await daemon.get("/api/v1/status")
    [source] = status["sources"].values()
    count: int = source["accepted"]
    return count


@pytest.mark.slow
@pytest.mark.timeout(1800 if FULL else 300)
@pytest.mark.parametrize("static_member", [False, True], ids=["dynamic", "static"])
async def test_every_record_is_in_a_journal_and_has_one_name_over_kills_of_a_member(
    kafka: KafkaAccess, tmp_path: Path, static_member: bool
) -> None:
    dice = random.Random(7)
    group = Group(kafka.bootstrap, tmp_path, static_member=static_member)
    await group.make()
    victim, _ = group.daemons
    share = RECORDS // (KILLS + 1)
    async with running(group.daemons):
        life = 0
        for _ in range(KILLS):
            await eventually(lambda: owns(victim, life), "the victim has partitions", within=60)  # noqa: B023
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(group.write(share))
                await eventually(lambda: reads(victim), "the victim reads", within=60)
                await asyncio.sleep(dice.random() * 0.5)
                await victim.kill()
            await group.assert_nothing_is_committed_beyond_the_journals()
            life = victim.log.stat().st_size
            await asyncio.to_thread(victim.start)
            await victim.until_ready()
        await group.write(RECORDS - KILLS * share)
        await eventually(lambda: has_all(group), "the journals have all", within=300)
        await eventually(lambda: all_submitted(group), "all were submitted", within=300)
    assert await group.keys() == group.places.keys()
    names = await asyncio.gather(*[asyncio.to_thread(_names, each) for each in group.daemons])
    assert set().union(*names) == {order_name("all", key.hex(), 1) for key in group.places}
    await group.assert_nothing_is_committed_beyond_the_journals()
    assert sum((await group.committed()).values()) == RECORDS


async def owns(daemon: DaemonProcess, life: int) -> bool:
    """Whether the group gave it partitions, since that place in its log."""
    log = (await asyncio.to_thread(daemon.log.read_bytes))[life:]
    told = [line for line in log.splitlines() if b"kafka.assigned" in line]
    return bool(told) and b'"topics": {}' not in told[-1]


async def reads(daemon: DaemonProcess) -> bool:
    return await accepted(daemon) > 0


async def has_all(group: Group) -> bool:
    return len(await group.keys()) == len(group.places) and sum((await group.committed()).values()) == RECORDS


async def all_submitted(group: Group) -> bool:
    counts = [await daemon.counts("all") for daemon in group.daemons]
    return not any(each.get("queued") or each.get("submitting") for each in counts)
