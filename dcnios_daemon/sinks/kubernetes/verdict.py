"""From what the cluster shows of a Job and its pod to an outcome. Pure.

The exit code is the truth: the first container of the chain that failed says how the run went.
"""

import msgspec
from msgspec.structs import replace

from dcnios_daemon.core.ports import Failure, Outcome
from dcnios_daemon.sinks.kubernetes.objects import Condition, Job, Pod

LOG_TAIL = 2048
"""Bytes kept of a failed run's log."""
STAGE_IN, RUN, STAGE_OUT = "stage-in", "run", "stage-out"
"""The containers of a Job of ours, in the order in which they run."""

_TAKEN_AWAY = frozenset(
    {
        "Evicted",
        "NodeLost",
        "NodeShutdown",
        "Preempting",
        "Shutdown",
        "Terminated",
        "UnexpectedAdmissionError",
    }
)
"""Pod reasons that have nothing to do with what ran in it."""
_RUNTIMES_WORDS = frozenset({"ContainerCannotRun", "ContainerStatusUnknown", "StartError"})
"""Reasons for which a container's message is not its own."""
WORDS = 2000
"""Characters kept of a message."""
_KILLED = frozenset({137, 143})
"""SIGKILL and SIGTERM, as a shell counts them."""


class _Why(msgspec.Struct):
    failure: Failure
    reason: str
    message: str
    exit_code: int | None = None


def outcome(job: Job, pod: Pod | None, *, log_tail: str = "", stuck: str = "") -> Outcome:
    """The outcome of a Job that has ended.

    Args:
        job: The Job; its ``end`` is not None.
        pod: Its pod, if it could be seen.
        log_tail: The end of the failed container's log, where the pod's status does not hold it.
        stuck: Why the pod did not run when its time was up.
    """
    end = job.end or Condition("Failed")
    found = sketch(job, pod)
    if end.type == "Complete":
        return replace(found, exit_code=0, reason=end.reason or "Completed")
    why = _why(end, pod, stuck)
    return replace(
        found,
        failure=why.failure,
        exit_code=why.exit_code,
        reason=why.reason,
        message=why.message[:WORDS],
        log_tail=log_tail or _last_words(pod),
    )


def sketch(job: Job, pod: Pod | None) -> Outcome:
    """What is known of it whatever became of it: when and where it ran."""
    started, ended = _times(job, pod)
    found = Outcome(order=job.metadata.name, started=started, ended=ended)
    return found if pod is None else replace(found, pod=pod.metadata.name, node=pod.spec.node_name)


def vanished(order: str, *, reason: str, message: str) -> Outcome:
    """The outcome of a Job whose end nobody saw: it may have run."""
    return Outcome(order=order, failure=Failure.UNKNOWN, reason=reason, message=message)


def _why(end: Condition, pod: Pod | None, stuck: str) -> _Why:
    if end.reason == "DeadlineExceeded":
        never_began = "" if pod is not None and pod.ran else stuck or (pod.stuck if pod else "")
        if never_began:
            said = f"{end.message}; its pod did not start: {never_began}"
            return _Why(Failure.INFRASTRUCTURE, end.reason, said)
        return _Why(Failure.DEADLINE, end.reason, end.message)
    if pod is None:
        return _Why(Failure.UNKNOWN, end.reason, f"{end.message}; its pod could not be seen")
    return _taken_away(pod) or _container_failed(pod) or _never_started(end, pod)


def _taken_away(pod: Pod) -> _Why | None:
    """The pod was not let end by itself."""
    status, failed = pod.status, pod.failed
    code = failed[1].exit_code if failed else None
    if status.reason == "DeadlineExceeded":
        return _Why(Failure.DEADLINE, status.reason, status.message)
    for condition in status.conditions:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return _Why(Failure.INFRASTRUCTURE, condition.reason, status.message or condition.message, code)
    if status.reason in _TAKEN_AWAY:
        return _Why(Failure.INFRASTRUCTURE, status.reason, status.message, code)
    if pod.metadata.deletion_timestamp and (code is None or code in _KILLED):
        return _Why(Failure.INFRASTRUCTURE, "PodDeleted", "its pod was deleted while it ran", code)
    return None


def _container_failed(pod: Pod) -> _Why | None:
    if pod.failed is None:
        return None
    name, how = pod.failed
    said = f"container {name} ended with exit code {how.exit_code}"
    if name in {STAGE_IN, STAGE_OUT}:
        return _Why(Failure.INFRASTRUCTURE, how.reason, f"{name} failed: {said}", how.exit_code)
    if how.reason in {"StartError", "ContainerCannotRun"}:
        # The runtime names the program when the fault is the image's or the command's.
        kind = Failure.SCRIPT if "exec" in how.message else Failure.INFRASTRUCTURE
        return _Why(kind, how.reason, how.message, how.exit_code)
    if how.reason == "ContainerStatusUnknown":
        return _Why(Failure.INFRASTRUCTURE, how.reason, how.message, how.exit_code)
    return _Why(Failure.SCRIPT, how.reason or "Error", said, how.exit_code)


def _never_started(end: Condition, pod: Pod) -> _Why:
    """No container failed, yet the pod did: refused by the node, or never begun."""
    if pod.waiting:
        return _Why(Failure.INFRASTRUCTURE, pod.waiting.reason, pod.waiting.message)
    if pod.status.phase == "Failed":
        return _Why(
            Failure.INFRASTRUCTURE, pod.status.reason or end.reason, pod.status.message or end.message
        )
    return _Why(Failure.UNKNOWN, end.reason, f"{end.message}; no container of pod {pod.metadata.name} failed")


def _last_words(pod: Pod | None) -> str:
    if pod is None or pod.failed is None or pod.failed[1].reason in _RUNTIMES_WORDS:
        return ""
    name, how = pod.failed
    return tail(how.message.encode()) if pod.last_words_are_log(name) else ""


def tail(log: bytes) -> str:
    """The last 2 KiB of a log, as text."""
    return log[-LOG_TAIL:].decode(errors="replace")


def _times(job: Job, pod: Pod | None) -> tuple[float | None, float | None]:
    ended = [item.state.terminated for item in pod.chain if item.state.terminated] if pod else []
    starts = [item.started_at for item in ended if item.started_at and item.started_at.timestamp() > 0]
    ends = [item.finished_at for item in ended if item.finished_at and item.finished_at.timestamp() > 0]
    begin = min(starts, default=job.status.start_time)
    finish = max(
        ends, default=job.status.completion_time or (job.end.last_transition_time if job.end else None)
    )
    return (begin.timestamp() if begin else None, finish.timestamp() if finish else None)
