"""Seeing how Jobs end: one watch over all of them, never a question per Job.

What is in flight in the journal is held against what is in the cluster at the start, whenever changes may
have been missed, and now and then, so that nothing that escaped the watch is waited for for ever. A Job that
is there is left alone, however old; one that is gone has perhaps run.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing

import msgspec
from msgspec.structs import replace

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import JournalUnavailable, SinkError
from dcnios_daemon.core.ports import Desk, InFlight, Outcome, State
from dcnios_daemon.kubernetes.answers import Expired
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.marks import ORDINARY, ROUTE, SINK, route_label
from dcnios_daemon.sinks.kubernetes.ended_pods import EndedPods
from dcnios_daemon.sinks.kubernetes.objects import Job
from dcnios_daemon.sinks.kubernetes.pauses import Pauses
from dcnios_daemon.sinks.kubernetes.payload_secret import adopt, carries_secret
from dcnios_daemon.sinks.kubernetes.verdict import outcome, vanished
from dcnios_daemon.sinks.kubernetes.watch import Change, Collection, decode
from dcnios_daemon.telemetry.events import SinkWatching

REPORTERS = 16
"""Outcomes on their way to the journal at the same time: they share its commits."""
LIST_SECONDS = 600.0
"""How old the last listing gets before the next, or little more."""
_AHEAD = 1000
_JOB = msgspec.json.Decoder(Job)


Judge = Callable[[Job, EndedPods], Awaitable[Outcome | float]]
"""How a Job that has ended did; or, when that cannot be seen yet, after how many seconds to look again."""
Gone = Callable[[Outcome, str], Awaitable[Outcome | float]]
"""Likewise of one that is gone: from what is said where nothing more is known, and its route's label."""


class _Gone(msgspec.Struct, frozen=True):
    """A Job whose end nobody saw."""

    outcome: Outcome
    route: str
    """Its label."""

    @property
    def order(self) -> str:
        return self.outcome.order


class Follower:
    """Follows the Jobs of some routes to their end.

    Args:
        session: The cluster.
        clock: Tells the time.
        sink: The kind of ``run`` whose Jobs these are.
        selector: The label selector of the Jobs and their pods.
        judge: Says how a Job that has ended did; by default, as its pod's exit code says.
        gone: Says how a Job did that is gone; by default nobody knows.
    """

    def __init__(
        self,
        session: ClusterSession,
        clock: Clock,
        *,
        sink: str,
        selector: str,
        judge: Judge | None = None,
        gone: Gone | None = None,
    ) -> None:
        self._session = session
        self._clock = clock
        self._sink = sink
        self._keep: dict[str, float] = {}
        self._labels: set[str] = set()
        self._pauses = Pauses(sink=sink, clock=clock)
        self._pods = EndedPods(session, clock, sink=sink, selector=selector)
        self._jobs = Collection(session, clock, "jobs", Job, {"labelSelector": selector})
        self._judge = judge or by_exit_code
        self._judge_gone = gone or nobody_knows
        self._later: set[str] = set()
        """Jobs that are looked at again after a while."""
        self._live: set[str] = set()
        """Jobs seen and not seen to end: an end is news once."""
        self._suspended: dict[str, str] = {}
        """Those of them that may not run now, and their route's label."""
        self._ended: asyncio.Queue[Job | _Gone] = asyncio.Queue(_AHEAD)
        self._group: asyncio.TaskGroup

    def add(self, route: str, *, keep: float) -> None:
        """Follow the route's Jobs too, which stay ``keep`` seconds after their end; others are ignored."""
        self._keep[route] = keep
        self._labels.add(route_label(route))

    def suspended(self) -> Mapping[str, int]:
        """See :meth:`dcnios_daemon.core.ports.Suspending.suspended`."""
        counts = Counter(self._suspended.values())
        routes = list(self._keep)  # a reload adds some meanwhile, on a thread
        return {route: counts[route_label(route)] for route in routes}

    async def found(self, there: bytes) -> None:
        """Take in a Job that was there when it was to be made: the end of it may have been told when nobody
        knew that it is ours.
        """
        job = decode(_JOB, there)
        if job.end is not None:
            await self._ended.put(job)

    async def run(self, desk: Desk, ready: Callable[[], None]) -> None:
        """Report outcomes until cancelled. See :meth:`dcnios_daemon.core.ports.Sink.serve`."""
        async with asyncio.TaskGroup() as self._group:
            group = self._group
            group.create_task(self._pods.watch(), name=f"{self._sink}-pods")
            group.create_task(self._pods.survey(), name=f"{self._sink}-pods-that-wait")
            for number in range(REPORTERS):
                group.create_task(self._report(desk), name=f"{self._sink}-report-{number}")
            await self._follow(desk, ready)

    async def _follow(self, desk: Desk, ready: Callable[[], None]) -> None:
        first = must_list = True
        next_listing = 0.0
        while True:
            try:
                if must_list:
                    in_flight = await self._reconcile(desk, first=first)
                    must_list, next_listing = False, self._clock.monotonic() + LIST_SECONDS
                    SinkWatching(sink=self._sink, in_flight=in_flight).emit()
                if first:
                    ready()
                    first = False
                async with aclosing(self._jobs.changes(until=next_listing)) as changes:
                    async for change in changes:
                        await self._saw(change)
                must_list = True
            except (SinkError, JournalUnavailable) as error:
                if must_list or not isinstance(error, Expired):
                    await self._pauses.after(error)
                must_list = must_list or isinstance(error, Expired)

    async def _reconcile(self, desk: Desk, *, first: bool) -> int:
        """Hold the journal against the cluster. Returns how many deliveries the journal has in flight.

        What is gone from the cluster must have been in flight *before* the listing; what has ended in it may
        have become so until *after* its moment. Hence two looks into the journal.
        """
        await self._ended.join()
        before = await desk.in_flight()
        self._labels.update(route_label(item.route) for item in before)  # a route may have been ours once
        doubtful = {item.order for item in before if item.state is State.SUBMITTING}
        known: set[str] | None = None
        present: set[str] = set()
        live: set[str] = set()
        suspended: dict[str, str] = {}

        async def visit(jobs: Sequence[Job]) -> None:
            nonlocal known
            if known is None:
                known = {item.order for item in (*before, *await desk.in_flight())}
            for job in filter(self._is_ours, jobs):
                name = job.metadata.name
                present.add(name)
                if first and name in doubtful and carries_secret(job):
                    await adopt(self._session, job.metadata)
                if job.is_suspended:
                    suspended[name] = job.metadata.labels[ROUTE]
                if job.end is None:
                    live.add(name)
                elif name in known:
                    await self._ended.put(job)

        await self._jobs.list(visit)
        self._live, self._suspended = live, suspended
        if first and doubtful & present:
            await desk.confirm(sorted(doubtful & present))
        await self._settle([item for item in before if item.order not in present], desk, first=first)
        await self._ended.join()
        return len(before)

    async def _settle(self, absent: Sequence[InFlight], desk: Desk, *, first: bool) -> None:
        """Decide on orders without a Job.

        In this life a *submitting* one may just not be made yet. One of an earlier life was never made if
        even a Job that ended at once would still be there; making it anew then is making it once.
        """
        running = {item.order for item in absent if item.state is State.RUNNING}
        never = []
        for item in {item.order: item for item in absent}.values():
            age = self._clock.now() - item.claimed
            if item.order in running:
                await self._is_gone(item.order, item.route, "Gone", "its Job is gone; it may have run")
            elif first and 0 <= age < self._kept(item):
                never.append(item.order)
            elif first:
                message = f"claimed {age:.0f} s ago, no Job; it may have run and been cleaned up since"
                await self._is_gone(item.order, item.route, "Gone", message)
        if never:
            await desk.retract(never, "the daemon ended before its Job was made")

    def _kept(self, item: InFlight) -> float:
        """For how many seconds its Job stays after its end: as it was made, whatever is configured now."""
        return self._keep.get(item.route, 0.0) if item.keep is None else item.keep

    async def _saw(self, change: Change[Job]) -> None:
        job = change.item
        name = job.metadata.name
        if not self._is_ours(job):
            return
        if job.is_suspended and change.type != "DELETED":
            self._suspended[name] = job.metadata.labels[ROUTE]
        else:
            self._suspended.pop(name, None)
        news = name in self._live or change.type == "ADDED"
        if change.type != "DELETED" and job.end is None:
            self._live.add(name)
        elif news:
            self._live.discard(name)
            if job.end:
                await self._ended.put(job)
            else:
                route = job.metadata.labels[ROUTE]
                await self._is_gone(name, route, "Deleted", "its Job was deleted before it ended")

    async def _is_gone(self, order: str, route: str, reason: str, message: str) -> None:
        found = vanished(order, reason=reason, message=message)
        await self._ended.put(_Gone(found, route_label(route)))

    def _is_ours(self, job: Job) -> bool:
        labels = job.metadata.labels
        return labels.get(ROUTE) in self._labels and labels.get(SINK, ORDINARY) == self._sink

    async def _report(self, desk: Desk) -> None:
        while True:
            news = await self._ended.get()
            try:
                await self._say(news, desk)
            finally:
                self._ended.task_done()

    async def _say(self, news: Job | _Gone, desk: Desk) -> None:
        if isinstance(news, Job):
            name, found = news.metadata.name, await self._judge(news, self._pods)
        else:
            name, found = news.order, await self._judge_gone(news.outcome, news.route)
        if isinstance(found, Outcome):
            await desk.report(found)
        elif name not in self._later:
            self._later.add(name)
            self._group.create_task(self._again(name, news, found), name=f"{self._sink}-again {name}")

    async def _again(self, name: str, news: Job | _Gone, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._later.discard(name)
        await self._ended.put(news)


async def by_exit_code(job: Job, pods: EndedPods) -> Outcome:
    """The exit code is the truth, and the log tells why."""
    name = job.metadata.name
    pod = await pods.of(name)
    found = outcome(job, pod, stuck=pods.stuck(name))
    if pod is None or found.succeeded or found.log_tail:
        return found
    return replace(found, log_tail=await pods.log_tail(pod))


async def nobody_knows(found: Outcome, _route: str) -> Outcome:
    """It may have run."""
    return found
