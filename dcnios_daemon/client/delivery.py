"""A delivery as the API tells of it, for people: with dates, and short when a notebook shows it."""

from datetime import datetime

import msgspec

from dcnios_daemon.core.ports import Failure, State


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended."""

    order: str
    """The name of what was run: the Job's."""
    failure: Failure | None = None
    """None: it succeeded."""
    exit_code: int | None = None
    reason: str = ""
    message: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    pod: str = ""
    node: str = ""
    log_tail: str = ""
    """The last 2 KiB of a failed run's log."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event on one route. Dates are in UTC."""

    id: int
    route: str
    """Empty: no route takes the event."""
    state: State
    attempt: int
    key: str
    """The event's."""
    source: str
    kind: str
    subject: str
    action: str
    time: datetime
    """When it happened, as the event's origin tells."""
    accepted: datetime
    """When the daemon had it on its disk."""
    size: int | None = None
    claimed: datetime | None = None
    submitted: datetime | None = None
    settled: datetime | None = None
    retry_at: datetime | None = None
    order: str = ""
    note: str = ""
    """Why it waits, died or was dropped."""
    outcome: Outcome | None = None

    def __repr__(self) -> str:
        """One line."""
        note = f": {self.note}" if self.note else ""
        return f"<Delivery {self.id} {self.route or '(no route)'} {self.state} {self.subject!r}{note}>"
