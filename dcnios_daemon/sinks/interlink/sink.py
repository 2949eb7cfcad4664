"""Runs each order as a job of an HPC, by way of a Job on a virtual node of interLink.

Between the two there is much that says what is not so: ``admission`` keeps submissions apart and waits for
nodes that are away, and an end is believed only when the wrapper's own line in the log says it.
"""

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkUnreachable
from dcnios_daemon.core.ports import Desk, Order
from dcnios_daemon.kubernetes.answers import Taken
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.login import KubernetesSettings
from dcnios_daemon.kubernetes.marks import SINK, selector
from dcnios_daemon.sinks.interlink.admission import Admission
from dcnios_daemon.sinks.interlink.judge import Judge
from dcnios_daemon.sinks.interlink.manifest import KIND, Template
from dcnios_daemon.sinks.interlink.marker import Marker, Markers
from dcnios_daemon.sinks.interlink.settings import InterlinkRun
from dcnios_daemon.sinks.kubernetes.creating import find, job_exists
from dcnios_daemon.sinks.kubernetes.follow import Follower
from dcnios_daemon.sinks.spec import SinkContext
from dcnios_daemon.staging.document import StagingPlan
from dcnios_daemon.staging.plan import LONGEST, make_plan, needs_staging, validity


class InterlinkPlan:
    """A route's ``run`` block as Jobs on virtual nodes."""

    def __init__(
        self,
        session: ClusterSession,
        run: InterlinkRun,
        *,
        template: Template,
        admission: Admission,
        follower: Follower,
        markers: Markers,
    ) -> None:
        self._session = session
        self._run = run
        self._template = template
        self._admission = admission
        self._follower = follower
        self._markers = markers
        self._stores = markers.stores
        self._staged = needs_staging(run)

    async def render(self, order: Order) -> Any:  # noqa: ANN401 - see core.ports.Plan
        """The Job. Which of several virtual nodes it goes to is decided when it goes."""
        return self._template.make(order, plan=await self._plan(order), marker=await self._marker(order))

    async def submit(self, order: Order) -> None:
        """Make the Job when its node has room. See :meth:`dcnios_daemon.core.ports.Plan.submit`."""
        make = functools.partial(
            self._template.make, order, plan=await self._plan(order), marker=await self._marker(order)
        )
        job = make()  # what can never go waits for no place
        if self._run.queue or self._run.suspend:  # something else decides when it goes, and where
            await self._create(order, job)
            return
        place = await self._admission.let_go(self._run, order.name)
        try:
            is_made = await self._create(order, make(node=place.node))
        except (OrderRefused, SinkBusy, SinkUnreachable):
            await self._give_back(order, is_new=place.is_new)
            raise
        if not is_made:
            await self._give_back(order, is_new=place.is_new)

    async def _give_back(self, order: Order, *, is_new: bool) -> None:
        """A place that it had before may be that of a pod from an earlier try."""
        if is_new:
            await self._admission.give_back(order.name)

    async def _create(self, order: Order, job: dict[str, Any]) -> bool:
        """Make it. Returns whether it was not there before."""
        try:
            await self._session.request("POST", "jobs", body=msgspec.json.encode(job))
        except Taken:
            there = await find(self._session, "jobs", order, sink=KIND)
            if there is not None:
                await self._follower.found(there)
            return False
        return True

    async def exists(self, order: Order) -> bool:
        """Whether its Job is there. See :meth:`dcnios_daemon.core.ports.Plan.exists`."""
        return await job_exists(self._session, order)

    async def _plan(self, order: Order) -> StagingPlan:
        if not self._staged:
            return StagingPlan()
        return await make_plan(
            order, self._run, self._stores, source=order.events[0].source, valid_for=self._valid_for
        )

    async def _marker(self, order: Order) -> Marker | None:
        return await self._markers.leave(order.route, order.name, valid_for=self._valid_for)

    @property
    def _valid_for(self) -> float:
        """How long leave must hold, in seconds. A queue may hold a Job for long before its time runs."""
        return LONGEST if self._run.queue or self._run.suspend else validity(self._run.longest)


class InterlinkSink:
    """All routes with ``kind: interlink``."""

    def __init__(self, context: SinkContext, *, session: ClusterSession | None = None) -> None:
        settings = context.kubernetes or KubernetesSettings()
        ours = f"{selector(context.instance)},{SINK}={KIND}"
        self._context = context
        self._session = session or ClusterSession(settings, context.clock)
        self._admission = Admission(self._session, context.clock, selector=ours)
        self._markers = Markers(context.stores)
        self._judge = Judge(self._admission, self._markers)
        self._follower = Follower(
            self._session,
            context.clock,
            sink=KIND,
            selector=ours,
            judge=self._judge.judge,
            gone=self._judge.gone,
        )

    def plan(self, route: str, run: InterlinkRun) -> InterlinkPlan:
        """Compile the route's Job. Reads its script file. See :class:`dcnios_daemon.core.ports.Sink`."""
        template = Template(run, route=route, instance=self._context.instance)
        self._follower.add(route, keep=run.keep)
        self._admission.add(route, run)
        self._judge.add(route, run)
        self._markers.add(route, run)
        return InterlinkPlan(
            self._session,
            run,
            template=template,
            admission=self._admission,
            follower=self._follower,
            markers=self._markers,
        )

    async def serve(self, desk: Desk, ready: Callable[[], None]) -> None:
        """Follow nodes and Jobs. See :meth:`dcnios_daemon.core.ports.Sink.serve`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._admission.watch(), name="interlink-admission")
            await self._follower.run(desk, ready)

    def suspended(self) -> Mapping[str, int]:
        """See :meth:`dcnios_daemon.core.ports.Suspending.suspended`."""
        return self._follower.suspended()

    async def aclose(self) -> None:
        """Close the connections; Jobs live on."""
        await self._session.aclose()
