"""The Kafka source: batches of records, each committed to the group only when the journal has it."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from dcnios_daemon.core.clock import Clock, SystemClock
from dcnios_daemon.core.errors import SourceError
from dcnios_daemon.core.ports import Batch
from dcnios_daemon.sources.kafka.membership import Membership, Partition
from dcnios_daemon.sources.kafka.records import Reader, Record
from dcnios_daemon.sources.kafka.settings import KafkaSettings

_BATCH_RECORDS = 500
_BATCH_BYTES = 4 << 20
_CHUNK = 50
"""Records fetched at once, so that big ones cannot carry a batch far over its bound."""
_POLL = 5.0
_PROBE_AFTER = 60.0
"""An idle source asks the brokers this often whether they and the topics are still there."""
_REVOKE_PATIENCE = 3.0
"""Seconds that a rebalance waits for the journal; well below the session's timeout."""


class _Receipt(msgspec.Struct, frozen=True):
    """What to commit once the journal has the batch."""

    term: int
    """The assignment that it was read under."""
    offsets: Mapping[Partition, int]
    """Partition to the offset after the batch."""


class KafkaSource:
    """A member of a consumer group. See :class:`dcnios_daemon.core.ports.Source`."""

    def __init__(
        self,
        *,
        name: str,
        settings: KafkaSettings,
        instance: str,
        clock: Clock | None = None,
        membership: Membership | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._reader = Reader(source=name, instance=instance, clock=self._clock)
        self._start = settings.start
        self._membership = membership or Membership(
            settings=settings, group=settings.group or f"dcnios-{instance}", client=f"dcnios-{name}"
        )
        self._offsets: dict[str, dict[str, int]] = {}
        """Topic to partition to the offset after what was given: the cursor."""
        self._never_ran = True
        self._term = 0
        """Counts assignments: what was read under an earlier one is not committed under a later one."""
        self._taken: list[Record] = []
        """Fetched but not yet given: a read that is cancelled half-way leaves them for the next."""
        self._given: Batch | None = None
        self._nothing_given = asyncio.Event()
        self._nothing_given.set()
        self._paused = False
        self._failure: SourceError | None = None
        self._idle_since = self._clock.monotonic()

    async def connect(self, cursor: str | None) -> None:
        """Join the group. Its committed offsets rule; the cursor tells whether we ever ran, and is a
        second witness of how far the journal got."""
        self._never_ran = cursor is None
        self._offsets = _decoded(cursor)
        await self._membership.join(revoked=self._revoked, assigned=self._assigned)

    async def read(self) -> Batch:
        """The next records, at most some hundreds or a few MiB; what was not acknowledged comes again."""
        while self._given is None:
            await self._take()
            if self._failure is not None:
                raise self._failure
            if self._taken:
                self._give()
        return self._given

    async def ack(self, batch: Batch) -> None:
        """Commit the batch's offsets to the group, unless its partitions were taken away meanwhile."""
        receipt = batch.receipt
        try:
            if isinstance(receipt, _Receipt) and receipt.term == self._term:
                await self._membership.commit(receipt.offsets)
        finally:
            self._given = None
            self._nothing_given.set()

    async def pause(self) -> None:
        """Fetch nothing more; the heartbeat keeps the partitions ours."""
        self._paused = True
        self._membership.pause()

    async def resume(self) -> None:
        """Fetch again."""
        self._paused = False
        self._membership.resume()

    async def aclose(self) -> None:
        """Leave the group."""
        self._nothing_given.set()
        await self._membership.leave()

    async def _revoked(self) -> None:
        """The partitions may go to others: let the journal finish what it was given, forget the rest."""
        self._taken = []
        try:
            async with asyncio.timeout(_REVOKE_PATIENCE):
                await self._nothing_given.wait()
        except TimeoutError:
            self._given = None  # whoever gets the partitions reads it again
        self._term += 1

    async def _assigned(self, partitions: Sequence[Partition]) -> None:
        """Partitions came to us. What goes wrong here is raised by the next read."""
        if self._paused:
            self._membership.pause()
        if self._start == "latest" and self._never_ran:
            try:
                await self._membership.begin_at_end(partitions)
            except SourceError as error:
                self._failure = error

    async def _take(self) -> None:
        """Wait for records, then add what is there without waiting, up to the bounds."""
        room = _BATCH_BYTES - _bytes(self._taken)
        while len(self._taken) < _BATCH_RECORDS and room > 0:
            wait = 0.0 if self._taken else _POLL
            fetched = await self._membership.fetch(wait=wait, most=_CHUNK)
            if not fetched:
                break
            self._taken += fetched
            room -= _bytes(fetched)
        now = self._clock.monotonic()
        if self._taken:
            self._idle_since = now
        elif now - self._idle_since > _PROBE_AFTER:
            await self._membership.check_topics()
            self._idle_since = now

    def _give(self) -> None:
        after: dict[Partition, int] = {}
        for record in self._taken:
            after[record.topic, record.partition] = record.offset + 1
        for (topic, partition), offset in after.items():
            self._offsets.setdefault(topic, {})[str(partition)] = offset
        self._given = Batch(
            events=tuple([self._reader.event(record) for record in self._taken]),
            cursor=msgspec.json.encode(self._offsets).decode(),
            receipt=_Receipt(self._term, after),
        )
        self._taken = []
        self._nothing_given.clear()


def _bytes(records: Sequence[Record]) -> int:
    return sum([len(record.value or b"") for record in records])


def _decoded(cursor: str | None) -> dict[str, dict[str, int]]:
    try:
        return msgspec.json.decode(cursor or "{}", type=dict[str, dict[str, int]])
    except msgspec.DecodeError:
        return {}  # the group's offsets rule anyway
