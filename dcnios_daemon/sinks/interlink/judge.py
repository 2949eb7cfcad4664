"""How Jobs did, by the end of their pods' logs: read while there is somebody to read them from."""

from typing import Literal

from msgspec.structs import replace

from dcnios_daemon.core.errors import SinkError
from dcnios_daemon.core.ports import Failure, Outcome
from dcnios_daemon.kubernetes.marks import ROUTE, route_label
from dcnios_daemon.sinks.interlink.admission import Admission
from dcnios_daemon.sinks.interlink.marker import Markers
from dcnios_daemon.sinks.interlink.settings import InterlinkRun
from dcnios_daemon.sinks.interlink.verdict import (
    NOT_TAKEN,
    Evidence,
    find_evidence,
    outcome,
    was_refused,
)
from dcnios_daemon.sinks.kubernetes.ended_pods import EndedPods
from dcnios_daemon.sinks.kubernetes.objects import Job, Pod
from dcnios_daemon.sinks.kubernetes.verdict import RUN
from dcnios_daemon.telemetry.events import LogUnavailable

LOOK_AGAIN = 15.0
"""Seconds between two looks for a log that cannot be read."""
LOOKS = 5
"""Looks for the wrapper's line in the log of a pod whose node is there: then there is none."""
_LINES = 80
_COUNTS_AS: dict[Literal["hold", "retry", "fail"], Failure] = {
    "hold": Failure.SUSPICIOUS,
    "retry": Failure.INFRASTRUCTURE,
    "fail": Failure.SCRIPT,
}
"""What a success that nothing proves is to a route, by its ``suspicious``."""


class Judge:
    """Says how Jobs did. A node that is away gives no logs: until it is back, or the pod is gone from the
    cluster with its Job, nobody knows. And while a pod is there that may live, no failure without a word of
    the wrapper's is told: another attempt could run beside it.
    """

    def __init__(self, admission: Admission, markers: Markers) -> None:
        self._admission = admission
        self._markers = markers
        self._looks: dict[str, int] = {}
        self._runs: dict[str, InterlinkRun] = {}

    def add(self, route: str, run: InterlinkRun) -> None:
        """Judge the route's Jobs as its ``run`` says."""
        self._runs[route_label(route)] = run

    async def judge(self, job: Job, pods: EndedPods) -> Outcome | float:
        """See :data:`dcnios_daemon.sinks.kubernetes.follow.Judge`."""
        name = job.metadata.name
        pod = await pods.of(name)
        if pod is not None and pod.status.reason == NOT_TAKEN:
            self._admission.not_taken(pod.spec.node_name, refused=was_refused(pod))
        await self._admission.give_back(name)
        log = None if pod is None else await self._log(pods, pod)
        proven = await self._proven(job, log)
        if proven is None or (not proven and pod is not None and self._may_yet_tell(pod, job, log)):
            return LOOK_AGAIN
        if not proven and not _evidence(job, log) and await self._may_live(name):
            return LOOK_AGAIN
        self._looks.pop(name, None)
        found = outcome(job, pod, log=log, stuck=self._admission.why_not_begun(name))
        return _succeeded(found) if proven else self._as_its_route_says(found, job)

    async def gone(self, found: Outcome, route: str) -> Outcome | float:
        """See :data:`dcnios_daemon.sinks.kubernetes.follow.Gone`."""
        proven = await self._markers.proves(route, found.order)
        if proven is None or (not proven and await self._may_live(found.order)):
            return LOOK_AGAIN
        return _succeeded(found) if proven else found

    async def _may_live(self, order: str) -> bool:
        await self._admission.sighted()
        return self._admission.may_live(order)

    async def _proven(self, job: Job, log: bytes | None) -> bool | None:
        """Whether its marker proves what no line does; None where that cannot be told now."""
        if _evidence(job, log):
            return False
        return await self._markers.proves(job.metadata.labels.get(ROUTE, ""), job.metadata.name)

    def _as_its_route_says(self, found: Outcome, job: Job) -> Outcome:
        run = self._runs.get(job.metadata.labels.get(ROUTE, ""))
        if run is None or found.failure is not Failure.SUSPICIOUS:
            return found
        return replace(found, failure=_COUNTS_AS[run.suspicious])

    async def _log(self, pods: EndedPods, pod: Pod) -> bytes | None:
        """The end of its log; empty where it has none, None where it cannot be read for now.

        Asked for by lines alone: interLink answers 400 where there is a limit in bytes as well
        (``pkg/interlink/api/logs.go``), and not all plugins mean the last bytes by it. Each look asks for
        one line more: a log of one line less than is asked for brings the Slurm plugin down (``GetLogs.go``).
        """
        lines = _LINES + self._looks.get(pod.job, 0)
        try:
            return await pods.end_of_log(pod, container=RUN, lines=lines)
        except SinkError as error:
            LogUnavailable(order=pod.job, error=str(error)).emit()
            return None if error.retryable else b""

    def _may_yet_tell(self, pod: Pod, job: Job, log: bytes | None) -> bool:
        """Whether to look again: the node is away, or the log is late in the HPC's file system."""
        if pod.status.reason == NOT_TAKEN or _evidence(job, log):
            return False
        if log is None and self._admission.is_away(pod.spec.node_name):
            return True
        self._looks[pod.job] = self._looks.get(pod.job, 0) + 1
        return self._looks[pod.job] < LOOKS


def _evidence(job: Job, log: bytes | None) -> Evidence | None:
    return find_evidence(log or b"", job.metadata.labels)


def _succeeded(found: Outcome) -> Outcome:
    return replace(found, failure=None, exit_code=0, reason="SuccessMarker", message="", log_tail="")
