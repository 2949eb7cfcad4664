"""The Kafka source: batches of records, each committed to the group only when the journal has it."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from dcnios_daemon.core.clock import Clock, SystemClock
from dcnios_daemon.core.errors import SourceError
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Batch
from dcnios_daemon.sources.kafka.membership import Membership
from dcnios_daemon.sources.kafka.places import Memory, Partition, Places
from dcnios_daemon.sources.kafka.records import Reader, Record
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.sources.kafka.values import Values
from dcnios_daemon.sources.time_limits import first_error
from dcnios_daemon.telemetry import events as telemetry
from dcnios_daemon.telemetry.metrics import Lags

_BATCH_RECORDS = 5000
_BATCH_BYTES = 4 << 20
_CHUNK = 100
"""Records taken at once, so that big ones cannot carry a batch far over its bound."""
_POLL = 5.0
_PROBE_AFTER = 60.0
"""The brokers are asked this often whether they and the topics are still there, and still the same."""
_LAG_EVERY = 1.0
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
        self._name = name
        self._clock = clock or SystemClock()
        self._values = Values(source=name, settings=settings.registry, clock=self._clock)
        self._reader = Reader(source=name, instance=instance, clock=self._clock)
        self._places = Places(name=name, settings=settings)
        self._membership = membership or Membership(
            settings=settings,
            group=settings.group or f"dcnios-{instance}",
            client=f"dcnios-{name}",
            static_name=_static_name(settings, default=f"dcnios-{instance}-{name}"),
        )
        self._memory: dict[str, Memory] = {}
        """How far what was given got: the next cursor."""
        self._cursor: str | None = None
        """The cursor that the journal has."""
        self._never_ran = True
        self._is_begun = False
        """Whether it is told, to the group and for the cursor, where the very first start begins."""
        self._term = 0
        """Counts assignments: what was read under an earlier one is not committed under a later one."""
        self._is_ours = False
        """Whether we have partitions: not in the middle of a rebalance."""
        self._told: dict[Partition, int] = {}
        """What the group knows, or will by the batch that is given."""
        self._taken: list[Record] = []
        """Fetched but not yet made events of: a read that is cancelled half-way leaves them for the next."""
        self._made: list[Event] = []
        """Not yet given, likewise."""
        self._given: Batch | None = None
        self._nothing_given = asyncio.Event()
        self._nothing_given.set()
        self._failure: SourceError | None = None
        self._lags = Lags(name)
        self._probed = self._lags_shown = self._clock.monotonic()

    async def connect(self, cursor: str | None) -> None:
        """Join the group. Its committed offsets rule; the cursor tells whether we ever ran, and is a
        second witness of how far the journal got."""
        self._never_ran = cursor is None
        self._cursor = cursor
        self._memory = _decoded(cursor)
        await self._membership.join(revoked=self._revoked, assigned=self._assigned, strayed=self._strayed)

    async def read(self) -> Batch:
        """The next records, at most 5,000 or a few MiB; what was not acknowledged comes again.

        A batch without records moves the group on over what is none: the ends of transactions.
        """
        while self._given is None:
            if self._failure is None:
                await self._take()
            if self._failure is not None:
                raise self._failure
            if self._is_ours:
                self._give()
        return self._given

    async def ack(self, batch: Batch) -> None:
        """Commit the batch's offsets to the group, unless its partitions were taken away meanwhile.

        While the broker is at it, make events of what has come since: for the next read, not for this commit.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._commit(batch), name=f"{self._name}: commit")
                await self._take_ahead()
        except ExceptionGroup as errors:
            raise first_error(errors) from errors

    async def _commit(self, batch: Batch) -> None:
        receipt = batch.receipt
        try:
            if isinstance(receipt, _Receipt) and receipt.term == self._term:
                await self._membership.commit(receipt.offsets)
        finally:
            self._cursor = batch.cursor or self._cursor
            self._given = None
            self._nothing_given.set()

    async def pause(self) -> None:
        """Fetch nothing more; the heartbeat keeps the partitions ours."""
        self._membership.pause()

    async def resume(self) -> None:
        """Fetch again."""
        self._membership.resume()

    async def aclose(self) -> None:
        """Leave the group."""
        self._nothing_given.set()
        self._lags.show({})
        await self._values.aclose()
        await self._membership.leave()

    # --- rebalance: called by the membership, in the middle of our waiting for it ---------------------------

    async def _revoked(self) -> None:
        """The partitions may go to others: let the journal finish what it was given, forget the rest."""
        self._is_ours = False
        self._taken, self._made = [], []
        try:
            async with asyncio.timeout(_REVOKE_PATIENCE):
                await self._nothing_given.wait()
        except TimeoutError:
            self._given = None  # whoever gets the partitions reads it again
            self._memory = _decoded(self._cursor)
        self._term += 1
        self._lags.show({})

    async def _assigned(self, partitions: Sequence[Partition]) -> None:
        """Partitions came to us. What goes wrong here is raised by the next read."""
        try:
            await self._begin(partitions)
        except SourceError as error:
            self._failure = error

    async def _begin(self, partitions: Sequence[Partition]) -> None:
        """Go on where the group is; where it never was, tell it where we begin: a crash before the first
        commit must not begin elsewhere."""
        membership = self._membership
        topics = {topic: [each for name, each in partitions if name == topic] for topic, _ in partitions}
        telemetry.PartitionsAssigned(source=self._name, topics=topics).emit()
        await membership.topics.look_at(topics)
        places, new = await self._places.to_begin(
            membership,
            partitions,
            ids=membership.topics.ids,
            memory=self._memory,
            first_time=self._never_ran and not self._is_begun,
        )
        membership.seek(places)
        is_told = not new or await membership.commit(new)
        self._told = {each: at for each, at in places.items() if is_told or each not in new}
        self._is_begun = self._is_begun or (is_told and bool(partitions))
        self._is_ours = True

    async def _strayed(self, partition: Partition, position: int) -> None:
        """There is nothing where we want to read on."""
        membership = self._membership
        await membership.check_topics()
        topic_id = membership.topics.ids.get(partition[0], "")
        membership.seek(await self._places.after_a_loss(membership, partition, position, topic_id=topic_id))

    # --- records --------------------------------------------------------------------------------------------

    async def _take(self, *, wait: float = _POLL) -> None:
        """Wait for records, then add what is there without waiting, up to the bounds; make events of all."""
        await self._make()
        room = _BATCH_BYTES - sum([len(event.data) for event in self._made])
        while len(self._made) < _BATCH_RECORDS and room > 0:
            fetched = await self._membership.fetch(wait=0 if self._made else wait, most=_CHUNK)
            if not fetched:
                break
            self._taken += fetched
            room -= sum([len(record.value or b"") for record in fetched])
            await self._make()
            await asyncio.sleep(0)  # what was there already was no wait
        now = self._clock.monotonic()
        if now - self._lags_shown >= _LAG_EVERY and self._is_ours:
            self._lags.show(self._membership.lags())
            self._lags_shown = now
        if now - self._probed > _PROBE_AFTER:
            await self._membership.check_topics()
            self._probed = now

    async def _take_ahead(self) -> None:
        """Take what is there. What goes wrong here is raised by the next read."""
        try:
            await self._take(wait=0)
        except SourceError as error:
            self._failure = error

    async def _make(self) -> None:
        """Make events of what was taken, once the schemas of its values are known."""
        await self._values.learn([record.value for record in self._taken])
        new, self._taken = self._taken, []  # perhaps fewer now: a rebalance drops them
        self._made += [self._values.decoded(self._reader.event(record)) for record in new]

    def _give(self) -> None:
        """Make a batch of what was taken, if there is anything to tell the journal or the group.

        All that was fetched of our partitions was given or is taken, so that the positions are where the
        group may go on once the journal has this batch.
        """
        told = self._told
        moved = {each: at for each, at in self._membership.positions().items() if told.get(each) != at}
        is_first = self._never_ran and self._is_begun
        if not moved and not is_first:
            return
        self._never_ran = self._never_ran and not is_first
        for (topic, partition), offset in moved.items():
            self._remember(topic, partition, offset)
        told |= moved
        self._given = Batch(
            events=tuple(self._made),
            cursor=msgspec.json.encode(self._memory).decode() if self._made or is_first else None,
            receipt=_Receipt(self._term, moved),
        )
        self._made = []
        self._nothing_given.clear()

    def _remember(self, topic: str, partition: int, offset: int) -> None:
        topic_id = self._membership.topics.ids.get(topic, "")
        memory = self._memory.get(topic)
        if memory is None or memory.topic_id != topic_id:
            memory = self._memory[topic] = Memory(topic_id)
        memory.offsets[str(partition)] = offset


def _static_name(settings: KafkaSettings, *, default: str) -> str | None:
    given = settings.static_member
    return given if isinstance(given, str) else default if given else None


def _decoded(cursor: str | None) -> dict[str, Memory]:
    try:
        return msgspec.json.decode(cursor or "{}", type=dict[str, Memory])
    except msgspec.DecodeError:
        return {}  # the group's offsets rule anyway
