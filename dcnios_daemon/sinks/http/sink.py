"""The sink that POSTs: an order is over when the receiver has answered."""

import asyncio
import base64
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from yarl import URL

from dcnios_daemon.core.ports import Desk, Order, Outcome
from dcnios_daemon.sinks.at_once import Ended
from dcnios_daemon.sinks.connections import Connection, Connections
from dcnios_daemon.sinks.http.answer import failure
from dcnios_daemon.sinks.http.client import Client
from dcnios_daemon.sinks.http.message import message
from dcnios_daemon.sinks.http.settings import HttpRun
from dcnios_daemon.sinks.spec import SinkContext


def neighbour(run: HttpRun) -> str:
    """Whose trouble is another's too: the server."""
    return str(URL(run.url).origin())


class HttpPlan:
    """A route's ``run`` block. Implements :class:`~dcnios_daemon.core.ports.Plan`."""

    def __init__(self, to: Connection[HttpRun, Client], ended: Ended, context: SinkContext) -> None:
        self._to = to
        self._run = to.run
        self._client = to.client
        self._ended = ended
        self._clock = context.clock

    async def render(self, order: Order) -> Any:  # noqa: ANN401 - see core.ports.Plan
        """The request, without the login."""
        made = message(order, self._run.mode)
        try:
            body = {"body": made.body.decode()}
        except UnicodeDecodeError:
            body = {"body_base64": base64.b64encode(made.body).decode()}
        return {
            "order": order.name,
            "POST": self._client.where,
            "headers": {**self._run.headers, **made.headers},
            **body,
        }

    async def submit(self, order: Order) -> None:
        """See :class:`~dcnios_daemon.core.ports.Plan`. Returns when the receiver has said yes."""
        made = message(order, self._run.mode)
        started = self._clock.now()
        answer = await self._client.ask("POST", made.headers, made.body)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            self._client.forget_login()
        wrong = failure(answer, where=self._client.where, now=self._clock.now())
        if wrong is not None:
            raise wrong
        outcome = Outcome(
            order=order.name, reason=f"HTTP {answer.status}", started=started, ended=self._clock.now()
        )
        await self._ended.add(outcome)

    async def exists(self, order: Order) -> bool:  # noqa: ARG002 - of none is anything left
        """See :class:`~dcnios_daemon.core.ports.Plan`."""
        return False


class HttpSink:
    """Implements :class:`~dcnios_daemon.core.ports.Sink`."""

    def __init__(self, context: SinkContext) -> None:
        self._context = context
        self._ended = Ended("Answered")
        self._connections: Connections[HttpRun, Client] = Connections()

    def plan(self, route: str, run: HttpRun) -> HttpPlan:  # noqa: ARG002 - nothing in it is the route's
        """See :class:`~dcnios_daemon.core.ports.Sink`. Equal blocks share their connections."""
        to = self._connections.to(run, lambda: Client(run.url, run.access(), self._context.clock))
        return HttpPlan(to, self._ended, self._context)

    async def serve(self, desk: Desk, ready: Callable[[], None]) -> None:
        """See :class:`~dcnios_daemon.core.ports.Sink`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._connections.tidy(), name="http: connections")
            await self._ended.serve(desk, ready)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._connections.aclose()
