"""How Jobs did, by the end of their pods' logs: read while there is somebody to read them from."""

from dcnios_daemon.core.errors import SinkError
from dcnios_daemon.core.ports import Outcome
from dcnios_daemon.sinks.interlink.admission import Admission
from dcnios_daemon.sinks.interlink.verdict import outcome
from dcnios_daemon.sinks.kubernetes.ended_pods import EndedPods
from dcnios_daemon.sinks.kubernetes.objects import Job, Pod
from dcnios_daemon.sinks.kubernetes.verdict import RUN
from dcnios_daemon.telemetry.events import LogUnavailable

LOOK_AGAIN = 15.0
"""Seconds between two looks for a log that cannot be read."""
LOOKS = 8
"""Looks for the log of a pod whose node is there: then it has none."""


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
        await self._admission.give_back(name)
        pod = await pods.of(name)
        log = None
        if pod is not None:
            try:
                log = await pods.log(pod, container=RUN)
            except SinkError as error:
                LogUnavailable(order=name, error=str(error)).emit()
                if error.retryable and self._may_yet_be_read(pod):
                    return LOOK_AGAIN
        self._looks.pop(name, None)
        return outcome(job, pod, log=log, stuck=self._admission.why_not_begun(name))

    def _may_yet_be_read(self, pod: Pod) -> bool:
        if pod.status.reason == "ProviderFailed":
            return False
        if self._admission.is_away(pod.spec.node_name):
            return True
        self._looks[pod.job] = self._looks.get(pod.job, 0) + 1
        return self._looks[pod.job] < LOOKS
