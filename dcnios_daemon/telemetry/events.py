"""Everything the daemon says, as types: ``SourceConnected(source="uploads").emit()``.

One type gives the log line (its ``name`` and fields) and the metric, so that neither can drift. Levels: ERROR
means that an operator must act, WARNING that one may want to, INFO is a change of state, DEBUG is per event.
"""

from functools import partial
from typing import ClassVar

import msgspec

from dcnios_daemon.telemetry import metrics
from dcnios_daemon.telemetry.logging import say


class Signal(msgspec.Struct):
    """Something worth saying. Subclasses name it, give its level, and may count it."""

    name: ClassVar[str]
    level: ClassVar[str] = "info"

    def emit(self) -> None:
        """Count it, and log it."""
        self.measure()
        say(self.level, self.name, partial(msgspec.structs.asdict, self))

    def measure(self) -> None:
        """Bring the metrics up to date. By default there is none."""


# --- life ---------------------------------------------------------------------------------------------


class PhaseEntered(Signal):
    """The daemon goes from one phase of its life to the next."""

    name = "daemon.phase"
    phase: str
    detail: str = ""


class Listening(Signal):
    """The HTTP port is open: the status page is there."""

    name = "daemon.listening"
    url: str


class StopAsked(Signal):
    """Someone wants the daemon to end."""

    name = "daemon.stop"
    why: str


class Reloaded(Signal):
    """Routes and limits are those of the configuration as it is now."""

    name = "daemon.reloaded"
    routes: int


class ReloadRefused(Signal):
    """The configuration cannot be taken as it is now; the old one holds."""

    name = "daemon.reload_refused"
    level = "error"
    error: str


class TaskFailed(Signal):
    """Something that must never end ended: the daemon ends too and its supervisor restarts it."""

    name = "daemon.task_failed"
    level = "error"
    task: str
    error: str


# --- sources ------------------------------------------------------------------------------------------


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


class SourceCloseFailed(Signal):
    """A source could not be closed properly. It was left behind; a new one is made if one is needed."""

    name = "source.close_failed"
    level = "warning"
    source: str
    error: str


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


class WatchRefused(Signal):
    """A directory or file below a watched one may not be seen: nothing comes from there."""

    name = "source.watch_refused"
    level = "warning"
    source: str
    path: str
    error: str


class DirectoriesWatched(Signal):
    """How many directories of a source are watched, and for how many there is no watch left."""

    name = "source.watches"
    level = "debug"
    source: str
    watched: int
    unwatched: int

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.WATCHES.labels(self.source).set(self.watched)
        metrics.UNWATCHED.labels(self.source).set(self.unwatched)


class WatchesExhausted(Signal):
    """There are more directories than may be watched: of the others only listings tell. Said once a pass."""

    name = "source.watches_exhausted"
    level = "warning"
    source: str
    max_watches: int
    unwatched: int
    advice: str = "raise max_watches, or watch fewer directories; until then only listings find what is there"


class ListingFailed(Signal):
    """A directory could not be listed, time and again. The others are; it is tried again after a rest."""

    name = "source.listing_failed"
    level = "warning"
    source: str
    path: str
    error: str


class TapeMemoryFull(Signal):
    """More files are on tape only than are remembered: that the others are staged is not noticed. Said once
    a pass."""

    name = "source.tape_memory_full"
    level = "error"
    source: str
    most: int
    advice: str = "watch fewer directories for staged, or give them to several sources"


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


class SourcePolls(Signal):
    """A source looks for changes by the clock, because nobody can tell it of them."""

    name = "source.polls"
    source: str
    why: str


class FilesMoved(Signal):
    """Files that are done with were moved away."""

    name = "source.files_moved"
    level = "debug"
    source: str
    moved: int


class FilesKept(Signal):
    """Files that are done with could not be moved away; they stay, and it is tried again."""

    name = "source.files_kept"
    level = "warning"
    source: str
    error: str


class EventsAccepted(Signal):
    """The journal has committed a batch."""

    name = "journal.appended"
    level = "debug"
    source: str
    accepted: int
    duplicates: int
    unrouted: int

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.ACCEPTED.labels(self.source).inc(self.accepted)
        metrics.DUPLICATES.labels(self.source).inc(self.duplicates)
        metrics.UNROUTED.labels(self.source).inc(self.unrouted)


class LeaveIsShort(Signal):
    """Links to objects are signed with temporary credentials and end with them: runs that wait or last longer
    fail to read or write. Give the store keys of its own, or sessions that last longer."""

    name = "store.leave_is_short"
    level = "warning"
    store: str
    asked: int
    left: int | None
    """Seconds; None: nobody knows."""


# --- journal ------------------------------------------------------------------------------------------


class GateShut(Signal):
    """The journal is full."""

    name = "gate.shut"
    level = "warning"
    why: str


class GateOpened(Signal):
    """The journal has room again."""

    name = "gate.opened"


class JournalFailed(Signal):
    """The disk under the journal fails. Nothing acknowledged is lost, but nothing more is accepted."""

    name = "journal.failed"
    level = "error"
    error: str


# --- dispatch -----------------------------------------------------------------------------------------


class OrderSubmitted(Signal):
    """A sink has taken an order."""

    name = "order.submitted"
    level = "debug"
    route: str
    order: str
    key: str
    attempt: int
    waited: float
    """Seconds from the journal's commit."""

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.SUBMITTED.labels(self.route).inc()
        metrics.WAIT.labels(self.route).observe(self.waited)


class OrderPutOff(Signal):
    """A sink could not take an order now. It is tried again; no attempt is burnt."""

    name = "order.put_off"
    level = "warning"
    route: str
    order: str
    error: str
    again_in: float

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.PUT_OFF.labels(self.route).inc()


class AttemptEnded(Signal):
    """An outcome was recorded."""

    name = "order.ended"
    route: str
    order: str
    result: str
    exit_code: int | None
    reason: str
    then: str
    """``done``, ``retry`` or ``dead``."""

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.OUTCOMES.labels(self.route, self.result).inc()
        if self.then == "dead":
            metrics.DEAD.labels(self.route).inc()


# --- sinks --------------------------------------------------------------------------------------------


class SinkFailed(Signal):
    """A sink lost its neighbour while watching for outcomes; it is tried again."""

    name = "sink.failed"
    level = "warning"
    sink: str
    error: str
    again_in: float


class SinkWatching(Signal):
    """A sink sees its neighbour's outcomes."""

    name = "sink.watching"
    sink: str
    in_flight: int


class RunFolderLeft(Signal):
    """A finished run's folder could not be deleted; it is tried again at the next start."""

    name = "process.folder_left"
    level = "warning"
    folder: str
    error: str


class OrderRehearsed(Signal):
    """A dry run says what it would have run."""

    name = "order.rehearsed"
    route: str
    order: str
    subject: str
    payload_bytes: int


class LogUnavailable(Signal):
    """Why a failed run's outcome lacks its pod or the end of its log."""

    name = "sink.log_unavailable"
    level = "debug"
    order: str
    error: str


class PayloadLeft(Signal):
    """A Secret that carried a payload may stay behind in the cluster."""

    name = "sink.payload_left"
    level = "warning"
    secret: str
    error: str
