"""What is known of the pods of Jobs that end: exit codes, node, reasons, and the end of the log.

A watch on pods that have ended gives one change per pod, mostly before its Job's own end is seen. What it did
not give is asked for when it is needed; only why a pod never started must be noted while it waits.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import OrderRefused, SinkError
from dcnios_daemon.kubernetes.answers import Expired
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.sinks.kubernetes.objects import Pod
from dcnios_daemon.sinks.kubernetes.pauses import Pauses
from dcnios_daemon.sinks.kubernetes.verdict import tail
from dcnios_daemon.sinks.kubernetes.watch import Collection, decode
from dcnios_daemon.telemetry.events import LogUnavailable

KEPT = 4096
"""Pods remembered until their Job's end is seen. One that was forgotten is asked for."""
LOG_SECONDS, LONG_LOG_SECONDS = 5.0, 30.0
_MUCH = 262144
SURVEY_SECONDS = 60.0
_ENDED = "status.phase!=Pending,status.phase!=Running"
_WAITING = "status.phase=Pending"


class _Pods(msgspec.Struct):
    items: list[Pod] = []


class EndedPods:
    """Pods that ended, by the name of their Job."""

    def __init__(self, session: ClusterSession, clock: Clock, *, sink: str, selector: str) -> None:
        self._session = session
        self._pauses = Pauses(sink=f"{sink} pods", clock=clock)
        query = {"labelSelector": selector, "fieldSelector": _ENDED}
        self._pods = Collection(session, clock, "pods", Pod, query)
        self._waiting = Collection(session, clock, "pods", Pod, {**query, "fieldSelector": _WAITING})
        self._known: OrderedDict[str, Pod] = OrderedDict()
        self._stuck: OrderedDict[str, str] = OrderedDict()
        self._decoder = msgspec.json.Decoder(_Pods)

    async def watch(self) -> None:
        """Remember pods as they end, until cancelled."""
        fresh = False
        while True:
            try:
                if not fresh:
                    await self._pods.skip()
                    fresh = True
                async with aclosing(self._pods.changes()) as changes:
                    async for change in changes:
                        if change.type != "DELETED":
                            self._remember(change.item)
            except Expired:
                fresh = False
            except SinkError as error:
                await self._pauses.after(error)

    def _remember(self, pod: Pod) -> None:
        """The one that failed, where a Job has several."""
        known = self._known.pop(pod.job, None)
        self._known[pod.job] = known if known and known.failed and not pod.failed else pod
        if len(self._known) > KEPT:
            self._known.popitem(last=False)

    async def survey(self) -> None:
        """Remember, every now and then, why pods that wait do not start, until cancelled.

        When a Job's time is up its pod is gone at once, or is ended and says no more why it never started.
        """
        while True:
            await asyncio.sleep(SURVEY_SECONDS)
            try:
                await self._waiting.list(self._note)
            except SinkError as error:
                await self._pauses.after(error)

    async def _note(self, pods: Sequence[Pod]) -> None:
        for pod in pods:
            if pod.stuck:
                self._stuck.pop(pod.job, None)
                self._stuck[pod.job] = pod.stuck
        while len(self._stuck) > KEPT:
            self._stuck.popitem(last=False)

    def stuck(self, job: str) -> str:
        """Why the Job's pod did not start when it was last looked at; asked once."""
        return self._stuck.pop(job, "")

    async def of(self, job: str) -> Pod | None:
        """The pod of a Job that has ended; None if the cluster has none or does not let us see it."""
        if known := self._known.pop(job, None):
            return known
        return max(await self._of_job(job), key=lambda pod: pod.failed is not None, default=None)

    async def _of_job(self, job: str) -> Sequence[Pod]:
        query = {"labelSelector": f"batch.kubernetes.io/job-name={job}"}
        while True:
            try:
                return decode(self._decoder, await self._session.request("GET", "pods", query=query)).items
            except OrderRefused as error:
                LogUnavailable(order=job, error=str(error)).emit()
                return ()
            except SinkError as error:
                await self._pauses.after(error)

    async def log_tail(self, pod: Pod) -> str:
        """The end of the log of the container that failed."""
        if pod.failed is None or not pod.ran:
            return ""
        try:
            return tail(await self._log(pod, pod.failed[0]))
        except SinkError as error:
            LogUnavailable(order=pod.job, error=str(error)).emit()
            return ""

    async def _log(self, pod: Pod, container: str) -> bytes:
        query = {"container": container, "tailLines": "80", "limitBytes": str(_MUCH)}
        path = f"pods/{pod.metadata.name}/log"
        return await self._session.request("GET", path, query=query, seconds=LOG_SECONDS)

    async def end_of_log(self, pod: Pod, *, container: str, lines: int) -> bytes:
        """What the container wrote last: of so many lines at most the last 256 KiB.

        Raises:
            SinkUnavailable, OrderRefused: It cannot be read, now or ever.
        """
        query = {"container": container, "tailLines": str(lines)}
        path = f"pods/{pod.metadata.name}/log"
        return await self._session.end_of(path, query, most=_MUCH, seconds=LONG_LOG_SECONDS)
