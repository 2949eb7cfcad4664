"""The sink that calls services of OSCAR, and sees how their jobs end where it may."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import SinkBusy, SinkError, SinkUnavailable
from dcnios_daemon.core.ports import Desk, InFlight, Order, Outcome, State
from dcnios_daemon.sinks.at_once import Ended
from dcnios_daemon.sinks.connections import Connection, Connections
from dcnios_daemon.sinks.http.client import Client
from dcnios_daemon.sinks.oscar.answer import failure
from dcnios_daemon.sinks.oscar.body import body_of, user_of
from dcnios_daemon.sinks.oscar.follow import Follower, Watched, gone
from dcnios_daemon.sinks.oscar.settings import OscarRun
from dcnios_daemon.sinks.oscar.system import System
from dcnios_daemon.sinks.spec import SinkContext
from dcnios_daemon.telemetry.events import SinkFailed, SinkWatching

_NAME = "X-Delegated-Job-ID"
"""Gives the job its name, whoever sends it (``pkg/handlers/job.go``, since 4.1.0)."""
_CUT = 16
_HASH = 32
_FIRST_LOOK = 20.0
"""Seconds that an OSCAR has at the start to tell of what an earlier life left there. Who takes longer holds
up no other: what may be there keeps its slots until it is seen."""


def neighbour(run: OscarRun) -> str:
    """Whose trouble is another's too: the cluster."""
    return run.endpoint


def job_name(service: str, order: str) -> str:
    """The name of the job for an order: always the same, and another one for another service, for services
    share a namespace."""
    digest = hashlib.sha256(f"{service}\0{order}".encode()).hexdigest()[:_HASH]
    return f"{service[:_CUT].rstrip('-')}-{digest}"


class OscarPlan:
    """A route's ``run`` block. Implements :class:`~dcnios_daemon.core.ports.Plan`."""

    def __init__(
        self, sink: "OscarSink", *, to: Connection[OscarRun, Client], follower: Follower | None
    ) -> None:
        self._to = to
        self.run = to.run
        self.follower = follower
        """None: jobs cannot be seen."""
        self._sink = sink
        self._client = to.client
        self._token = ""
        self._lock = asyncio.Lock()

    async def render(self, order: Order) -> Any:  # noqa: ANN401 - see core.ports.Plan
        """The request, without the login."""
        return {
            "order": order.name,
            "POST": self._client.where,
            "headers": self._headers(order),
            "body": body_of(order).decode(),
        }

    async def submit(self, order: Order) -> None:
        """See :class:`~dcnios_daemon.core.ports.Plan`. Returns when OSCAR has made the job."""
        body, started = body_of(order), self._sink.clock.now()
        answer = await self._client.ask("POST", self._headers(order) | await self._login(), body)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            self._client.forget_login()
            self._token = ""
        job, now = job_name(self.run.service, order.name), self._sink.clock.now()
        wrong = failure(answer, where=self._client.where, job=job, user=user_of(order), now=now)
        if wrong is not None:
            raise wrong
        if self.follower is not None:
            self._sink.follow(self.follower, self.watched(order.name, since=started))
            return
        message = f"OSCAR has taken it as job {job}; how that ends is not seen without username and password"
        accepted = Outcome(order=order.name, reason="Accepted", message=message, started=started, ended=now)
        await self._sink.ended.add(accepted)

    async def exists(self, order: Order) -> bool:
        """See :class:`~dcnios_daemon.core.ports.Plan`."""
        if self.follower is None:
            return False
        name = job_name(self.run.service, order.name)
        to = self.follower.to
        async for jobs in to.client.jobs():
            if name in jobs:
                return True
        return False

    def watched(self, order: str, *, since: float, is_doubtful: bool = False) -> Watched:
        """The order as its follower takes it."""
        return Watched(
            order=order,
            job=job_name(self.run.service, order),
            since=since,
            deadline=self.run.deadline,
            keep=self.run.keep,
            is_doubtful=is_doubtful,
        )

    def _headers(self, order: Order) -> dict[str, str]:
        return {"Content-Type": "application/json", _NAME: job_name(self.run.service, order.name)}

    async def _login(self) -> dict[str, str]:
        """The service's token, where that is OSCAR's to say; else the client has it."""
        if self.run.token is not None or self.follower is None:
            return {}
        to = self.follower.to
        async with self._lock:
            try:
                self._token = self._token or await to.client.token()
            except SinkUnavailable as error:
                raise SinkBusy(str(error)) from error  # nothing was sent: there is no doubt about the order
            return {"Authorization": f"Bearer {self._token}"}


class _Service(msgspec.Struct, frozen=True):
    """What there is only while the sink is being served."""

    desk: Desk
    group: asyncio.TaskGroup


class OscarSink:
    """Implements :class:`~dcnios_daemon.core.ports.Sink`."""

    def __init__(self, context: SinkContext) -> None:
        self.clock: Clock = context.clock
        self.ended = Ended("Accepted")
        """Orders that are over since OSCAR has taken them."""
        self._plans: dict[str, OscarPlan] = {}
        self._followers: dict[tuple[str, str], Follower] = {}
        self._running: set[int] = set()
        self._clients: Connections[OscarRun, Client] = Connections()
        self._systems: Connections[OscarRun, System] = Connections()
        self._service: _Service | None = None

    def plan(self, route: str, run: OscarRun) -> OscarPlan:
        """See :class:`~dcnios_daemon.core.ports.Sink`."""
        to = self._clients.to(run, lambda: Client(run.job_url, run.calling(), self.clock))
        made = OscarPlan(self, to=to, follower=self._follower(run))
        self._plans[route] = made
        return made

    def _follower(self, run: OscarRun) -> Follower | None:
        """One for all routes to the service; with the login that was given last."""
        access = run.asking()
        if access is None:
            return None
        to = self._systems.to(run, lambda: System(run.endpoint, run.service, access, self.clock))
        found = self._followers.get((run.endpoint, run.service))
        if found is None:
            found = Follower(to, every=run.every, clock=self.clock)
            self._followers[run.endpoint, run.service] = found
        found.change(to, every=run.every)
        return found

    def follow(self, follower: Follower, watched: Watched) -> None:
        """Wait for its job's end."""
        follower.add(watched)
        service = self._service
        if service is not None and id(follower) not in self._running:
            self._running.add(id(follower))
            service.group.create_task(follower.run(service.desk), name="oscar-follow")

    async def serve(self, desk: Desk, ready: Callable[[], None]) -> None:
        """See :class:`~dcnios_daemon.core.ports.Sink`."""
        async with asyncio.TaskGroup() as group:
            for connections in (self._clients, self._systems):
                group.create_task(connections.tidy(), name="oscar: connections")
            left = await desk.in_flight()
            await self._recover(desk, left)
            SinkWatching(sink="oscar", in_flight=len(left)).emit()
            self._service = _Service(desk, group)
            ready()
            for follower in set(self._followers.values()):
                self._running.add(id(follower))
                group.create_task(follower.run(desk), name="oscar-follow")
            await self.ended.report(desk)

    async def _recover(self, desk: Desk, left: Sequence[InFlight]) -> None:
        """What was running is looked for. What was never known to be sent is sent again, under its name,
        unless it is there, or so old that OSCAR would have forgotten it."""
        unseen: list[InFlight] = []
        looks: set[Follower] = set()
        for item in left:
            plan = self._plans.get(item.route)
            if plan is None or plan.follower is None:
                unseen.append(item)
                continue
            doubtful = item.state is State.SUBMITTING
            watched = plan.watched(item.order, since=item.claimed, is_doubtful=doubtful)
            watched.keep = watched.keep if item.keep is None else item.keep
            plan.follower.add(watched)
            looks.add(plan.follower)
        await self._settle_unseen(desk, unseen)
        async with asyncio.TaskGroup() as group:
            for follower in looks:
                group.create_task(_first_look(follower, desk), name="oscar-first-look")

    async def _settle_unseen(self, desk: Desk, items: Sequence[InFlight]) -> None:
        now, fresh = self.clock.now(), []
        for item in items:
            kept = item.keep if item.keep is not None else self._keep(item.route)
            if item.state is State.RUNNING or 0 <= now - item.claimed < kept:
                fresh.append(item)
            else:
                words = "claimed long ago: it may have run, and OSCAR have forgotten it"
                await desk.report(gone(item.order, words))
        await self.ended.settle(desk, fresh)

    def _keep(self, route: str) -> float:
        plan = self._plans.get(route)
        return 0.0 if plan is None else plan.run.keep

    async def aclose(self) -> None:
        """Close all connections; jobs live on."""
        await self._clients.aclose()
        await self._systems.aclose()


async def _first_look(follower: Follower, desk: Desk) -> None:
    try:
        async with asyncio.timeout(_FIRST_LOOK):
            await follower.look(desk)
    except TimeoutError:
        SinkFailed(sink="oscar", error="no list of jobs in time", again_in=0.0).emit()
    except SinkError as error:
        SinkFailed(sink="oscar", error=str(error), again_in=0.0).emit()
