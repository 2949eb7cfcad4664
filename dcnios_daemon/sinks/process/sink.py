"""The sink that runs orders as processes: stage in, run, stage out, in a folder that remembers."""

import asyncio
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from dcnios_daemon.core.errors import ConfigError, OrderRefused, SinkUnavailable
from dcnios_daemon.core.patience import pause_after
from dcnios_daemon.core.ports import Desk, Failure, Order, Outcome, State
from dcnios_daemon.core.templating import compile_tree, context
from dcnios_daemon.sinks.process.attempt import Job, attempt
from dcnios_daemon.sinks.process.child import Lifeline, kill_leftovers
from dcnios_daemon.sinks.process.folder import OrderFolder, Standing, order_folders
from dcnios_daemon.sinks.process.settings import ProcessRun
from dcnios_daemon.sinks.spec import SinkContext
from dcnios_daemon.staging.contract import OUTPUT, container_environment
from dcnios_daemon.staging.document import StagingPlan
from dcnios_daemon.staging.plan import make_plan, needs_staging, validity
from dcnios_daemon.telemetry import events as telemetry

_ROUNDS = 100
_PAUSE = 0.05
_PATH = "/usr/local/bin:/usr/bin:/bin"


class ProcessPlan:
    """A route's ``run`` block, compiled. Implements :class:`~dcnios_daemon.core.ports.Plan`."""

    def __init__(self, sink: "ProcessSink", route: str, run: ProcessRun) -> None:
        self._sink = sink
        self._route = route
        self._run = run
        try:
            self._script = run.shell_script()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"routes.{route}.run.script_file: {error}") from error
        unknown = {out.using for out in run.stage_out.values()} - sink.stores.keys()
        if unknown:
            raise ConfigError(
                f"routes.{route}.run.stage_out: using {sorted(unknown)}: no such source with a store; "
                f"there are {sorted(sink.stores)}"
            )
        for name, out in run.stage_out.items():
            if out.secret is not None:
                raise ConfigError(
                    f"routes.{route}.run.stage_out.{name}.credentials: secret is for job; "
                    f"a process runs beside the credentials of {out.using!r} already"
                )
        self._env = compile_tree(dict(run.env), where=f"routes.{route}.run.env")

    async def render(self, order: Order) -> dict[str, Any]:
        """See :class:`~dcnios_daemon.core.ports.Plan`. Asks no store."""
        job = self._job(order, StagingPlan())
        return {
            "kind": "process",
            "order": order.name,
            "command": list(job.command),
            "script": job.script,
            "environment": dict(job.environment),
            "stage_in": order.events[0].subject if self._run.stage_in else None,
            "stage_out": {name: out.to for name, out in self._run.stage_out.items()},
            "deadline": job.deadline,
        }

    async def submit(self, order: Order) -> None:
        """See :class:`~dcnios_daemon.core.ports.Plan`. Returns when the order is on disk and under way."""
        staging = StagingPlan()
        if needs_staging(self._run):
            staging = await make_plan(
                order,
                self._run,
                self._sink.stores,
                source=order.events[0].source,
                valid_for=validity(self._run.deadline),
            )
        await self._sink.start(self._job(order, staging))

    async def exists(self, order: Order) -> bool:
        """See :class:`~dcnios_daemon.core.ports.Plan`."""
        return self._sink.runs(order.name)

    def _job(self, order: Order, staging: StagingPlan) -> Job:
        folder = self._sink.folder(order.name)
        command = ["/bin/sh", str(folder.script_file)] if self._script is not None else []
        return Job(
            folder=folder,
            payload=order.payload,
            script=self._script,
            command=(*command, *self._run.command, *self._run.args),
            environment=self._environment(order, folder),
            staging=staging,
            deadline=self._run.deadline,
        )

    def _environment(self, order: Order, folder: OrderFolder) -> dict[str, str]:
        """A clean one: of the daemon's own, which may hold secrets, only where programs and home are."""
        values = context(order.events[0], route=order.route, attempt=order.attempt)
        own: dict[str, str] = self._env(values)
        wrong = [name for name, value in own.items() if "\0" in value]
        if wrong:
            raise OrderRefused(f"routes.{self._route}.run.env: {wrong}: no variable can hold a NUL")
        base = {
            "PATH": os.environ.get("PATH", _PATH),
            "HOME": os.environ.get("HOME", "/"),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
        }
        contract = container_environment(
            order,
            event_file=str(folder.event_file),
            work_dir=str(folder.work),
            stage_in=self._run.stage_in,
        )
        return base | own | contract


class _Service(msgspec.Struct, frozen=True):
    """What there is only while the sink is being served."""

    desk: Desk
    group: asyncio.TaskGroup
    lifeline: Lifeline


class ProcessSink:
    """Implements :class:`~dcnios_daemon.core.ports.Sink`."""

    def __init__(self, context: SinkContext) -> None:
        self.stores = context.stores
        """Source name to its store."""
        self._root = context.state.absolute() / "process"
        self._clock = context.clock
        self._node = context.instance
        self._grace = context.shutdown_grace
        self._running: set[str] = set()
        self._service: _Service | None = None

    def folder(self, order: str) -> OrderFolder:
        """Where that order's things are."""
        return OrderFolder(self._root / order)

    def plan(self, route: str, run: ProcessRun) -> ProcessPlan:
        """See :class:`~dcnios_daemon.core.ports.Sink`."""
        return ProcessPlan(self, route, run)

    async def serve(self, desk: Desk, ready: Callable[[], None]) -> None:
        """See :class:`~dcnios_daemon.core.ports.Sink`.

        Cancelled, it lets running processes have ``shutdown_grace`` to end; they count as interrupted.
        """
        await asyncio.to_thread(self._root.mkdir, parents=True, exist_ok=True)
        await self._recover(desk)
        lifeline = Lifeline()
        try:
            async with asyncio.TaskGroup() as group:
                self._service = _Service(desk, group, lifeline)
                ready()
                await asyncio.Event().wait()
        finally:
            self._service = None
            lifeline.close()

    async def aclose(self) -> None:
        """Nothing is held once :meth:`serve` has ended."""

    def runs(self, order: str) -> bool:
        """Whether that order runs, or has ended and is being told of."""
        return order in self._running

    async def start(self, job: Job) -> None:
        """Put the order on disk and run it; one that is there already goes on as it is.

        Raises:
            SinkUnavailable: The disk takes nothing, or the sink is not being served.
        """
        name = job.folder.name
        if name in self._running:
            return
        try:
            standing = await asyncio.to_thread(job.folder.prepare, job.payload, job.script)
        except OSError as error:
            raise SinkUnavailable(f"{job.folder.path}: {error.strerror}") from error
        service = self._service
        if service is None:
            raise SinkUnavailable("the process sink is not being served")
        if name in self._running:
            return
        self._running.add(name)
        work = (
            self._run(job, service) if standing is Standing.FRESH else self._settle(job.folder, service.desk)
        )
        service.group.create_task(work, name=f"process:{name}")

    async def _run(self, job: Job, service: _Service) -> None:
        outcome = await attempt(
            job, clock=self._clock, node=self._node, grace=self._grace, lifeline=service.lifeline
        )
        await self._insist(job.folder.write_result, outcome)
        await self._settle(job.folder, service.desk)

    async def _settle(self, folder: OrderFolder, desk: Desk) -> None:
        """Report what is on disk, then forget it. What has begun and left no result was interrupted."""
        outcome = await asyncio.to_thread(folder.read_result)
        if outcome is None:
            outcome = Outcome(
                order=folder.name,
                failure=Failure.INFRASTRUCTURE,
                reason="Interrupted",
                message="the daemon ended while it ran",
                ended=self._clock.now(),
                node=self._node,
            )
            await self._insist(folder.write_result, outcome)
        await desk.report(outcome)
        await self._remove(folder)
        self._running.discard(folder.name)

    async def _insist(self, write: Callable[[Outcome], None], outcome: Outcome) -> None:
        """Write it, however long the disk refuses: what is not on disk must not be reported."""
        for attempts in itertools.count(1):
            try:
                await asyncio.to_thread(write, outcome)
                break
            except OSError as error:
                pause = pause_after(attempts, first=1, most=30)
                telemetry.SinkFailed(
                    sink="process", error=f"result of {outcome.order}: {error}", again_in=pause
                ).emit()
                await asyncio.sleep(pause)

    async def _remove(self, folder: OrderFolder) -> None:
        try:
            await asyncio.to_thread(folder.remove)
        except OSError as error:
            telemetry.RunFolderLeft(folder=str(folder.path), error=str(error)).emit()

    async def _recover(self, desk: Desk) -> None:
        """Settle what an earlier life left: on disk, or in the journal alone."""
        in_flight: dict[str, set[State]] = {}
        for item in await desk.in_flight():
            in_flight.setdefault(item.order, set()).add(item.state)
        folders = await asyncio.to_thread(order_folders, self._root)
        await self._end_leftovers(folders)
        for folder in folders:
            fresh = await asyncio.to_thread(folder.standing) is Standing.FRESH
            if fresh and in_flight.get(folder.name) == {State.SUBMITTING}:
                await self._remove(folder)  # and then it is as if it had never been made
            else:
                in_flight.pop(folder.name, None)
                await self._settle(folder, desk)
        await self._recover_unseen(desk, in_flight)
        telemetry.SinkWatching(sink="process", in_flight=0).emit()

    async def _recover_unseen(self, desk: Desk, in_flight: Mapping[str, set[State]]) -> None:
        """Orders that the journal knows and the disk does not. A folder is on disk before anything runs."""
        never = [order for order, states in in_flight.items() if states == {State.SUBMITTING}]
        if never:
            await desk.retract(never, "it had not begun when the daemon ended")
        for order in in_flight.keys() - set(never):
            message = f"there is nothing of it in {self._root}"
            await desk.report(
                Outcome(order=order, failure=Failure.UNKNOWN, reason="Vanished", message=message)
            )

    async def _end_leftovers(self, folders: Sequence[OrderFolder]) -> None:
        def look() -> int:
            marks = [mark for folder in folders if (mark := folder.read_mark())]
            return kill_leftovers(marks, [folder.work / OUTPUT for folder in folders])

        for _ in range(_ROUNDS):
            if not folders or not await asyncio.to_thread(look):
                return
            await asyncio.sleep(_PAUSE)
