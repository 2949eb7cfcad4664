"""One attempt at an order: stage in, run, stage out, each only after the one before, all by one deadline."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.core.ports import Failure, Outcome
from dcnios_daemon.sinks.process.child import Child, Lifeline, mark_of
from dcnios_daemon.sinks.process.folder import OrderFolder
from dcnios_daemon.staging.document import StagingPlan
from dcnios_daemon.staging.run import stage_in, stage_out


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One order, ready to be run."""

    folder: OrderFolder
    payload: bytes
    script: str | None
    command: Sequence[str]
    environment: Mapping[str, str]
    staging: StagingPlan
    deadline: float
    """Seconds from submission."""


class _Ended(Exception):
    """The attempt is over, and not well."""

    def __init__(
        self, failure: Failure, reason: str, message: str = "", *, exit_code: int | None = None
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.reason = reason
        self.message = message
        self.exit_code = exit_code


class _Attempt:
    """What the steps share."""

    def __init__(self, job: Job, *, grace: float, lifeline: Lifeline) -> None:
        self._job = job
        self._grace = grace
        self._lifeline = lifeline
        self._deadline = asyncio.get_running_loop().time() + job.deadline
        self.log_tail = ""

    async def go(self) -> None:
        """Do all steps.

        Raises:
            _Ended: One of them failed.
        """
        await self._stage("StageInFailed", stage_in)
        await self._run()
        await self._stage("StageOutFailed", stage_out)

    async def _stage(self, reason: str, step: "_Step") -> None:
        try:
            async with asyncio.timeout_at(self._deadline):
                await step(self._job.staging, self._job.folder.work)
        except TimeoutError:
            raise self._too_late() from None
        except StoreError as error:
            failure = Failure.INFRASTRUCTURE if error.retryable else Failure.REFUSED
            raise _Ended(failure, reason, str(error)) from error

    async def _run(self) -> None:
        child = await self._start()
        code = None
        try:
            await self._keep_mark(child.pid)
            async with asyncio.timeout_at(self._deadline):
                code = await child.wait()
        except TimeoutError:
            raise self._too_late() from None
        finally:
            await child.end(self._grace)
            if code != 0:
                self.log_tail = child.log_tail()
        if code != 0:
            raise _Ended(Failure.SCRIPT, "Error", f"exit code {code}", exit_code=code)

    async def _start(self) -> Child:
        """Mark on disk that it begins, then begin."""
        try:
            await asyncio.to_thread(self._job.folder.begin)
            return await Child.start(
                self._job.command,
                cwd=self._job.folder.work,
                environment=self._job.environment,
                lifeline=self._lifeline,
            )
        except OSError as error:
            raise _Ended(Failure.INFRASTRUCTURE, "StartFailed", str(error)) from error

    async def _keep_mark(self, pid: int) -> None:
        """For a later life to find it by. A full disk is no reason to stop it: its watcher is there."""
        mark = await asyncio.to_thread(mark_of, pid)
        if mark is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._job.folder.write_mark, mark)

    def _too_late(self) -> _Ended:
        return _Ended(
            Failure.DEADLINE, "DeadlineExceeded", f"not done {self._job.deadline:g} s after submission"
        )


_Step = Callable[[StagingPlan, Path], Awaitable[int]]


async def attempt(job: Job, *, clock: Clock, node: str, grace: float, lifeline: Lifeline) -> Outcome:
    """Run the order to its end.

    Args:
        job: The order.
        clock: Tells the time for the record.
        node: The machine's name for the record.
        grace: Seconds that a run gets to end by itself once it must.
        lifeline: By which it ends with the daemon.
    """
    started = clock.now()
    steps = _Attempt(job, grace=grace, lifeline=lifeline)
    try:
        await steps.go()
    except _Ended as end:
        return Outcome(
            order=job.folder.name,
            failure=end.failure,
            exit_code=end.exit_code,
            reason=end.reason,
            message=end.message,
            started=started,
            ended=clock.now(),
            node=node,
            log_tail=steps.log_tail,
        )
    return Outcome(
        order=job.folder.name,
        exit_code=0,
        reason="Completed",
        started=started,
        ended=clock.now(),
        node=node,
    )
