"""A membership of a consumer group: the one place that knows the client library.

The library reconnects and rejoins the group by itself. Membership rests on its heartbeat alone, not on how
often we fetch, so that a pause may last as long as it has to.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from dcnios_daemon.core.errors import Disconnected, Rejected
from dcnios_daemon.kafka.brokers import Brokers
from dcnios_daemon.kafka.library import library, load
from dcnios_daemon.sources.kafka.records import Record
from dcnios_daemon.sources.kafka.settings import KafkaSettings

Partition = tuple[str, int]
"""Topic and number."""

_FETCH_BYTES = 16 << 20
_PARTITION_BYTES = 1 << 20
"""What one fetch brings of a partition; a bigger record comes all the same, alone."""
_PATIENCE = 30.0
_SESSION_MS = 10_000
"""A killed daemon's partitions are free after this."""
_FOREVER_MS = 2**31 - 1


class Membership:
    """Reads topics as one of a group. All methods raise Disconnected or Rejected."""

    def __init__(self, *, settings: KafkaSettings, group: str, client: str) -> None:
        self._settings = settings
        self._group = group
        self._client = client
        self._brokers = Brokers(
            bootstrap=settings.bootstrap, security=settings.security, away=Disconnected, refused=Rejected
        )
        self._consumer: Any = None
        self._partition: Any = None

    async def join(
        self,
        *,
        revoked: Callable[[], Awaitable[None]],
        assigned: Callable[[Sequence[Partition]], Awaitable[None]],
    ) -> None:
        """Connect and join. Both callbacks are awaited in the middle of each rebalance and must not raise:
        ``revoked`` before the partitions go, ``assigned`` when they have come."""
        await self.connect()
        await self.check_topics()
        with self._brokers.failures():
            self._consumer.subscribe(
                list(self._settings.topics),
                listener=_listener(library(), revoked=revoked, assigned=assigned),
            )

    async def connect(self) -> None:
        """Reach a broker and log in, without joining."""
        with self._brokers.failures():
            aiokafka = await load()
            options = await self._brokers.options()
            self._partition = aiokafka.TopicPartition
            self._consumer = aiokafka.AIOKafkaConsumer(
                client_id=self._client,
                group_id=self._group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                fetch_max_bytes=_FETCH_BYTES,
                max_partition_fetch_bytes=_PARTITION_BYTES,
                session_timeout_ms=_SESSION_MS,
                max_poll_interval_ms=_FOREVER_MS,
                **options,
            )
            await self._brokers.start(self._consumer, options)

    async def missing_topics(self) -> Sequence[str]:
        """Those that are not there, or that we may not see. All topics are asked for: a broker may make one
        that is asked for by name."""
        with self._brokers.failures():
            async with asyncio.timeout(_PATIENCE):
                there = await self._consumer.topics()
        return sorted(set(self._settings.topics) - there)

    async def try_group(self) -> None:
        """Find out whether we may be in the group, without joining: a broker looks at our right before it
        finds that the member whose heartbeat this is does not exist."""
        with self._brokers.failures():
            errors, heartbeat = library().errors, library().protocol.group.HeartbeatRequest
            coordinator = self._consumer._coordinator  # noqa: SLF001 - there is no public way
            async with asyncio.timeout(_PATIENCE):
                await coordinator.ensure_coordinator_known()
                answer = await coordinator._send_req(heartbeat(self._group, -1, "nobody"))  # noqa: SLF001
            if errors.for_code(answer.error_code) is errors.GroupAuthorizationFailedError:
                raise Rejected(f"Kafka at {self._brokers.where}: no right to read as group {self._group}")

    async def check_topics(self) -> None:
        """Make sure that brokers answer and topics are there."""
        if missing := await self.missing_topics():
            raise Rejected(f"no topic {', '.join(missing)} at {self._brokers.where}, or no right to see it")

    async def fetch(self, *, wait: float, most: int) -> Sequence[Record]:
        """Up to ``most`` records in the order of their offsets, after at most ``wait`` seconds; longer only
        while the group gives us no partitions, and then the brokers are asked whether they are there."""
        limit = asyncio.timeout(wait + _PATIENCE)
        try:
            with self._brokers.failures():
                async with limit:
                    fetched = await self._consumer.getmany(timeout_ms=int(wait * 1000), max_records=most)
        except Disconnected:
            if not limit.expired():
                raise
            await self.check_topics()
            return []
        return [record for records in fetched.values() for record in records]

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Tell the group where to go on. Does nothing for what is no longer ours: the next owner begins
        at the last commit, and the keys tell it what has been seen."""
        errors = library().errors
        with self._brokers.failures():
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._consumer.commit({self._partition(*key): at for key, at in offsets.items()})
            except (errors.CommitFailedError, errors.IllegalStateError):
                return

    async def begin_at_end(self, partitions: Sequence[Partition]) -> None:
        """Go to the end of those of which nothing was ever committed, and fix that by committing it: else a
        crash before the first commit would skip what came in between."""
        with self._brokers.failures():
            theirs = [self._partition(*partition) for partition in partitions]
            fresh = [each for each in theirs if await self._consumer.committed(each) is None]
            ends = await self._consumer.end_offsets(fresh) if fresh else {}
            for partition, end in ends.items():
                self._consumer.seek(partition, end)
        if ends:
            await self.commit({tuple(partition): end for partition, end in ends.items()})

    def pause(self) -> None:
        """Fetch nothing more of what is assigned."""
        self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        """Fetch again."""
        self._consumer.resume(*self._consumer.paused())

    async def leave(self) -> None:
        """Leave the group, so that the others take over at once, and disconnect."""
        if self._consumer is not None:
            with self._brokers.failures():
                await _stop(self._consumer)


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


def _listener(
    aiokafka: Any,  # noqa: ANN401 - untyped
    *,
    revoked: Callable[[], Awaitable[None]],
    assigned: Callable[[Sequence[Partition]], Awaitable[None]],
) -> Any:  # noqa: ANN401 - untyped
    class Listener(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]
        async def on_partitions_revoked(self, _partitions: Any) -> None:  # noqa: ANN401
            await revoked()

        async def on_partitions_assigned(self, partitions: Any) -> None:  # noqa: ANN401
            await assigned(sorted(tuple(partition) for partition in partitions))

    return Listener()
