"""Stores, and the leave that they give to read and write files."""

from dcnios_daemon.telemetry.events.signal import Signal


class LeaveIsShort(Signal):
    """Links to objects are signed with temporary credentials and end with them: runs that wait or last longer
    fail to read or write. Give the store keys of its own, or sessions that last longer."""

    name = "store.leave_is_short"
    level = "warning"
    store: str
    asked: int
    left: int | None
    """Seconds; None: nobody knows."""
