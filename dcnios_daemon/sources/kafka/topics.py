"""What topics the brokers have, and whether they are still the same ones."""

import asyncio
import re
from collections.abc import Collection, Mapping
from typing import Any

from dcnios_daemon.core.errors import Disconnected, Rejected
from dcnios_daemon.kafka.brokers import Brokers
from dcnios_daemon.kafka.library import library
from dcnios_daemon.sources.kafka.settings import KafkaSettings

_PATIENCE = 30.0
_LOOK_MS = 700
"""A broker answers within half a second, even if it has no records."""


class Topics:
    """Asks through a membership's client. All methods raise Disconnected or Rejected."""

    def __init__(self, consumer: Any, brokers: Brokers, settings: KafkaSettings) -> None:  # noqa: ANN401
        self._consumer = consumer
        self._brokers = brokers
        self._settings = settings
        self.ids: dict[str, str] = {}
        """Topic to id, of those that were looked at; none where the brokers are too old to tell."""

    @property
    def pattern(self) -> str:
        """A regular expression for those that are meant, from a name's beginning to its end.

        The library is given no names: a broker that is asked for a topic by name makes it if it is not
        there, and the library asks again and again. So a topic that somebody deletes would come back, empty,
        with as many partitions as brokers like best.
        """
        named = "|".join(map(re.escape, self._settings.topics))
        return rf"(?:{self._settings.pattern or named})\Z"

    def watch_all(self) -> None:
        """Have the library ask for all topics again: looking for offsets can make it watch one only."""
        client = self._consumer._client  # noqa: SLF001 - there is no public way
        if client._topics:  # noqa: SLF001
            client.set_topics([])

    async def found(self) -> Collection[str]:
        """Those that are meant and are there."""
        with self._brokers.failures():
            async with asyncio.timeout(_PATIENCE):
                there: set[str] = await self._consumer.topics()
        return {topic for topic in there if re.match(self.pattern, topic)}

    async def missing(self) -> Collection[str]:
        """Those that were named and are not there, or that we may not see."""
        return sorted(set(self._settings.topics) - set(await self.found()))

    async def unreadable(self) -> Collection[str]:
        """Those that may be seen but not read. It reads a little at the end of each, outside of the group:
        for a consumer that has not joined and never will."""
        aiokafka = library()
        places = {topic: aiokafka.TopicPartition(topic, 0) for topic in await self.found()}
        denied: set[str] = set()
        if not places:
            return []
        with self._brokers.failures():
            async with asyncio.timeout(_PATIENCE):
                self._consumer.assign(list(places.values()))
                await self._consumer.seek_to_end()
                while denied < set(places):
                    try:
                        await self._consumer.getmany(timeout_ms=_LOOK_MS)
                        break
                    except aiokafka.errors.TopicAuthorizationFailedError as error:
                        told = set(map(str, error.args)) & set(places)
                        denied |= told
                        self._consumer.pause(*(places[topic] for topic in told))
        return sorted(denied)

    async def check(self) -> None:
        """Make sure that brokers answer, that all that were named are there, and that none of those that were
        looked at was deleted and made again: then positions in it mean nothing any more."""
        if missing := await self.missing():
            raise Rejected(f"no topic {', '.join(missing)} at {self._brokers.where}, or no right to see it")
        now = await self._asked(self.ids)
        if again := [topic for topic, known in self.ids.items() if now.get(topic, known) != known]:
            raise Disconnected(f"topic {', '.join(again)} was deleted and made again")

    async def look_at(self, topics: Collection[str]) -> None:
        """Learn their ids as they are now."""
        self.ids = dict(await self._asked(topics))

    async def _asked(self, topics: Collection[str]) -> Mapping[str, str]:
        from dcnios_daemon.sources.kafka.topic_ids import topic_ids  # noqa: PLC0415 - loads the library

        with self._brokers.failures():
            async with asyncio.timeout(_PATIENCE):
                return await topic_ids(self._consumer._client, topics)  # noqa: SLF001 - no public way
