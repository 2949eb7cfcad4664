"""What sinks say of their neighbours, and of what a run leaves behind: folders, logs, Secrets."""

from dcnios_daemon.telemetry.events.signal import Signal


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
    """Why an outcome lacks its pod or the end of its log."""

    name = "sink.log_unavailable"
    level = "info"
    order: str
    error: str


class MarkerUnseen(Signal):
    """Whether a run has left its success marker cannot be told now: it is looked for again."""

    name = "interlink.marker_unseen"
    level = "warning"
    order: str
    error: str


class VirtualNodeReady(Signal):
    """A virtual node takes pods (again)."""

    name = "interlink.node_ready"
    node: str


class VirtualNodeAway(Signal):
    """A virtual node takes no pods: its routes wait, and what lives on it is left alone."""

    name = "interlink.node_away"
    level = "warning"
    node: str
    why: str


class SubmissionStuck(Signal):
    """A pod has been on its way to the batch system for so long that others are sent all the same."""

    name = "interlink.submission_stuck"
    level = "warning"
    node: str
    order: str
    seconds: float


class PayloadLeft(Signal):
    """A Secret that carried a payload may stay behind in the cluster."""

    name = "sink.payload_left"
    level = "warning"
    secret: str
    error: str
