"""The ``run`` block of ``kind: kafka``."""

from typing import Annotated, Literal

from pydantic import Field

from dcnios_daemon.core.settings import Settings
from dcnios_daemon.core.units import Duration
from dcnios_daemon.kafka.settings import Bootstrap, KafkaSecurity, Topic


class KafkaRun(Settings):
    """A record for each order: its value is the payload, byte for byte, its key the event's. It has succeeded
    when all in-sync replicas have it. After a crash or an outage at the wrong moment a record can be there
    twice, both with the same header ``dcnios-key``: a daemon that reads them takes one."""

    bootstrap: Annotated[tuple[Bootstrap, ...], Field(min_length=1)]
    """Brokers to begin with, ``host:port``."""
    topic: Topic
    security: KafkaSecurity = KafkaSecurity()
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    linger: Annotated[Duration, Field(ge=0, le=10)] = 0.005
    """How long a record waits for others to travel with."""
    timeout: Annotated[Duration, Field(gt=0, le=240)] = 30.0
    """How long the brokers may take to acknowledge a record before its order is put off. It stays on its way:
    when they are back it is written, once."""
