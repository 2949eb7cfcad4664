"""What a Job and its pod say, and what that means."""

from typing import Any

import msgspec
import pytest

from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Dead, Failure, Retry
from dcnios_daemon.sinks.kubernetes.objects import Job, Pod
from dcnios_daemon.sinks.kubernetes.verdict import outcome, tail, vanished

Json = dict[str, Any]


def job(
    kind: str = "Failed", reason: str = "BackoffLimitExceeded", message: str = "said the controller"
) -> Job:
    conditions = [
        {"type": "FailureTarget", "status": "True", "reason": reason},
        {"type": kind, "status": "True", "reason": reason, "message": message},
    ]
    return msgspec.convert(
        {
            "metadata": {"name": "gray-1"},
            "status": {"conditions": conditions, "startTime": "2026-11-23T10:00:00Z"},
        },
        Job,
    )


def pod(*containers: Json, init: list[Json] | None = None, deleted: bool = False, **status: Any) -> Pod:
    metadata = {"name": "gray-1-x", **({"deletionTimestamp": "2026-11-23T10:00:00Z"} if deleted else {})}
    names = [container["name"] for container in containers]
    return msgspec.convert(
        {
            "metadata": metadata,
            "spec": {
                "nodeName": "n1",
                "containers": [
                    {"name": n, "terminationMessagePolicy": "FallbackToLogsOnError"} for n in names
                ],
            },
            "status": {
                "phase": "Failed",
                "initContainerStatuses": init or [],
                "containerStatuses": list(containers),
                **status,
            },
        },
        Pod,
    )


def ended(name: str = "run", code: int = 0, reason: str = "Error", message: str = "", **more: Any) -> Json:
    how = {
        "exitCode": code,
        "reason": reason,
        "message": message,
        "startedAt": "2026-11-23T10:00:01Z",
        **more,
    }
    return {"name": name, "state": {"terminated": {**how, "finishedAt": "2026-11-23T10:00:05Z"}}}


def waiting(reason: str, name: str = "run") -> Json:
    return {"name": name, "state": {"waiting": {"reason": reason, "message": "because"}}}


DISRUPTED = [
    {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "by x"}
]
UNSCHEDULABLE = [
    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes have a GPU"}
]
NOT_FOUND = 'runc create failed: exec: "foo": executable file not found in $PATH'

TABLE: list[tuple[str, Job, Pod | None, tuple[Failure, int | None, str]]] = [
    ("exit code", job(), pod(ended(code=7)), (Failure.SCRIPT, 7, "Error")),
    ("killed by itself", job(), pod(ended(code=137)), (Failure.SCRIPT, 137, "Error")),
    ("out of memory", job(), pod(ended(code=137, reason="OOMKilled")), (Failure.SCRIPT, 137, "OOMKilled")),
    (
        "no such command",
        job(),
        pod(ended(code=128, reason="StartError", message=NOT_FOUND)),
        (Failure.SCRIPT, 128, "StartError"),
    ),
    (
        "runtime broken",
        job(),
        pod(ended(code=128, reason="StartError", message="nvidia-container-cli: no device")),
        (Failure.INFRASTRUCTURE, 128, "StartError"),
    ),
    (
        "status lost with the node",
        job(),
        pod(ended(code=137, reason="ContainerStatusUnknown")),
        (Failure.INFRASTRUCTURE, 137, "ContainerStatusUnknown"),
    ),
    (
        "stage-in failed",
        job(),
        pod(
            waiting("PodInitializing", "stage-out"), init=[ended("stage-in", 75), waiting("PodInitializing")]
        ),
        (Failure.INFRASTRUCTURE, 75, "Error"),
    ),
    (
        "run failed as an init container",
        job(),
        pod(waiting("PodInitializing", "stage-out"), init=[ended("stage-in"), ended("run", 7)]),
        (Failure.SCRIPT, 7, "Error"),
    ),
    (
        "the first failure of the chain counts",
        job(),
        pod(ended("stage-out", 137, "ContainerStatusUnknown"), init=[ended("stage-in"), ended("run", 7)]),
        (Failure.SCRIPT, 7, "Error"),
    ),
    (
        "stage-out failed",
        job(),
        pod(ended("stage-out", 1), init=[ended("stage-in"), ended("run")]),
        (Failure.INFRASTRUCTURE, 1, "Error"),
    ),
    ("evicted", job(), pod(ended(code=137), reason="Evicted"), (Failure.INFRASTRUCTURE, 137, "Evicted")),
    ("evicted before it began", job(), pod(reason="Evicted"), (Failure.INFRASTRUCTURE, None, "Evicted")),
    ("node lost", job(), pod(reason="NodeLost"), (Failure.INFRASTRUCTURE, None, "NodeLost")),
    (
        "preempted",
        job(),
        pod(ended(code=143), conditions=DISRUPTED),
        (Failure.INFRASTRUCTURE, 143, "PreemptionByScheduler"),
    ),
    *(
        (
            f"disrupted: {reason}",
            job(),
            pod(ended(code=code), conditions=[{**DISRUPTED[0], "reason": reason}]),
            (Failure.INFRASTRUCTURE, code, reason),
        )
        for reason, code in (
            ("DeletionByTaintManager", 137),
            ("DeletionByPodGC", 143),
            ("EvictionByEvictionAPI", 1),  # a script may catch the signal and say so
            ("TerminationByKubelet", 137),
        )
    ),
    ("node shut down", job(), pod(reason="NodeShutdown"), (Failure.INFRASTRUCTURE, None, "NodeShutdown")),
    (
        "out of memory while storing results",
        job(),
        pod(ended("stage-out", 137, "OOMKilled"), init=[ended("run")]),
        (Failure.INFRASTRUCTURE, 137, "OOMKilled"),
    ),
    ("refused by the node", job(), pod(reason="OutOfcpu"), (Failure.INFRASTRUCTURE, None, "OutOfcpu")),
    ("deleted", job(), pod(ended(code=137), deleted=True), (Failure.INFRASTRUCTURE, 137, "PodDeleted")),
    ("failed, then deleted", job(), pod(ended(code=7), deleted=True), (Failure.SCRIPT, 7, "Error")),
    ("image", job(), pod(waiting("ImagePullBackOff")), (Failure.INFRASTRUCTURE, None, "ImagePullBackOff")),
    (
        "missing secret",
        job(),
        pod(waiting("CreateContainerConfigError")),
        (Failure.INFRASTRUCTURE, None, "CreateContainerConfigError"),
    ),
    (
        "deadline",
        job(reason="DeadlineExceeded"),
        pod(ended(code=137)),
        (Failure.DEADLINE, None, "DeadlineExceeded"),
    ),
    *(
        (
            f"deadline before it began: {reason}",
            job(reason="DeadlineExceeded"),
            pod(waiting(reason), phase="Pending"),
            (Failure.INFRASTRUCTURE, None, "DeadlineExceeded"),
        )
        for reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError")
    ),
    (
        "deadline before there was room",
        job(reason="DeadlineExceeded"),
        pod(phase="Pending", conditions=UNSCHEDULABLE),
        (Failure.INFRASTRUCTURE, None, "DeadlineExceeded"),
    ),
    (
        "deadline while it runs still",
        job(reason="DeadlineExceeded"),
        pod({"name": "run", "state": {}}, phase="Running"),
        (Failure.DEADLINE, None, "DeadlineExceeded"),
    ),
    (
        "deadline in the second container of the chain",
        job(reason="DeadlineExceeded"),
        pod(waiting("PodInitializing", "stage-out"), init=[ended("stage-in"), ended("run", 137)]),
        (Failure.DEADLINE, None, "DeadlineExceeded"),
    ),
    ("deadline, no pod", job(reason="DeadlineExceeded"), None, (Failure.DEADLINE, None, "DeadlineExceeded")),
    (
        "the pod's own deadline",
        job(),
        pod(reason="DeadlineExceeded"),
        (Failure.DEADLINE, None, "DeadlineExceeded"),
    ),
    ("no pod", job(), None, (Failure.UNKNOWN, None, "BackoffLimitExceeded")),
    ("virtual node", job(), pod(ended(code=7), reason="Error: 7"), (Failure.SCRIPT, 7, "Error")),
]


@pytest.mark.parametrize(
    ("seen", "about", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_failures_fall_into_classes(
    seen: Job, about: Pod | None, expected: tuple[Failure, int | None, str]
) -> None:
    found = outcome(seen, about)
    assert (found.failure, found.exit_code, found.reason) == expected
    assert found.order == "gray-1"


def test_success_is_success_without_a_pod_too() -> None:
    found = outcome(job("Complete", "CompletionsReached"), None)
    assert found.succeeded
    assert found.exit_code == 0


def test_who_where_and_when() -> None:
    found = outcome(job(), pod(ended("stage-out", 1), init=[ended("run", startedAt="2026-11-23T09:59:00Z")]))
    assert (found.pod, found.node) == ("gray-1-x", "n1")
    assert found.started is not None
    assert found.ended is not None
    assert found.ended - found.started == 65


def test_staging_failures_say_so() -> None:
    assert "stage-out failed" in outcome(job(), pod(ended("stage-out", 1), init=[ended("run")])).message


def test_the_end_of_the_log_comes_with_the_failure() -> None:
    assert outcome(job(), pod(ended(code=7, message="é" * 2000))).log_tail == "é" * 1024
    assert outcome(job(), pod(ended(code=128, reason="StartError", message="runc's words"))).log_tail == ""


def test_why_a_pod_never_started_is_said_when_its_time_is_up() -> None:
    late = job(reason="DeadlineExceeded")
    never = ended(code=137, reason="ContainerStatusUnknown", startedAt=None)
    for seen, stuck in ((pod(never), "ErrImagePull: nowhere"), (None, "Unschedulable: no room")):
        found = outcome(late, seen, stuck=stuck)
        assert stuck in found.message
        assert found.failure is Failure.INFRASTRUCTURE
    began = outcome(late, pod(ended(code=137)), stuck="ErrImagePull: nowhere")
    assert "ErrImagePull" not in began.message
    assert began.failure is Failure.DEADLINE


@pytest.mark.parametrize(
    ("about", "again"),
    [
        (pod(ended(code=137, reason="OOMKilled")), False),  # the same limit would be met again
        (pod(ended(code=75)), False),
        (pod(reason="Evicted"), True),
        (pod(waiting("ImagePullBackOff")), True),
        (pod(ended("stage-in", 1)), True),
    ],
)
def test_what_is_not_the_scripts_doing_is_tried_again_unless_told_otherwise(about: Pod, again: bool) -> None:
    decision = RetryPolicy().decide(outcome(job(), about), attempt=1, dice=0)
    assert decision == (Retry(after=1.0) if again else Dead())


@pytest.mark.parametrize("kind", ["FailureTarget", "SuccessCriteriaMet", "Suspended"])
def test_only_the_last_word_ends_a_job(kind: str) -> None:
    seen = msgspec.convert({"status": {"conditions": [{"type": kind, "status": "True"}]}}, Job)
    assert seen.end is None
    assert (
        msgspec.convert({"status": {"conditions": [{"type": "Failed", "status": "False"}]}}, Job).end is None
    )


def test_a_vanished_job_may_have_run() -> None:
    assert vanished("x", reason="Gone", message="m").failure is Failure.UNKNOWN


def test_a_tail_is_the_last_two_kibibytes() -> None:
    assert tail(b"a" * 5000 + b"end") == "a" * 2045 + "end"
    assert tail("é".encode() * 1025)[0] == "é"
    assert tail(b"x" + "é".encode() * 1024)[0] == "é"
