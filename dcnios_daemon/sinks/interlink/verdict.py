"""From what is seen of a pod on a virtual node to what is true of its job on the HPC. Pure.

The wrapper's line at the end of the log is the only word that is believed. What Kubernetes is shown instead
was seen, on a real interLink, to be a success for a pending job that an administrator cancelled, a failure
for one that was queued, and exit code 15 for whatever the batch system ended.
"""

import enum
import re
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from dcnios_daemon.core.ports import Failure, Outcome
from dcnios_daemon.kubernetes.marks import ATTEMPT, KEY
from dcnios_daemon.sinks.interlink.objects import VirtualPod
from dcnios_daemon.sinks.kubernetes.objects import Condition, Job, Pod, Terminated
from dcnios_daemon.sinks.kubernetes.verdict import WORDS, sketch, tail

_LINE = re.compile(
    rb"^dcnios-end key=(?P<key>\w+) attempt=(?P<attempt>\d+) step=(?P<step>[\w-]+) exit=(?P<exit>\d+)\s*?$",
    re.MULTILINE,
)
_TIME_IS_UP = re.compile(r"time limit|timed? ?out on the partition", re.IGNORECASE)
_OUT_OF_MEMORY = re.compile(r"out[- ]of[- ]memory", re.IGNORECASE)
NOT_TAKEN = "ProviderFailed"
"""The reason of a pod that the virtual kubelet could not, as far as it knows, hand over."""
_NEVER_QUEUED = re.compile(r"submission failed|connection refused|no such host", re.IGNORECASE)
"""Of the words with which a submission fails those after which it is certain that nothing was queued."""
_REFUSED = re.compile(r"submission failed", re.IGNORECASE)
"""Of these those that the batch system itself said."""
_BY_SIGNAL = frozenset({129, 130, 143})
"""Exit codes of the wrapper that the batch system asked to end."""
_ENDED_THERE = 15
"""What is shown of a job that the batch system ended, whatever for."""
_KILLED = 9


class Standing(enum.Enum):
    """How it stands with a pod that lives."""

    SUBMITTING = enum.auto()
    """The batch system is not known to have it: until then its node is sent no other."""
    QUEUED = enum.auto()
    """It waits in the batch system's queue, for days perhaps."""
    RUNNING = enum.auto()
    FROZEN = enum.auto()
    """Its node is away, or it is being deleted: what is shown of it is of the past, and nothing follows."""
    ENDED = enum.auto()


def standing(pod: VirtualPod, *, node_is_ready: bool) -> Standing:
    """How it stands with the pod. Phases that Kubernetes does not know (``Initializing``) are waiting."""
    if pod.ended:
        return Standing.ENDED
    if pod.metadata.deletion_timestamp is not None or (pod.spec.node_name and not node_is_ready):
        return Standing.FROZEN
    if pod.status.phase == "Running":
        return Standing.RUNNING
    return Standing.QUEUED if pod.job_id else Standing.SUBMITTING


class Evidence(msgspec.Struct, frozen=True):
    """What the wrapper said at its end."""

    step: str
    exit_code: int
    before: bytes
    """The log up to there; what comes after is the plugin's."""


def find_evidence(log: bytes, labels: Mapping[str, str]) -> Evidence | None:
    """The wrapper's last line for this very attempt, by the labels of its Job; None if there is none."""
    of = (labels.get(KEY, "").encode(), labels.get(ATTEMPT, "").encode())
    found = [line for line in _LINE.finditer(log) if (line["key"], line["attempt"]) == of]
    if not found:
        return None
    last = found[-1]
    return Evidence(last["step"].decode(), int(last["exit"]), log[: last.start()])


def was_refused(pod: Pod) -> bool:
    """Whether the batch system was there, and did not want it."""
    words = pod.status.message or _ended(pod).message
    return pod.status.reason == NOT_TAKEN and bool(_REFUSED.search(words))


class _Why(msgspec.Struct, frozen=True):
    failure: Failure | None
    reason: str
    message: str
    exit_code: int | None = None


def outcome(job: Job, pod: Pod | None, *, log: bytes | None, stuck: str = "") -> Outcome:
    """The outcome of a Job that has ended.

    Args:
        job: The Job; its ``end`` is not None.
        pod: Its pod, if it could be seen.
        log: The end of its log; None if it could not be read.
        stuck: Why the pod did not run when it was last looked at.
    """
    evidence = find_evidence(log or b"", job.metadata.labels)
    how = _ended(pod)
    why = (
        _by_evidence(evidence, how)
        if evidence is not None
        else _without(job.end or Condition("Failed"), pod, how, read=log is not None, stuck=stuck)
    )
    found = replace(
        sketch(job, pod),
        failure=why.failure,
        exit_code=why.exit_code,
        reason=why.reason,
        message=why.message[:WORDS],
    )
    if why.failure is None:
        return found
    return replace(found, log_tail=tail(evidence.before.rstrip() if evidence else log or b""))


def _ended(pod: Pod | None) -> Terminated:
    """How its container ended, as far as it is shown."""
    ends = [item.state.terminated for item in pod.chain if item.state.terminated] if pod else []
    return ends[0] if ends else Terminated()


def _by_evidence(evidence: Evidence, how: Terminated) -> _Why:
    code = evidence.exit_code
    if evidence.step == "done" and code == 0:
        return _Why(None, "Completed", "", 0)
    asked_to_end = (code in _BY_SIGNAL or how.exit_code == _ENDED_THERE) and how.exit_code != code
    if asked_to_end or _TIME_IS_UP.search(how.message):
        return _ended_there(how, code)
    if evidence.step != "run":
        return _Why(Failure.INFRASTRUCTURE, "Staging", f"{evidence.step} failed with exit code {code}", code)
    return _Why(Failure.SCRIPT, "Error", f"the script ended with exit code {code}", code)


def _ended_there(how: Terminated, code: int) -> _Why:
    """The batch system ended it, and says why only where its time was up."""
    if _TIME_IS_UP.search(how.message):
        return _Why(Failure.DEADLINE, "SlurmTimeLimit", how.message, code)
    said = f"the batch system ended it: {how.message or 'cancelled there, or its node failed'}"
    return _Why(Failure.INFRASTRUCTURE, "Cancelled", said, code)


def _without(end: Condition, pod: Pod | None, how: Terminated, *, read: bool, stuck: str) -> _Why:
    """No line of the wrapper's: it never ran, never ended, or its log is lost."""
    if end.reason == "DeadlineExceeded":
        return _time_was_up(end, pod, stuck)
    if pod is None and end.type != "Complete":
        return _Why(Failure.UNKNOWN, end.reason, f"{end.message}; its pod could not be seen: it may have run")
    log = "its log has no line of the wrapper's" if read else "its log could not be read"
    if pod is None or end.type == "Complete" or pod.status.phase == "Succeeded":
        said = f"interLink says that it succeeded, but {log}: perhaps it was cancelled before it ran"
        return _Why(Failure.SUSPICIOUS, "NoEvidence", said)
    if pod.status.reason == NOT_TAKEN:
        return _not_submitted(pod.status.message or how.message)
    if pod.failed is None:
        said = f"{end.message}; its pod was taken away before it ended: it may have run"
        return _Why(Failure.UNKNOWN, pod.status.reason or end.reason, said)
    return _failed(how, log, read=read)


def _time_was_up(end: Condition, pod: Pod | None, stuck: str) -> _Why:
    never_began = "" if pod is not None and pod.ran else stuck
    if never_began:
        said = f"{end.message}; it did not begin in time: {never_began}"
        return _Why(Failure.INFRASTRUCTURE, end.reason, said)
    return _Why(Failure.DEADLINE, end.reason, end.message)


def _not_submitted(words: str) -> _Why:
    """The virtual kubelet got no good answer. That says nothing of whether the job was queued."""
    if _NEVER_QUEUED.search(words):
        return _Why(Failure.INFRASTRUCTURE, NOT_TAKEN, words)
    said = f"{words}; perhaps it is queued all the same: look for a job whose comment begins with the key"
    return _Why(Failure.UNKNOWN, NOT_TAKEN, said)


def _failed(how: Terminated, log: str, *, read: bool) -> _Why:
    code = how.exit_code
    if _OUT_OF_MEMORY.search(how.message):
        return _Why(Failure.SCRIPT, "OutOfMemory", how.message, code)
    if code == _KILLED:
        return _Why(Failure.SCRIPT, "Killed", "it was killed: most likely it took more than its memory", code)
    if code == _ENDED_THERE or _TIME_IS_UP.search(how.message):
        return _ended_there(how, code)
    if read:
        said = f"it ended with exit code {code}, and {log}: the container did not start, or was killed"
        return _Why(Failure.INFRASTRUCTURE, how.reason or "Error", said, code)
    return _Why(Failure.SCRIPT, how.reason or "Error", f"it ended with exit code {code}; {log}", code)
