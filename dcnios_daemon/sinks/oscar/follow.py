"""Seeing how a service's jobs end: by its list, which is all that OSCAR tells.

Making that list costs OSCAR a question to Kubernetes for each job in it, so that it is asked for seldom, and
only while something is in flight.
"""

import asyncio

import msgspec
from msgspec.structs import replace

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import JournalUnavailable, SinkError
from dcnios_daemon.core.ports import Desk, Failure, Outcome
from dcnios_daemon.sinks.connections import Connection
from dcnios_daemon.sinks.kubernetes.pauses import Pauses
from dcnios_daemon.sinks.oscar.settings import OscarRun
from dcnios_daemon.sinks.oscar.status import JobInfo, outcome
from dcnios_daemon.sinks.oscar.system import System
from dcnios_daemon.telemetry.events import LogUnavailable

_SHARE = 3
"""For each second of looking, seconds of leaving OSCAR alone."""


class Watched(msgspec.Struct, kw_only=True):
    """An order whose job's end is waited for. Times in seconds, moments since the epoch."""

    order: str
    job: str
    since: float
    deadline: float
    keep: float
    is_doubtful: bool = False
    """It was claimed in an earlier life, and nobody knows whether it was sent."""
    has_begun: bool = False
    is_cancelled: bool = False
    """It was deleted, for its deadline had passed."""


class Follower:
    """Follows the jobs of one service.

    Args:
        to: Whom to ask. It is let go of only between two looks.
        every: Seconds between two looks, at least.
        clock: Tells the time.
    """

    def __init__(self, to: Connection[OscarRun, System], *, every: float, clock: Clock) -> None:
        self.to = to
        self._every = self._pause = every
        self._clock = clock
        self._watched: dict[str, Watched] = {}
        self._some = asyncio.Event()

    def change(self, to: Connection[OscarRun, System], *, every: float) -> None:
        """Ask so from now on."""
        self.to, self._every = to, every

    def add(self, watched: Watched) -> None:
        """Wait for its end, too. One that is known is not doubtful any more, if this one is not."""
        known = self._watched.setdefault(watched.job, watched)
        known.is_doubtful = known.is_doubtful and watched.is_doubtful
        self._some.set()

    async def run(self, desk: Desk) -> None:
        """Look again and again, until cancelled."""
        pauses = Pauses(sink="oscar", clock=self._clock)
        while True:
            await self._some.wait()
            await asyncio.sleep(self._pause)
            try:
                await self.look(desk)
            except (SinkError, JournalUnavailable) as error:
                await pauses.after(error)

    async def look(self, desk: Desk) -> None:
        """Report what has ended.

        What is waited for now was there before the list is made. If it is not in all of it, it is gone.

        Raises:
            SinkError: OSCAR did not tell all of it.
        """
        began, to = self._clock.monotonic(), self.to
        awaited = dict(self._watched)
        async for jobs in to.client.jobs():
            for job in awaited.keys() & jobs.keys():
                await self._saw(awaited.pop(job), jobs[job], desk, to.client)
            if not awaited:
                break
        for watched in awaited.values():
            await self._missed(watched, desk)
        self._pause = max(self._every, _SHARE * (self._clock.monotonic() - began))

    async def _saw(self, watched: Watched, info: JobInfo, desk: Desk, system: System) -> None:
        if watched.is_doubtful:
            await desk.confirm([watched.order])
            watched.is_doubtful = False
        watched.has_begun = watched.has_begun or info.start_time is not None
        found = outcome(watched.order, watched.job, info)
        if found is None:
            if self._clock.now() - watched.since > watched.deadline and not watched.is_cancelled:
                await system.delete(watched.job)
                watched.is_cancelled = True
        elif found.succeeded:
            await self._end(watched, found, desk)
        elif watched.is_cancelled:
            await self._end(watched, self._too_late(watched), desk)
        else:
            await self._end(watched, replace(found, log_tail=await _log_tail(watched, system)), desk)

    async def _missed(self, watched: Watched, desk: Desk) -> None:
        age = self._clock.now() - watched.since
        if watched.is_doubtful and 0 <= age < watched.keep:
            await desk.retract([watched.order], "the daemon ended before OSCAR had it")
            self._forget(watched)
        elif watched.is_cancelled:
            await self._end(watched, self._too_late(watched), desk)
        else:
            said = "is gone: it may have run, and was deleted, forgotten or handed on to another cluster"
            await self._end(watched, gone(watched.order, f"OSCAR's job {watched.job} {said}"), desk)

    def _too_late(self, watched: Watched) -> Outcome:
        """One that never began had no place or no image: that is not the script's doing."""
        return Outcome(
            order=watched.order,
            failure=Failure.DEADLINE if watched.has_begun else Failure.INFRASTRUCTURE,
            reason="DeadlineExceeded",
            message=f"OSCAR's job {watched.job} was deleted after {watched.deadline:g} s",
            ended=self._clock.now(),
        )

    async def _end(self, watched: Watched, found: Outcome, desk: Desk) -> None:
        await desk.report(found)
        self._forget(watched)

    def _forget(self, watched: Watched) -> None:
        self._watched.pop(watched.job, None)
        if not self._watched:
            self._some.clear()


async def _log_tail(watched: Watched, system: System) -> str:
    try:
        return await system.log_tail(watched.job)
    except SinkError as error:
        LogUnavailable(order=watched.order, error=str(error)).emit()
        return ""


def gone(order: str, message: str) -> Outcome:
    """The outcome of one of which nothing is left."""
    return Outcome(order=order, failure=Failure.UNKNOWN, reason="Gone", message=message)
