"""What any source may say, whatever it reads: connections, streams, full listings, unreadable input.

What only sources of files say is in ``files``, what only Kafka's says in ``kafka``.
"""

from dcnios_daemon.telemetry import metrics
from dcnios_daemon.telemetry.events.signal import Signal


class SourceConnected(Signal):
    """A source is up and reads."""

    name = "source.connected"
    source: str

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.CONNECTED.labels(self.source).set(1)


class SourceFailed(Signal):
    """A source lost its server or was refused; it is tried again."""

    name = "source.failed"
    level = "warning"
    source: str
    error: str
    again_in: float

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.CONNECTED.labels(self.source).set(0)
        metrics.FAILURES.labels(self.source).inc()


class SourcePaused(Signal):
    """The journal is full: the source takes no more."""

    name = "source.paused"
    level = "warning"
    source: str
    why: str


class SourceResumed(Signal):
    """The journal has room again."""

    name = "source.resumed"
    source: str


class SourceRelisted(Signal):
    """A source went through everything that is there, not only what is new."""

    name = "source.relisted"
    source: str
    cause: str
    found: int

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.RELISTS.labels(self.source, self.cause).inc()


class VersionsHidden(Signal):
    """A bucket does not show its versions, or whether it keeps any: of each object only the latest is found
    that nobody told of."""

    name = "source.versions_hidden"
    level = "warning"
    source: str
    bucket: str
    error: str


class SourceCloseFailed(Signal):
    """A source could not be closed properly. It was left behind; a new one is made if one is needed."""

    name = "source.close_failed"
    level = "warning"
    source: str
    error: str


class SourcePolls(Signal):
    """A source looks for changes by the clock, because nobody can tell it of them."""

    name = "source.polls"
    source: str
    why: str


class StreamLost(Signal):
    """A stream that tells a source of events broke. It is opened again, and what it missed is listed."""

    name = "source.stream_lost"
    level = "warning"
    source: str
    what: str
    error: str
    again_in: float

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.STREAMS_LOST.labels(self.source).inc()


class ChannelContested(Signal):
    """Two daemons take one channel from each other: only one of them works at a time."""

    name = "source.channel_contested"
    level = "error"
    source: str
    client_id: str
    error: str
    away: float
    """Seconds for which this one leaves the channel to the other."""


class InputMalformed(Signal):
    """Something unreadable came in. It was refused or kept as bytes; nothing else was touched."""

    name = "source.malformed"
    level = "warning"
    source: str
    what: str
    error: str

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.MALFORMED.labels(self.source).inc()
