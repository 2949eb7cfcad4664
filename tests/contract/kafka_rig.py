"""A consumer group in memory, and the rig that drives the Kafka source with it. The real broker's turn is in
tests/integration."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Source
from dcnios_daemon.sources.kafka.membership import Membership, Partition
from dcnios_daemon.sources.kafka.records import Record
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.sources.kafka.source import KafkaSource
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
        self.committed: dict[Partition, int] = {}
        self.member: FakeMembership | None = None
        self._news = asyncio.Event()

    def write(self, value: bytes | None, **more: object) -> FakeRecord:
        """To the partitions in turn."""
        partition = sum(map(len, self.logs)) % len(self.logs)
        log = self.logs[partition]
        record = FakeRecord("frames", partition, len(log), value=value, **more)  # type: ignore[arg-type]
        log.append(record)
        self._news.set()
        return record

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


class FakeMembership(Membership):
    """A member of it."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(settings=SETTINGS, group="group", client="client")
        self.broker = broker
        self.positions: dict[Partition, int] = {}
        self.paused = False
        self.epoch = 0
        self._revoked: Callable[[], Awaitable[None]]
        self._assigned: Callable[[Sequence[Partition]], Awaitable[None]]

    async def join(
        self,
        *,
        revoked: Callable[[], Awaitable[None]],
        assigned: Callable[[Sequence[Partition]], Awaitable[None]],
    ) -> None:
        """All partitions at once."""
        self._revoked, self._assigned = revoked, assigned
        self.broker.member = self
        await self._assign()

    async def rebalanced(self) -> None:
        """Lose all and get it again."""
        self.positions = {}
        await self._revoked()
        await self._assign()

    async def _assign(self) -> None:
        partitions = [("frames", number) for number in range(len(self.broker.logs))]
        self.positions = {each: self.broker.committed.get(each, 0) for each in partitions}
        self.epoch += 1
        await self._assigned(partitions)

    async def check_topics(self) -> None:
        """It is there."""
        await asyncio.sleep(0)

    async def fetch(self, *, wait: float, most: int) -> Sequence[Record]:
        """In turn from all partitions."""
        taken = self._take(most)
        if not taken and wait:
            await self.broker.news(wait)
            taken = self._take(most)
        return taken

    def _take(self, most: int) -> list[Record]:
        taken: list[Record] = []
        for partition, position in self.positions.items():
            if not self.paused:
                records = self.broker.logs[partition[1]][position : position + most - len(taken)]
                self.positions[partition] = position + len(records)
                taken += records
        return taken

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Believed at once."""
        await asyncio.sleep(0)
        self.broker.committed.update(offsets)

    async def begin_at_end(self, partitions: Sequence[Partition]) -> None:
        """As the real one."""
        ends = {each: len(self.broker.logs[each[1]]) for each in partitions}
        fresh = {each: end for each, end in ends.items() if each not in self.broker.committed}
        self.positions |= fresh
        await self.commit(fresh)

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
        self.broker.committed.clear()
        await self.broker.rebalance()

    async def send_malformed(self) -> None:
        """Key and headers that are no text, a time before the beginning: it is an event all the same."""
        self._write(b"{", key=b"\xff", headers=(("h", b"\xc3("), ("n", None)), timestamp=-1)
        await asyncio.sleep(0)

    def identify(self, event: Event) -> str:
        """Partition and offset."""
        return f"{event.attributes['partition']}/{event.attributes['offset']}"
