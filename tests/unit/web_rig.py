"""The HTTP port over a journal in memory, for tests of what is said and done over HTTP."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Admission, Dead, Failure, Inbound, Outcome, Reply
from dcnios_daemon.core.settings import Secret
from dcnios_daemon.telemetry.health import Health
from dcnios_daemon.web.api import Api
from dcnios_daemon.web.server import Door, WebServer
from tests.fakes.memory_journal import MemoryJournal

HOLE = '<img src=x onerror="document.title=1">'


class Taker:
    """A push source that takes everything, or breaks."""

    def __init__(self) -> None:
        self.got: list[Inbound] = []
        self.breaks: Exception | None = None

    async def receive(self, request: Inbound) -> Reply:
        if self.breaks is not None:
            raise self.breaks
        self.got.append(request)
        return Reply(200, "taken")


class Port:
    """The server, a journal with one dead delivery, two push sources, and a client."""

    def __init__(
        self, admin: Secret | None, sources: dict[str, Secret | None], status: Callable[[], dict[str, Any]]
    ) -> None:
        self.journal = MemoryJournal(clock=SystemClock())
        self.health = Health()
        self.taker = Taker()
        api = Api(journal=self.journal, status=status, routes=lambda: ["r"])
        self.server = WebServer(health=self.health, api=api, admin_token=admin)
        for name, token in sources.items():
            self.server.mount(name, Door(receiver=self.taker, token=token))
        self.client: aiohttp.ClientSession
        self.number = 0
        self.key = event_key("s", 1)

    async def ask(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, Any, Any]:
        """Status, JSON, headers. ``_`` in a header's name stands for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{self.number}{path}"
        async with self.client.request(method, url, headers=named) as reply:
            known = reply.content_type == "application/json" and method != "HEAD"
            return reply.status, await reply.json() if known else await reply.text(), reply.headers

    async def status(self, path: str, *, method: str = "GET", **headers: str) -> int:
        return (await self.ask(path, method=method, **headers))[0]


@contextlib.asynccontextmanager
async def port(
    *,
    admin: Secret | None = None,
    status: Callable[[], dict[str, Any]] = dict,
    **sources: Secret | None,
) -> AsyncIterator[Port]:
    made = Port(admin, sources, status)
    await made.journal.open()
    event = Event(
        key=made.key, source="s", kind="toy", subject=HOLE, action=Action.CREATED, time=1.0, data=b"{}"
    )
    await made.journal.append("s", [Admission(event, ("r",))], None)
    [claim] = await made.journal.claim("r", 1)
    outcome = Outcome(order=claim.order, failure=Failure.SCRIPT, exit_code=1, message=HOLE)
    await made.journal.finish([claim.delivery], outcome, Dead())
    async with made.server.listen("127.0.0.1", 0) as made.number, aiohttp.ClientSession() as made.client:
        yield made
    await made.journal.aclose()
