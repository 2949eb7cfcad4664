"""The journal: what it has committed, whether it has room, and the disk under it."""

from dcnios_daemon.telemetry import metrics
from dcnios_daemon.telemetry.events.signal import Signal


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


class GateShut(Signal):
    """The journal takes nothing: it is full, its disk fails, or it is damaged."""

    name = "gate.shut"
    level = "warning"
    why: str

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.GATE_SHUT.set(1)


class GateOpened(Signal):
    """The journal has room again."""

    name = "gate.opened"

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.GATE_SHUT.set(0)


class JournalFailed(Signal):
    """The disk under the journal fails. Nothing acknowledged is lost, but nothing more is accepted."""

    name = "journal.failed"
    level = "error"
    error: str

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.JOURNAL_FAILURES.inc()


class JournalLogStuck(Signal):
    """The journal's log only grows, because somebody has been reading the file for long (a backup, an
    ``sqlite3`` left open): nothing is lost, but the disk fills. Said at first and whenever it has doubled.
    """

    name = "journal.log_stuck"
    level = "warning"
    bytes: int
    advice: str = "end what reads the journal: dcnios queue backup, or another program"


class JournalRecovered(Signal):
    """The disk under the journal takes data again."""

    name = "journal.recovered"
    level = "warning"
