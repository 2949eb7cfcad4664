"""How Jobs did, by the end of their pods' logs: read while there is somebody to read them from."""

from dcnios_daemon.core.errors import SinkError
from dcnios_daemon.core.ports import Outcome
from dcnios_daemon.sinks.interlink.admission import Admission
from dcnios_daemon.sinks.interlink.verdict import NOT_TAKEN, find_evidence, outcome, was_refused
from dcnios_daemon.sinks.kubernetes.ended_pods import EndedPods
from dcnios_daemon.sinks.kubernetes.objects import Job, Pod
from dcnios_daemon.sinks.kubernetes.verdict import RUN
from dcnios_daemon.telemetry.events import LogUnavailable

LOOK_AGAIN = 15.0
"""Seconds between two looks for a log that cannot be read."""
LOOKS = 5
"""Looks for the wrapper's line in the log of a pod whose node is there: then there is none."""
_LINES = 80


class Judge:
    """Says how Jobs did. A node that is away gives no logs: until it is back, or the pod is gone from the
    cluster with its Job, nobody knows.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._looks: dict[str, int] = {}

    async def judge(self, job: Job, pods: EndedPods) -> Outcome | float:
        """See :data:`dcnios_daemon.sinks.kubernetes.follow.Judge`."""
        name = job.metadata.name
        pod = await pods.of(name)
        if pod is not None and pod.status.reason == NOT_TAKEN:
            self._admission.not_taken(pod.spec.node_name, refused=was_refused(pod))
        await self._admission.give_back(name)
        log = None if pod is None else await self._log(pods, pod)
        if pod is not None and self._may_yet_tell(pod, job, log):
            return LOOK_AGAIN
        self._looks.pop(name, None)
        return outcome(job, pod, log=log, stuck=self._admission.why_not_begun(name))

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
        if pod.status.reason == NOT_TAKEN or find_evidence(log or b"", job.metadata.labels):
            return False
        if log is None and self._admission.is_away(pod.spec.node_name):
            return True
        self._looks[pod.job] = self._looks.get(pod.job, 0) + 1
        return self._looks[pod.job] < LOOKS
