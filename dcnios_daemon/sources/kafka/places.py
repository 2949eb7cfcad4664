"""Where to read a partition from: decided by what the group has committed, what the journal's cursor
remembers, and what the brokers have.

The group's word comes first. Its offsets are forgotten when nobody was in it for some days
(``offsets.retention.minutes``): then the cursor tells how far we got, which may be further back, never too
far. Both name the topic by its id: an offset in a topic that was deleted since says nothing about the one
that has its name now, which is read from its beginning, however many records it holds by then.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from dcnios_daemon.core.errors import Rejected
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.telemetry import events as telemetry

Partition = tuple[str, int]
"""Topic and number."""


class Mark(msgspec.Struct, frozen=True):
    """An offset in a topic."""

    offset: int
    topic_id: str
    """Empty: not known."""

    def is_of(self, topic_id: str) -> bool:
        """Whether it may be of that topic."""
        return not self.topic_id or not topic_id or self.topic_id == topic_id


class Memory(msgspec.Struct):
    """How far the journal got in a topic: a part of the cursor."""

    topic_id: str
    offsets: dict[str, int] = {}
    """By partition."""


class Brokers(Protocol):
    """What is asked, see :class:`~dcnios_daemon.sources.kafka.membership.Membership`."""

    async def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Mark]: ...  # noqa: D102
    async def offsets(  # noqa: D102
        self, partitions: Sequence[Partition], place: Literal["earliest", "latest"] | float
    ) -> Mapping[Partition, int]: ...


class Places:
    """Decides for one source, and says what is lost."""

    def __init__(self, *, name: str, settings: KafkaSettings) -> None:
        self._name = name
        self._settings = settings

    async def to_begin(
        self,
        brokers: Brokers,
        partitions: Sequence[Partition],
        *,
        ids: Mapping[str, str],
        memory: Mapping[str, Memory],
        first_time: bool,
    ) -> tuple[dict[Partition, int], dict[Partition, int]]:
        """Where to go on in partitions that have come to us; and those of them that the group does not know
        yet, which should be committed."""
        known = {each: mark for each in partitions if (mark := _remembered(memory, each)) is not None}
        known |= await brokers.committed(partitions)
        stale = [each for each, mark in known.items() if not mark.is_of(ids.get(each[0], ""))]
        for topic in sorted({topic for topic, _ in stale}):
            telemetry.TopicReplaced(source=self._name, topic=topic).emit()
        fresh = [each for each in partitions if each not in known]
        began = {
            **await brokers.offsets(stale, "earliest"),
            **await brokers.offsets(fresh, self._start if first_time else "earliest"),
        }
        return {each: mark.offset for each, mark in known.items()} | began, began

    async def after_a_loss(
        self, brokers: Brokers, partition: Partition, position: int, *, topic_id: str
    ) -> dict[Partition, int]:
        """Where to go on when there is nothing at the position: before the first record, or after the last.

        Raises:
            Rejected: Not at all, by ``on_lost_offset``.
        """
        topic, number = partition
        first = (await brokers.offsets([partition], "earliest"))[partition]
        end = (await brokers.offsets([partition], "latest"))[partition]
        if first <= position <= end:
            return {partition: position}  # it came back meanwhile
        if position > end and not topic_id:  # the best guess of those who are not told: it is another topic
            telemetry.TopicReplaced(source=self._name, topic=topic).emit()
            return {partition: first}
        policy = self._settings.on_lost_offset
        place = end if policy == "latest" else first
        telemetry.OffsetsLost(
            source=self._name,
            topic=topic,
            partition=number,
            position=position,
            first=first,
            end=end,
            lost=max(0, place - position),
            then=policy,
        ).emit()
        if policy == "fail":
            there = f"partition {number} of {topic} has offsets {first} to {end}"
            raise Rejected(f"{there}, not {position}: see on_lost_offset")
        return {partition: place}

    @property
    def _start(self) -> Literal["earliest", "latest"] | float:
        start = self._settings.start
        return start if isinstance(start, str) else start.timestamp()


def _remembered(memory: Mapping[str, Memory], partition: Partition) -> Mark | None:
    topic, number = partition
    if topic not in memory or (offset := memory[topic].offsets.get(str(number))) is None:
        return None
    return Mark(offset, memory[topic].topic_id)
