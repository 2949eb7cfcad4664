"""A membership of a consumer group: the one place that knows the client library.

The library reconnects and rejoins the group by itself. Membership rests on its heartbeat alone, not on how
often we fetch, so that a pause may last as long as it has to.

The library's own commit is not used: when it has to be tried again, it goes out in the name of whatever
membership there is by then, and brokers do not look whether a member commits for a partition that it has.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

from dcnios_daemon.core.errors import Disconnected, Rejected
from dcnios_daemon.kafka.brokers import Brokers
from dcnios_daemon.kafka.library import library, load
from dcnios_daemon.sources.kafka.places import Mark, Partition
from dcnios_daemon.sources.kafka.records import Record
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.sources.kafka.topics import Topics

_FETCH_BYTES = 16 << 20
_PARTITION_BYTES = 1 << 20
"""What one fetch brings of a partition; a bigger record comes all the same, alone."""
_PATIENCE = 30.0
_SESSION_MS = 10_000
"""A killed daemon's partitions are free after this."""
_STATIC_SESSION_MS = 60_000
"""A static member has so long to come back."""
_HEARTBEAT_MS = 3_000
_METADATA_MS = 60_000
"""New topics and partitions are seen after this."""
_AGAIN = 0.1

Revoked = Callable[[], Awaitable[None]]
Assigned = Callable[[Sequence[Partition]], Awaitable[None]]
Strayed = Callable[[Partition, int], Awaitable[None]]


class Membership:
    """Reads topics as one of a group. All methods raise Disconnected or Rejected."""

    def __init__(
        self, *, settings: KafkaSettings, group: str, client: str, static_name: str | None = None
    ) -> None:
        self._settings = settings
        self._group = group
        self._client = client
        self._static_name = static_name
        self._brokers = Brokers(
            bootstrap=settings.bootstrap, security=settings.security, away=Disconnected, refused=Rejected
        )
        self._consumer: Any = None
        self._partition: Any = None
        self._strayed: Strayed
        self._generation = 0
        """The group's, while what it gave us is ours; 0 in the middle of a rebalance."""
        self._is_placed = False
        """Whether ``assigned`` has returned: only then may anything be fetched."""
        self._is_paused = False
        self._assignor: Any = None
        self.topics: Topics
        """What the brokers have. There from :meth:`connect` on."""

    async def join(self, *, revoked: Revoked, assigned: Assigned, strayed: Strayed) -> None:
        """Connect and join. ``revoked`` and ``assigned`` are awaited in the middle of each rebalance, before
        partitions go and when they have come, and must not raise; nothing is fetched until ``assigned`` has
        returned. ``strayed`` is awaited by a fetch from where there is nothing (any more)."""
        self._strayed = strayed
        await self.connect()
        await self.check_topics()
        listener = _listener(library(), revoked=self._revoking(revoked), assigned=self._assigning(assigned))
        with self._brokers.failures():
            self._consumer.subscribe(pattern=self.topics.pattern, listener=listener)

    async def connect(self) -> None:
        """Reach a broker and log in, without joining."""
        with self._brokers.failures():
            aiokafka = await load()
            options = await self._brokers.options()
            self._partition, self._assignor = aiokafka.TopicPartition, _assignor()
            self._consumer = aiokafka.AIOKafkaConsumer(
                client_id=self._client,
                group_id=self._group,
                group_instance_id=self._static_name,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                fetch_max_bytes=_FETCH_BYTES,
                max_partition_fetch_bytes=_PARTITION_BYTES,
                metadata_max_age_ms=_METADATA_MS,
                heartbeat_interval_ms=_HEARTBEAT_MS,
                session_timeout_ms=_STATIC_SESSION_MS if self._static_name else _SESSION_MS,
                rebalance_timeout_ms=_SESSION_MS,
                max_poll_interval_ms=math.inf,  # the library's own watch over how often we fetch: none
                partition_assignment_strategy=[self._assignor],
                **options,
            )
            self.topics = Topics(self._consumer, self._brokers, self._settings)
            await self._brokers.start(self._consumer, options)

    async def try_group(self) -> None:
        """Find out whether we may be in the group, without joining: a broker looks at our right before it
        finds that the member whose heartbeat this is does not exist."""
        with self._brokers.failures():
            errors, heartbeat = library().errors, library().protocol.group.HeartbeatRequest
            async with asyncio.timeout(_PATIENCE):
                await self._coordinator.ensure_coordinator_known()
                answer = await self._coordinator._send_req(heartbeat(self._group, -1, "nobody"))  # noqa: SLF001
            if errors.for_code(answer.error_code) is errors.GroupAuthorizationFailedError:
                raise Rejected(f"Kafka at {self._brokers.where}: no right to read as group {self._group}")

    async def check_topics(self) -> None:
        """Make sure that brokers answer, that topics are there, and that they are those of the beginning.

        Raises:
            Disconnected: Or one was deleted and made again meanwhile: all has to be looked at anew.
        """
        await self.topics.check()

    async def fetch(self, *, wait: float, most: int) -> Sequence[Record]:
        """Up to ``most`` records in the order of their offsets, after at most ``wait`` seconds; longer only
        while the group gives us no partitions, and then the brokers are asked whether they are there."""
        errors = library().errors
        limit = asyncio.timeout(wait + _PATIENCE)
        try:
            with self._brokers.failures():
                async with limit:
                    fetched = await self._consumer.getmany(timeout_ms=int(wait * 1000), max_records=most)
        except Disconnected as error:
            if isinstance(error.__cause__, errors.NoOffsetForPartitionError):
                return []  # until ``assigned`` has said where to begin
            if isinstance(error.__cause__, errors.OffsetOutOfRangeError):
                ((partition, position),) = error.__cause__.args[0].items()
                await self._strayed(tuple(partition), position)
                return []
            if not limit.expired():
                raise
            await self.check_topics()
            return []
        return [record for records in fetched.values() for record in records]

    def positions(self) -> Mapping[Partition, int]:
        """The offset of what would be fetched next, of all partitions that are ours: what was fetched is
        before it, and so are the ends of transactions and other gaps up to there."""
        return {tuple(each): state.position for each, state in self._states() if state.has_valid_position}

    def lags(self) -> Mapping[Partition, int]:
        """How many offsets there are after those that were fetched, as of the last fetch."""
        return {
            tuple(each): max(0, state.highwater - state.position)
            for each, state in self._states()
            if state.has_valid_position and state.highwater is not None
        }

    async def commit(self, offsets: Mapping[Partition, int]) -> bool:
        """Tell the group where to go on, in the name of the membership as it is now: if that ends before the
        brokers have said yes, nothing is committed. Returns whether it was.

        The topic's id goes with it, so that a topic that is made again is not taken for the old one.
        """
        structs = library().structs
        marks = {
            self._partition(*partition): structs.OffsetAndMetadata(at, self.topics.ids.get(partition[0], ""))
            for partition, at in offsets.items()
        }
        with self._brokers.failures():
            async with asyncio.timeout(_PATIENCE):
                return await self._commit(marks, self._generation)

    async def _commit(self, marks: Mapping[Any, Any], generation: int) -> bool:
        errors, coordinator = library().errors, self._coordinator
        while True:
            await coordinator.ensure_coordinator_known()
            if not generation or generation != self._generation or generation != coordinator.generation:
                return False
            try:
                await coordinator._do_commit_offsets(None, marks)  # noqa: SLF001 - see the module
            except (
                errors.UnknownMemberIdError,
                errors.IllegalGenerationError,
                errors.RebalanceInProgressError,
            ):
                return False
            except errors.KafkaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(_AGAIN)
            else:
                return True

    async def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Mark]:
        """What the group has committed, of those that it has anything of."""
        with self._brokers.failures():
            async with asyncio.timeout(_PATIENCE):
                found = await self._coordinator.fetch_committed_offsets(self._theirs(partitions))
        return {tuple(each): Mark(mark.offset, mark.metadata or "") for each, mark in found.items()}

    async def offsets(
        self, partitions: Sequence[Partition], place: Literal["earliest", "latest"] | float
    ) -> Mapping[Partition, int]:
        """Where they begin, end, or have the first record of that time (seconds since the epoch) or later;
        their end where there is none."""
        theirs = self._theirs(partitions)
        if not theirs:
            return {}
        with self._brokers.failures():
            async with asyncio.timeout(_PATIENCE):
                if place == "earliest":
                    found = await self._consumer.beginning_offsets(theirs)
                else:
                    found = await self._consumer.end_offsets(theirs)
                if isinstance(place, float):
                    times = await self._consumer.offsets_for_times(dict.fromkeys(theirs, int(place * 1000)))
                    found |= {each: first.offset for each, first in times.items() if first is not None}
        self.topics.watch_all()
        return {tuple(each): offset for each, offset in found.items()}

    def seek(self, places: Mapping[Partition, int]) -> None:
        """Go on there. Does nothing for a partition that is no longer ours."""
        ours = self._consumer.assignment()
        for partition, offset in places.items():
            if partition in ours:
                self._consumer.seek(self._partition(*partition), offset)

    def pause(self) -> None:
        """Fetch nothing more, now and after a rebalance."""
        self._is_paused = True
        self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        """Fetch again."""
        self._is_paused = False
        if self._is_placed:
            self._consumer.resume(*self._consumer.paused())

    async def leave(self) -> None:
        """Leave the group, so that the others take over at once, and disconnect. A static member stays."""
        if self._consumer is not None:
            with self._brokers.failures():
                await _stop(self._consumer)

    def _revoking(self, revoked: Revoked) -> Revoked:
        async def revoking() -> None:
            await revoked()
            self._generation, self._is_placed = 0, False

        return revoking

    def _assigning(self, assigned: Assigned) -> Assigned:
        async def assigning(partitions: Sequence[Partition]) -> None:
            self._consumer.pause(*self._theirs(partitions))
            self._generation = self._coordinator.generation
            self._assignor.on_generation_assignment(self._generation)
            await assigned(partitions)
            self._is_placed = True
            if not self._is_paused:
                self._consumer.resume(*self._consumer.paused())

        return assigning

    @property
    def _coordinator(self) -> Any:  # noqa: ANN401 - untyped
        return self._consumer._coordinator  # noqa: SLF001 - there is no public way to what it knows

    def _states(self) -> list[tuple[Any, Any]]:
        """The library's state of each partition that is ours."""
        subscription = self._consumer._subscription.subscription  # noqa: SLF001
        assigned = subscription and subscription.assignment
        return [(each, assigned.state_value(each)) for each in assigned.tps] if assigned else []

    def _theirs(self, partitions: Sequence[Partition]) -> list[Any]:
        return [self._partition(*partition) for partition in partitions]


async def _stop(consumer: Any) -> None:  # noqa: ANN401 - untyped
    """Stop the consumer and whatever its own ``stop`` leaves running.

    A fetch under way makes it end half-way in a CancelledError that nobody asked for, and a broker that
    hangs can make it last longer than we are given.
    """
    current = asyncio.current_task()
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        if current is None or current.cancelling():
            raise
    finally:
        coordinator = consumer._coordinator  # noqa: SLF001
        for name in ("_coordination_task", "_heartbeat_task", "_commit_refresh_task"):
            if (task := getattr(coordinator, name, None)) is not None:
                task.cancel()
        await consumer._client.close()  # noqa: SLF001


def _assignor() -> Any:  # noqa: ANN401 - untyped
    """The strategy that moves as few partitions as a rebalance can do with. (The library has no cooperative
    one; and it joins once for each that it is given, so there is one.) Classes keep its state: so this
    membership has a class of its own."""
    from aiokafka.coordinator.assignors.sticky.sticky_assignor import (  # noqa: PLC0415
        StickyPartitionAssignor,
    )

    class Sticky(StickyPartitionAssignor):  # type: ignore[misc]
        pass

    return Sticky


def _listener(aiokafka: Any, *, revoked: Revoked, assigned: Assigned) -> Any:  # noqa: ANN401 - untyped
    class Listener(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]
        async def on_partitions_revoked(self, _partitions: Any) -> None:  # noqa: ANN401
            await revoked()

        async def on_partitions_assigned(self, partitions: Any) -> None:  # noqa: ANN401
            await assigned(sorted(tuple(partition) for partition in partitions))

    return Listener()
