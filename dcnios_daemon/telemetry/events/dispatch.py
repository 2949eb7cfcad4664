"""The way of an order, the same for every sink: submitted, put off, ended."""

import functools

from prometheus_client import Counter, Histogram

from dcnios_daemon.telemetry import metrics
from dcnios_daemon.telemetry.events.signal import Signal


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
        submitted, wait = _of_route(self.route)
        submitted.inc()
        wait.observe(self.waited)


@functools.cache
def _of_route(route: str) -> tuple[Counter, Histogram]:
    """What counts every order: looking it up by label costs more than counting."""
    return metrics.SUBMITTED.labels(route), metrics.WAIT.labels(route)


class OrderPutOff(Signal):
    """A sink could not take an order now. It is tried again; no attempt is burnt.

    There are many of these while a neighbour is away; :class:`SubmissionsPaused` is said once a minute.
    """

    name = "order.put_off"
    level = "debug"
    route: str
    order: str
    error: str
    again_in: float

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.PUT_OFF.labels(self.route).inc()


class RouteFellBack(Signal):
    """A route's orders go the other way: its own has had no room for so many seconds."""

    name = "route.fell_back"
    level = "warning"
    route: str
    to: str
    seconds: float

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.ELSEWHERE.labels(self.route).set(1)


class OrderFellBack(Signal):
    """An order was taken the other way."""

    name = "order.fell_back"
    level = "debug"
    route: str
    to: str

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.FELL_BACK.labels(self.route, self.to).inc()


class RouteRecovered(Signal):
    """A route's orders go its own way again, which has taken one."""

    name = "route.recovered"
    route: str

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.ELSEWHERE.labels(self.route).set(0)


class SubmissionsPaused(Signal):
    """A neighbour is left alone because it failed or asked for time, or a route because something of its own
    is missing. Said once a minute at most."""

    name = "submissions.paused"
    level = "warning"
    sink: str
    neighbour: str
    route: str
    error: str
    again_in: float
    put_off: int
    """Submissions that were put off since this was last said."""


class SubmissionsSlowed(Signal):
    """A neighbour answers slowly, and is asked by fewer at the same time. Said once a minute at most."""

    name = "submissions.slowed"
    level = "warning"
    sink: str
    neighbour: str
    route: str
    seconds: float
    """That its last answer took."""
    at_once: int


class SubmissionsResumed(Signal):
    """What :class:`SubmissionsPaused` told of is over."""

    name = "submissions.resumed"
    sink: str
    neighbour: str
    route: str
    put_off: int


class AttemptEnded(Signal):
    """An outcome was recorded."""

    name = "order.ended"
    level = "debug"
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


class DeliveriesDied(Signal):
    """Deliveries of a route were given up: somebody may want to replay or drop them. Said once a minute at
    most for each route; ``order.ended`` tells of each."""

    name = "deliveries.died"
    level = "warning"
    route: str
    died: int
    """Since this was last said."""
    result: str
    """What became of the last of them ..."""
    reason: str
    """... and why."""
    advice: str = "dcnios queue dead tells more"


class RoutePaused(Signal):
    """Somebody has paused a route, now or in an earlier life. What it has in flight ends as always."""

    name = "route.paused"
    level = "warning"
    route: str


class RouteResumed(Signal):
    """A paused route goes on."""

    name = "route.resumed"
    route: str
