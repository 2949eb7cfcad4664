"""The daemon's own life: phases, the HTTP port, the wish to stop, reloads, and what ended that must not."""

from dcnios_daemon.telemetry.events.signal import Signal


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
