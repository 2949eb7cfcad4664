"""A consumer group in memory, and the rig that drives the Kafka source with it. The real broker's turn is in
tests/integration."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import msgspec

from dcnios_daemon.core.errors import Disconnected
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Source
from dcnios_daemon.sources.kafka.membership import Assigned, Membership, Revoked, Strayed
from dcnios_daemon.sources.kafka.places import Mark, Partition
from dcnios_daemon.sources.kafka.records import Record
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.sources.kafka.source import KafkaSource
from dcnios_daemon.sources.kafka.topics import Topics
from tests.contract.source_rig import NAME, Rig

SETTINGS = KafkaSettings(bootstrap=("broker:9092",), topics=("frames",))


class FakeRecord(msgspec.Struct, frozen=True):
    """What aiokafka would give."""

    topic: str
    partition: int
    offset: int
    timestamp: int = 1_700_000_000_123
    key: bytes | None = None
    value: bytes | None = b"{}"
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Broker:
    """One topic and one group."""

    def __init__(self, partitions: int = 2) -> None:
        self.logs: list[list[FakeRecord]] = [[] for _ in range(partitions)]
        self.first = [0] * partitions
        """What is before has been deleted."""
        self.topic_id = "one"
        self.marks: dict[Partition, Mark] = {}
        self.member: FakeMembership | None = None
        self._news = asyncio.Event()

    @property
    def committed(self) -> dict[Partition, int]:
        """The group's offsets."""
        return {partition: mark.offset for partition, mark in self.marks.items()}

    def write(self, value: bytes | None, **more: object) -> FakeRecord:
        """To the partitions in turn."""
        partition = sum(map(len, self.logs)) % len(self.logs)
        log = self.logs[partition]
        record = FakeRecord("frames", partition, len(log), value=value, **more)  # type: ignore[arg-type]
        log.append(record)
        self._news.set()
        return record

    def make_again(self, topic_id: str) -> None:
        """Delete the topic and make it again; the group's offsets survive that, as they may."""
        self.logs = [[] for _ in self.logs]
        self.first = [0] * len(self.logs)
        self.topic_id = topic_id

    async def news(self, wait: float) -> None:
        """Wait for records."""
        self._news.clear()
        try:
            async with asyncio.timeout(wait):
                await self._news.wait()
        except TimeoutError:
            return

    async def rebalance(self) -> None:
        """Take all from the member and give it back, from what was committed."""
        if self.member is not None:
            await self.member.rebalanced()


class FakeTopics(Topics):
    """What the broker has."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.ids = {}

    async def check(self) -> None:
        """It is there, perhaps another one."""
        await asyncio.sleep(0)
        if self.ids.get("frames", self.broker.topic_id) != self.broker.topic_id:
            raise Disconnected("topic frames was deleted and made again")

    async def look_at(self, topics: Collection[str]) -> None:
        """See which one it is; of an old broker, nothing."""
        await asyncio.sleep(0)
        self.ids = dict.fromkeys(topics, self.broker.topic_id) if self.broker.topic_id else {}


class FakeMembership(Membership):
    """A member of it."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(settings=SETTINGS, group="group", client="client")
        self.broker = broker
        self.topics = FakeTopics(broker)
        self.at: dict[Partition, int] = {}
        self.paused = False
        self.refuses_commits = False
        self._revoked: Revoked
        self._assigned: Assigned

    async def join(self, *, revoked: Revoked, assigned: Assigned, strayed: Strayed) -> None:
        """All partitions at once."""
        self._revoked, self._assigned, self._strayed = revoked, assigned, strayed
        self.broker.member = self
        await self._assign()

    async def rebalanced(self) -> None:
        """Lose all and get it again."""
        await self._revoked()
        self.at = {}
        await self._assign()

    async def _assign(self) -> None:
        await self._assigned([("frames", number) for number in range(len(self.broker.logs))])

    async def fetch(self, *, wait: float, most: int) -> Sequence[Record]:
        """In turn from all partitions."""
        for each, position in self.at.items():
            if not self.broker.first[each[1]] <= position <= len(self.broker.logs[each[1]]):
                await self._strayed(each, position)
                return []
        taken = self._take(most)
        if not taken and wait:
            await self.broker.news(wait)
            taken = self._take(most)
        return taken

    def _take(self, most: int) -> list[Record]:
        taken: list[Record] = []
        for partition, position in self.at.items():
            if not self.paused:
                records = self.broker.logs[partition[1]][position : position + most - len(taken)]
                self.at[partition] = position + len(records)
                taken += records
        return taken

    def positions(self) -> Mapping[Partition, int]:
        """As the real one."""
        return dict(self.at)

    def lags(self) -> Mapping[Partition, int]:
        """As the real one."""
        return {each: len(self.broker.logs[each[1]]) - at for each, at in self.at.items()}

    async def commit(self, offsets: Mapping[Partition, int]) -> bool:
        """Believed at once."""
        await asyncio.sleep(0)
        if self.refuses_commits:
            return False
        topic_id = self.topics.ids.get("frames", "")
        self.broker.marks |= {each: Mark(at, topic_id) for each, at in offsets.items()}
        return True

    async def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Mark]:
        """As the real one."""
        await asyncio.sleep(0)
        return {each: mark for each, mark in self.broker.marks.items() if each in partitions}

    async def offsets(
        self, partitions: Sequence[Partition], place: Literal["earliest", "latest"] | float
    ) -> Mapping[Partition, int]:
        """As the real one."""
        await asyncio.sleep(0)
        found = {}
        for each in partitions:
            log, first = self.broker.logs[each[1]], self.broker.first[each[1]]
            if place == "earliest":
                found[each] = first
            else:
                later = [one.offset for one in log if place != "latest" and one.timestamp >= place * 1000]
                found[each] = min(later, default=len(log))
        return found

    def seek(self, places: Mapping[Partition, int]) -> None:
        """As the real one."""
        self.at |= places

    def pause(self) -> None:
        """Nothing more is fetched."""
        self.paused = True

    def resume(self) -> None:
        """Again."""
        self.paused = False

    async def leave(self) -> None:
        """Gone."""
        await asyncio.sleep(0)
        if self.broker.member is self:
            self.broker.member = None


class KafkaRig(Rig):
    """Records; a rebalance from an old commit tells of them again."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker()

    def build(self) -> Source:
        """A new membership each time, as the real source makes one."""
        membership = FakeMembership(self.broker)
        return KafkaSource(name=NAME, settings=SETTINGS, instance="test", membership=membership)

    async def happen(self, count: int) -> None:
        """Records, tombstones among them."""
        for number in range(count):
            self._write(None if number % 5 == 4 else b"\x00\xff")
            await asyncio.sleep(0)

    def _write(self, value: bytes | None, **more: object) -> None:
        record = self.broker.write(value, **more)
        self.happened.append(f"{record.partition}/{record.offset}")

    async def send_again(self) -> None:
        """Somebody sets the group back to the beginning."""
        self.broker.marks = {each: Mark(0, mark.topic_id) for each, mark in self.broker.marks.items()}
        await self.broker.rebalance()

    async def send_malformed(self) -> None:
        """Key and headers that are no text, a time before the beginning: it is an event all the same."""
        self._write(b"{", key=b"\xff", headers=(("h", b"\xc3("), ("n", None)), timestamp=-1)
        await asyncio.sleep(0)

    def identify(self, event: Event) -> str:
        """Partition and offset."""
        return f"{event.attributes['partition']}/{event.attributes['offset']}"
