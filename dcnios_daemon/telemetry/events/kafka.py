"""What is said of Kafka's partitions, offsets and values.

How far behind we are is a level: :class:`dcnios_daemon.telemetry.metrics.Lags`.
"""

from dcnios_daemon.telemetry import metrics
from dcnios_daemon.telemetry.events.signal import Signal


class PartitionsAssigned(Signal):
    """The group gave a Kafka source these partitions."""

    name = "kafka.assigned"
    source: str
    topics: dict[str, list[int]]


class TopicReplaced(Signal):
    """A topic was deleted and made again: the new one is read from its beginning. What was not read of the
    old one is gone."""

    name = "kafka.topic_replaced"
    level = "warning"
    source: str
    topic: str


class ValuesKept(Signal):
    """Record values of a schema are of a type that is not decoded: they are passed on as they are. Said once
    for each schema and connection."""

    name = "kafka.values_kept"
    source: str
    schema: int
    schema_type: str


class OffsetsLost(Signal):
    """The brokers have deleted what was not read yet, or have lost the end of a partition."""

    name = "kafka.offsets_lost"
    level = "error"
    source: str
    topic: str
    partition: int
    position: int
    """Where we were."""
    first: int
    """What there is: from here ..."""
    end: int
    """... to before here."""
    lost: int
    """Offsets that are passed over."""
    then: str
    """The policy: ``earliest``, ``latest`` or ``fail``."""

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.KAFKA_LOST.labels(self.source, self.topic).inc(self.lost)
