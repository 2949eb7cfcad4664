"""A route as the dispatcher sees it: how its events are run."""

import msgspec

from dcnios_daemon.core.payload import PayloadForm
from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Plan
from dcnios_daemon.dispatch.fairness import Share
from dcnios_daemon.dispatch.limits import Limits


class Fallback(msgspec.Struct, frozen=True, kw_only=True):
    """Where a route's orders go while its own sink has had no room for long."""

    route: "Route"
    """The same route by the other way."""
    after: float
    """Seconds without room."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """How the events of one route are run."""

    name: str
    plan: Plan
    sink: str
    """The kind of its ``run``."""
    neighbour: str = ""
    """Whom its sink talks to for it, where one kind talks to several: what fails there is no other's
    trouble. Empty: all routes of the kind talk to the same."""
    at_once: int | None = None
    """How many submissions may wait for that neighbour's answer at the same time, where it is known."""
    keep: float | None = None
    """Seconds for which its neighbour keeps what has ended; None: that does not matter to its sink."""
    limits: Limits = Limits()
    share: Share = Share()
    retry: RetryPolicy = RetryPolicy()
    batch_size: int = 1
    batch_wait: float = 0.0
    """Seconds that an incomplete batch waits for more."""
    payload: PayloadForm = PayloadForm.ORIGINAL
    fallback: Fallback | None = None
    is_fallback: bool = False
    """Whether this is the other way of a route."""
