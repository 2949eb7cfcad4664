"""The JSON API under ``/api/v1``: what the status page shows, for machines."""

from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from dcnios_daemon.core.clock import iso
from dcnios_daemon.core.errors import JournalCorrupt, JournalError, JournalUnavailable
from dcnios_daemon.core.event import cloudevent
from dcnios_daemon.core.ports import Delivery, Journal, State
from dcnios_daemon.telemetry.metrics import forget_paces, take_levels, take_pace, take_suspended

_TIMES = ("time", "accepted", "claimed", "submitted", "settled", "retry_at")
_MOST = 1000
_DIGITS = 18
"""Of the largest number that the journal understands, to be sure."""


def delivery_json(delivery: Delivery) -> dict[str, Any]:
    """A delivery as the API prints it: times as RFC 3339, absent ones left out."""
    shown: dict[str, Any] = msgspec.to_builtins(delivery)
    for name in _TIMES:
        shown[name] = None if shown[name] is None else iso(shown[name])
    outcome = shown.get("outcome")
    if outcome:
        for name in ("started", "ended"):
            outcome[name] = None if outcome[name] is None else iso(outcome[name])
    return {name: value for name, value in shown.items() if value is not None}


class Api:
    """Answers from the journal, and from functions that describe the daemon's parts.

    Args:
        journal: The journal.
        status: What ``/api/v1/status`` says beside the journal's counts.
        routes: The names of the routes that are configured now.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        status: Callable[[], dict[str, Any]],
        routes: Callable[[], Collection[str]],
    ) -> None:
        self._journal = journal
        self._status = status
        self._routes = routes

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """What to serve."""
        return [
            web.get("/api/v1/status", self._get_status),
            web.get("/api/v1/deliveries", self._get_deliveries),
            web.get("/api/v1/dead", self._get_dead),
            web.get("/api/v1/events", self._get_events),
            web.get("/api/v1/events/{key}", self._get_event),
            web.post("/api/v1/dead/{id}/replay", self._replay),
            web.post("/api/v1/routes/{name}/pause", self._pause),
            web.post("/api/v1/routes/{name}/resume", self._resume),
        ]

    async def measure(self) -> None:
        """Bring the levels up to date: the journal's, and the pace of each neighbour."""
        stats = await self._journal.stats()
        take_levels(
            events=stats.events,
            size=stats.bytes,
            log=stats.log_bytes,
            deliveries=stats.deliveries,
            routes=self._routes(),
            paused=stats.paused,
        )
        forget_paces()
        status = self._status()
        routes = status.get("routes", {})
        take_suspended({name: route.get("suspended", 0) for name, route in routes.items()})
        for state in status.get("sinks", ()):
            take_pace(
                state["sink"],
                state["neighbour"],
                at_once=state["at_once"],
                unanswered=state["unanswered"],
                failures=state["failures"],
            )

    async def _get_status(self, _: web.Request) -> web.Response:
        stats = await self._journal.stats()
        return _json(self._status() | {"journal": msgspec.to_builtins(stats)})

    async def _get_deliveries(self, request: web.Request) -> web.Response:
        shown, page = await self._list(request, state=_state(request))
        return _json({"deliveries": shown, **page})

    async def _get_dead(self, request: web.Request) -> web.Response:
        shown, page = await self._list(request, state=State.DEAD)
        return _json({"dead": shown, **page})

    async def _get_events(self, request: web.Request) -> web.Response:
        """Newest first; each event with its deliveries."""
        events: dict[str, dict[str, Any]] = {}
        found, page = await self._list(request, state=None)
        for shown in found:
            about = {name: shown.get(name) for name in ("key", "source", "kind", "subject", "action", "time")}
            events.setdefault(shown["key"], about | {"deliveries": []})["deliveries"].append(shown)
        return _json({"events": list(events.values()), **page})

    async def _get_event(self, request: web.Request) -> web.Response:
        await self._journal.stats()  # an error now is the journal's; one after it, the key's
        try:
            event, deliveries = await self._journal.show(request.match_info["key"])
        except (JournalUnavailable, JournalCorrupt):
            raise
        except JournalError as error:
            return _json({"error": str(error)}, HTTPStatus.CONFLICT)
        if not deliveries:
            return _json({"error": "no event has that key"}, HTTPStatus.NOT_FOUND)
        shown = [delivery_json(delivery) for delivery in deliveries]
        return _json({"event": event and cloudevent(event), "deliveries": shown})

    async def _replay(self, request: web.Request) -> web.Response:
        given = request.match_info["id"]
        if not _is_number(given) or not await self._journal.replay([int(given)]):
            return _json({"error": f"no dead delivery has the id {given!r}"}, HTTPStatus.NOT_FOUND)
        return _json({"replayed": int(given)})

    async def _pause(self, request: web.Request) -> web.Response:
        route = await self._known_route(request)
        await self._journal.pause(route)
        return _json({"route": route, "paused": True})

    async def _resume(self, request: web.Request) -> web.Response:
        route = await self._known_route(request)
        await self._journal.resume(route)
        return _json({"route": route, "paused": False})

    async def _known_route(self, request: web.Request) -> str:
        """The route that is meant: a configured one, or one that is gone and was left paused."""
        route = request.match_info["name"]
        stats = await self._journal.stats()
        if route not in self._routes() and route not in stats.paused:
            raise web.HTTPNotFound(text=f"no route is called {route!r}")
        return route

    async def _list(
        self, request: web.Request, *, state: State | None
    ) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Deliveries as they are shown, and the page: the ``newest`` id looked at, and where to go on
        (``after``) as ``next`` if there may be more.

        No more than ``limit`` are looked at, whatever is shown of them: no question costs more for a backlog.
        """
        limit, above = min(_number(request, "limit", 100), _MOST), _number(request, "above", 0)
        found = await self._journal.deliveries(
            state=state, route=request.query.get("route"), after=_number(request, "after", 0), limit=limit
        )
        looked = [delivery for delivery in found if delivery.id > above]
        page = {"newest": looked[0].id} if looked else {}
        if looked and len(looked) == limit:
            page["next"] = looked[-1].id
        return [delivery_json(delivery) for delivery in looked if _is_meant(request, delivery)], page


def _is_meant(request: web.Request, delivery: Delivery) -> bool:
    source, subject = request.query.get("source"), request.query.get("subject")
    return source in {None, delivery.source} and subject in {None, delivery.subject}


def _state(request: web.Request) -> State | None:
    given = request.query.get("state")
    try:
        return None if given is None else State(given)
    except ValueError:
        raise web.HTTPBadRequest(text=f"state is one of {', '.join(State)}") from None


def _number(request: web.Request, name: str, default: int) -> int:
    given = request.query.get(name, "")
    if given and not _is_number(given):
        raise web.HTTPBadRequest(text=f"{name} is a whole number")
    return int(given or default)


def _is_number(given: str) -> bool:
    return given.isascii() and given.isdecimal() and len(given) <= _DIGITS


def _json(document: object, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")
