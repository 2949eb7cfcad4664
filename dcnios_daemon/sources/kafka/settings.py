"""What can be said of a Kafka source in the configuration."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from dcnios_daemon.core.settings import Settings
from dcnios_daemon.kafka.settings import Bootstrap, KafkaSecurity, Topic


class KafkaSettings(Settings):
    """A ``kafka`` source's block."""

    bootstrap: Annotated[tuple[Bootstrap, ...], Field(min_length=1)]
    """Brokers to begin with, ``host:port``."""
    topics: Annotated[tuple[Topic, ...], Field(min_length=1)]
    group: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    """The consumer group; default ``dcnios-<instance>``. Daemons that share it share the topics."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where to begin what the group has never committed anything of."""
    security: KafkaSecurity = KafkaSecurity()
