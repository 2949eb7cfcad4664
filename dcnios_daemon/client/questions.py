"""What is asked of the daemon, and what the answers mean: all of the client but the waiting itself.

Each question is a generator: it yields what to send or how long to pause, is sent the answer, and returns
the result. So the sync and the async client are one implementation, neither needs a loop of its own, and a
notebook, whose kernel has a running loop, can use either.
"""

from collections.abc import Generator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from dcnios_daemon.client.delivery import Delivery
from dcnios_daemon.client.errors import ClientError, DaemonAway, DeliveryDead, NotRun, NotYet, Refused
from dcnios_daemon.client.wanted import Wanted
from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.ports import State

LOOK_THROUGH = 10_000
"""Deliveries that a list looks through at most, newest first, unless told otherwise."""

_PAGE, _SMALL_PAGE = 1000, 100
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.2, 2.0, 1.5
"""Seconds between two looks."""
_NOWHERE = frozenset({State.UNROUTED, State.DROPPED})
_AWAY = frozenset({0, 429, 500, 502, 503, 504})


class Ask(msgspec.Struct, frozen=True):
    """A request to send."""

    path: str
    query: Mapping[str, str | int] = msgspec.field(default_factory=dict)
    method: str = "GET"


class Pause(msgspec.Struct, frozen=True):
    """Nothing to do for so many seconds."""

    seconds: float


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    """0: nothing did."""
    body: bytes = b""
    trouble: str = ""
    """Why nothing did."""


class _Page(msgspec.Struct, frozen=True):
    deliveries: list[Delivery]
    newest: int = 0
    next: int | None = None


class _Error(msgspec.Struct, frozen=True):
    error: str


class _Route(msgspec.Struct, frozen=True):
    outputs: Mapping[str, str] = {}


class _Status(msgspec.Struct, frozen=True):
    routes: Mapping[str, _Route]


T = TypeVar("T")
Steps = Generator[Ask | Pause, Any, T]
"""Is sent an :class:`Answer` for each :class:`Ask`."""


class _Until:
    """An end of patience, and pauses that grow until then."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + seconds
        self._pause = _FIRST_PAUSE

    def is_over(self) -> bool:
        return self._clock.monotonic() >= self._end

    def pause(self) -> Pause:
        seconds = min(self._pause, max(self._end - self._clock.monotonic(), 0.0))
        self._pause = min(self._pause * _GROWTH, _LONGEST_PAUSE)
        return Pause(seconds)


class Questions:
    """What can be asked. Every method raises DaemonAway and Refused.

    Args:
        patience: Seconds for which a daemon that is away, or fails, is asked again.
        clock: The time.
    """

    def __init__(self, *, patience: float, clock: Clock) -> None:
        self._patience = patience
        self._clock = clock

    def expect(self, wanted: Wanted) -> Steps[Wanted]:
        """The same, but only of what comes from now on."""
        page = yield from self._page({"limit": 1}, self._until())
        return msgspec.structs.replace(wanted, above=page.newest)

    def deliveries(self, query: Mapping[str, str], *, most: int, look_through: int) -> Steps[list[Delivery]]:
        """Those that match, newest first."""
        found: list[Delivery] = []
        after = 0
        while look_through > 0 and len(found) < most:
            limit = min(_PAGE, look_through)
            page = yield from self._page({**query, "after": after, "limit": limit}, self._until())
            found += page.deliveries
            look_through -= limit
            if page.next is None:
                break
            after = page.next
        return found[:most]

    def event(self, key: str) -> Steps[list[Delivery]]:
        """An event's deliveries; none: it is not known (any more)."""
        return (yield from self._event(key, self._until()))

    def outputs(self, route: str) -> Steps[Mapping[str, str]]:
        """Where the route's results go."""
        status = _decoded((yield from self._asked(Ask("/api/v1/status"), self._until())), _Status)
        if route not in status.routes:
            raise ClientError(f"no route is called {route!r}: there are {', '.join(sorted(status.routes))}")
        return status.routes[route].outputs

    def replay(self, delivery: int) -> Steps[None]:
        """Queue a dead delivery again."""
        until, ask = self._until(), Ask(f"/api/v1/dead/{delivery}/replay", method="POST")
        unanswered = False
        while True:
            answer: Answer = yield ask
            if answer.status not in _AWAY:
                break
            unanswered = True
            yield self._next(answer, until)
        # Not dead any more, after a try whose answer was lost: that try has arrived.
        if not (unanswered and answer.status == HTTPStatus.NOT_FOUND):
            _checked(answer)

    def wait(self, wanted: Wanted, *, timeout: float, route: str | None) -> Steps[list[Delivery]]:
        """Until all deliveries of the event have succeeded."""
        until = _Until(self._clock, timeout)
        looking = _Looking(wanted)
        last: Sequence[Delivery] = ()
        while True:
            key = wanted.key or (yield from self._found(looking, until))
            if key:
                last = _of_route(wanted, (yield from self._event(key, until)), route)
                if last and _have_succeeded(wanted, last):
                    return list(last)
            if until.is_over():
                raise NotYet(_standing(wanted, last, timeout, looking.others), deliveries=last)
            yield until.pause()

    # --- parts of these ---------------------------------------------------------------------------------

    def _found(self, looking: "_Looking", until: _Until) -> Steps[str]:
        """The key of the newest event that is meant, of what came since the last look; empty: none yet."""
        if looking.key:
            return looking.key
        wanted = looking.wanted
        query: dict[str, str | int] = {
            "subject": wanted.subject,
            "above": looking.above,
            "limit": _SMALL_PAGE,
        }
        query |= {"source": wanted.source} if wanted.source else {}
        after, newest = 0, looking.above
        while not looking.key:
            page = yield from self._page({**query, "after": after}, until)
            newest = max(newest, page.newest)
            looking.take(page.deliveries)
            if page.next is None:
                break
            after = page.next
        looking.above = newest
        return looking.key

    def _page(self, query: Mapping[str, str | int], until: _Until) -> Steps[_Page]:
        return _decoded((yield from self._asked(Ask("/api/v1/deliveries", query), until)), _Page)

    def _event(self, key: str, until: _Until) -> Steps[list[Delivery]]:
        answer = yield from self._asked(Ask(f"/api/v1/events/{quote(key, safe='')}"), until, or_nothing=True)
        return [] if answer.status == HTTPStatus.NOT_FOUND else _decoded(answer, _Page).deliveries

    def _asked(self, ask: Ask, until: _Until, *, or_nothing: bool = False) -> Steps[Answer]:
        while True:
            answer: Answer = yield ask
            if answer.status not in _AWAY:
                break
            yield self._next(answer, until)
        return answer if or_nothing and answer.status == HTTPStatus.NOT_FOUND else _checked(answer)

    def _next(self, answer: Answer, until: _Until) -> Pause:
        if until.is_over():
            raise DaemonAway(f"the daemon is away: {answer.trouble or _words(answer)}")
        return until.pause()

    def _until(self) -> _Until:
        return _Until(self._clock, self._patience)


class _Looking:
    """How far a search by subject has come."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.above = wanted.above
        self.key = ""
        self.others = 0
        """Deliveries of the same subject that are not meant."""

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """What bears the subject, newest first."""
        meant = [delivery for delivery in deliveries if self.wanted.is_meant(delivery)]
        self.others += len(deliveries) - len(meant)
        self.key = meant[0].key if meant else ""


def _of_route(wanted: Wanted, deliveries: Sequence[Delivery], route: str | None) -> Sequence[Delivery]:
    """The event's deliveries that are waited for."""
    # What no route took at first is told of beside what some route took later.
    routed = [delivery for delivery in deliveries if delivery.route] or list(deliveries)
    if route is None or not routed:
        return routed
    chosen = [delivery for delivery in routed if delivery.route == route]
    if not chosen:
        raise NotRun(f"{wanted}: route {route!r} does not take it", deliveries=routed)
    return chosen


def _have_succeeded(wanted: Wanted, deliveries: Sequence[Delivery]) -> bool:
    for delivery in deliveries:
        if delivery.state is State.DEAD:
            raise DeliveryDead(delivery)
        if delivery.state in _NOWHERE:
            why = f"was dropped: {delivery.note}" if delivery.route else "is not taken by any route"
            raise NotRun(f"{wanted} {why}", deliveries=deliveries)
    return all(delivery.state is State.SUCCEEDED for delivery in deliveries)


def _standing(wanted: Wanted, deliveries: Sequence[Delivery], timeout: float, others: int) -> str:
    if deliveries:
        return f"{wanted} has not ended within {timeout:g} s: {', '.join(map(repr, deliveries))}"
    beside = f", only {others} of that name with another content" if others else ""
    return f"the daemon has seen no {wanted} within {timeout:g} s{beside}"


def _words(answer: Answer) -> str:
    try:
        return msgspec.json.decode(answer.body, type=_Error).error
    except msgspec.DecodeError:
        return f"it answers {answer.status}"


def _checked(answer: Answer) -> Answer:
    if answer.status == HTTPStatus.OK:
        return answer
    raise Refused(_words(answer), status=answer.status)


def _decoded(answer: Answer, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except msgspec.DecodeError as error:
        raise ClientError(f"this is not the daemon's API: {error}") from error
