"""Every row of what was seen on a real interLink, and what it means."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from dcnios_daemon.core.ports import Failure
from dcnios_daemon.sinks.interlink.objects import VirtualNode, VirtualPod
from dcnios_daemon.sinks.interlink.verdict import Standing, find_evidence, outcome, standing
from dcnios_daemon.sinks.kubernetes.objects import Job, Pod

KEY = "0123456789abcdef0123456789abcdef01234567"
LABELS = {"dcnios-daemon/key": KEY, "dcnios-daemon/attempt": "2"}
AFTER = b"\n\nreal\t0m0.010s\nuser\t0m0.004s\nsys\t0m0.003s\n"
"""What the plugin appends."""
TIME_LIMIT = "SLURM job reached its time limit and was terminated"


def line(step: str, code: int, *, key: str = KEY, attempt: int = 2) -> bytes:
    return b"some words\n\ndcnios-end key=%s attempt=%d step=%s exit=%d" % (
        key.encode(),
        attempt,
        step.encode(),
        code,
    )


def job(kind: str = "Failed", reason: str = "BackoffLimitExceeded") -> Job:
    condition = {"type": kind, "status": "True", "reason": reason, "message": "said so"}
    return msgspec.convert(
        {"metadata": {"name": "j", "labels": LABELS}, "status": {"conditions": [condition]}}, Job
    )


def pod(code: int | None, message: str = "", **status: Any) -> Pod:
    ended = {"exitCode": code, "reason": f"Error: {code}", "message": message}
    containers = [] if code is None else [{"name": "run", "state": {"terminated": ended}}]
    phase = "Running" if code is None else "Failed" if code else "Succeeded"
    return msgspec.convert(
        {
            "metadata": {"name": "p"},
            "spec": {"nodeName": "vega"},
            "status": {"phase": phase, "containerStatuses": containers, **status},
        },
        Pod,
    )


SUCCEEDED = job("Complete", "CompletionsReached")
FAILED = job()
PROVIDER = {"reason": "ProviderFailed"}
REFUSED = "sbatch: error: Batch job submission failed: Invalid partition specified"

ENDS: list[tuple[str, Job, Pod | None, bytes | None, tuple[Failure | None, str, int | None]]] = [
    ("done", SUCCEEDED, pod(0), line("done", 0), (None, "Completed", 0)),
    ("done, the plugin writes after it", SUCCEEDED, pod(0), line("done", 0) + AFTER, (None, "Completed", 0)),
    ("done, shown as failed", FAILED, pod(15), line("done", 0), (None, "Completed", 0)),
    ("the script failed", FAILED, pod(7), line("run", 7) + AFTER, (Failure.SCRIPT, "Error", 7)),
    ("exit code lost", SUCCEEDED, pod(0), line("run", 7), (Failure.SCRIPT, "Error", 7)),
    ("exits as if by a signal", FAILED, pod(143), line("run", 143), (Failure.SCRIPT, "Error", 143)),
    ("input not fetched", FAILED, pod(75), line("stage-in", 75), (Failure.INFRASTRUCTURE, "Staging", 75)),
    ("result not stored", FAILED, pod(75), line("stage-out", 75), (Failure.INFRASTRUCTURE, "Staging", 75)),
    ("no scratch", FAILED, pod(75), line("prepare", 75), (Failure.INFRASTRUCTURE, "Staging", 75)),
    (
        "time limit, heard",
        FAILED,
        pod(15, TIME_LIMIT),
        line("run", 143),
        (Failure.DEADLINE, "SlurmTimeLimit", 143),
    ),
    (
        "time limit, the script ends by itself",
        FAILED,
        pod(15, TIME_LIMIT),
        line("run", 3),
        (Failure.DEADLINE, "SlurmTimeLimit", 3),
    ),
    (
        "time limit, not heard",
        FAILED,
        pod(15, TIME_LIMIT),
        b"words",
        (Failure.DEADLINE, "SlurmTimeLimit", 15),
    ),
    (
        "cancelled while running",
        FAILED,
        pod(15),
        line("run", 143),
        (Failure.INFRASTRUCTURE, "Cancelled", 143),
    ),
    (
        "cancelled, and the script saved its work and ended by itself",
        FAILED,
        pod(15),
        line("run", 9),
        (Failure.INFRASTRUCTURE, "Cancelled", 9),
    ),
    (
        "cancelled while storing",
        FAILED,
        pod(15),
        line("stage-out", 143),
        (Failure.INFRASTRUCTURE, "Cancelled", 143),
    ),
    ("node set down", FAILED, pod(15), b"words", (Failure.INFRASTRUCTURE, "Cancelled", 15)),
    ("pending job cancelled", SUCCEEDED, pod(0), b"", (Failure.SUSPICIOUS, "NoEvidence", None)),
    ("success without a log", SUCCEEDED, pod(0), None, (Failure.SUSPICIOUS, "NoEvidence", None)),
    ("empty container list", SUCCEEDED, pod(None), b"", (Failure.SUSPICIOUS, "NoEvidence", None)),
    (
        "another attempt's line",
        SUCCEEDED,
        pod(0),
        line("done", 0, attempt=1),
        (Failure.SUSPICIOUS, "NoEvidence", None),
    ),
    (
        "another's line",
        SUCCEEDED,
        pod(0),
        line("done", 0, key="f" * 40),
        (Failure.SUSPICIOUS, "NoEvidence", None),
    ),
    ("killed for its memory", FAILED, pod(9), b"words", (Failure.SCRIPT, "Killed", 9)),
    (
        "killed for its memory, said",
        FAILED,
        pod(9, "killed due to out-of-memory condition"),
        b"",
        (Failure.SCRIPT, "OutOfMemory", 9),
    ),
    (
        "sbatch refuses",
        FAILED,
        pod(1, REFUSED, **PROVIDER),
        None,
        (Failure.INFRASTRUCTURE, "ProviderFailed", None),
    ),
    (
        "the plugin is away",
        FAILED,
        pod(1, "dial tcp 127.0.0.1:4000: connect: connection refused", **PROVIDER),
        None,
        (Failure.INFRASTRUCTURE, "ProviderFailed", None),
    ),
    (
        "sbatch only warns",
        FAILED,
        pod(1, "sbatch: warning: partition is drained", **PROVIDER),
        None,
        (Failure.UNKNOWN, "ProviderFailed", None),
    ),
    (
        "the reply was lost",
        FAILED,
        pod(1, "net/http: timeout awaiting response headers", **PROVIDER),
        None,
        (Failure.UNKNOWN, "ProviderFailed", None),
    ),
    (
        "queued though the provider failed, and done",
        FAILED,
        pod(1, "sbatch: warning", **PROVIDER),
        line("done", 0),
        (None, "Completed", 0),
    ),
    ("no image", FAILED, pod(255), b"FATAL: no image", (Failure.INFRASTRUCTURE, "Error: 255", 255)),
    ("failed, log lost", FAILED, pod(7), None, (Failure.SCRIPT, "Error: 7", 7)),
    ("success, pod gone", SUCCEEDED, None, None, (Failure.SUSPICIOUS, "NoEvidence", None)),
    ("pod gone", FAILED, None, None, (Failure.UNKNOWN, "BackoffLimitExceeded", None)),
    ("pod taken away", FAILED, pod(None), None, (Failure.UNKNOWN, "BackoffLimitExceeded", None)),
    (
        "our own deadline",
        job("Failed", "DeadlineExceeded"),
        None,
        None,
        (Failure.DEADLINE, "DeadlineExceeded", None),
    ),
]


@pytest.mark.parametrize(
    ("seen", "pod_seen", "log", "means"), [row[1:] for row in ENDS], ids=[r[0] for r in ENDS]
)
def test_what_an_end_means(
    seen: Job, pod_seen: Pod | None, log: bytes | None, means: tuple[Failure | None, str, int | None]
) -> None:
    found = outcome(seen, pod_seen, log=log)
    assert (found.failure, found.reason, found.exit_code) == means


def test_one_that_never_left_the_queue_is_not_the_scripts_fault() -> None:
    found = outcome(job("Failed", "DeadlineExceeded"), None, log=None, stuck="it waited in Slurm's queue")
    assert found.failure is Failure.INFRASTRUCTURE
    assert "it waited in Slurm's queue" in found.message


def test_a_failed_runs_last_words_are_its_own() -> None:
    found = outcome(FAILED, pod(7), log=line("run", 7) + AFTER)
    assert found.log_tail == "some words"
    assert (found.pod, found.node) == ("p", "vega")


def test_a_success_keeps_no_log() -> None:
    assert outcome(SUCCEEDED, pod(0), log=line("done", 0)).log_tail == ""


def test_the_last_line_counts() -> None:
    log = line("run", 3) + b"\n" + line("done", 0) + AFTER
    found = find_evidence(log, LABELS)
    assert found is not None
    assert (found.step, found.exit_code) == ("done", 0)


def test_a_line_within_a_line_is_none() -> None:
    assert find_evidence(b"echo " + line("done", 0).strip().split(b"\n")[-1], LABELS) is None


def virtual_pod(
    phase: str = "Pending", job_id: str = "", *, node: str = "vega", leaving: bool = False
) -> VirtualPod:
    meta: dict[str, Any] = {"name": "p", "annotations": {"JobID": job_id} if job_id else {}}
    if leaving:
        meta["deletionTimestamp"] = datetime.now(UTC).isoformat()
    return msgspec.convert(
        {"metadata": meta, "spec": {"nodeName": node}, "status": {"phase": phase}}, VirtualPod, strict=False
    )


@pytest.mark.parametrize(
    ("pod_seen", "ready", "means"),
    [
        (virtual_pod(), True, Standing.SUBMITTING),
        (virtual_pod(node=""), True, Standing.SUBMITTING),
        (virtual_pod("Initializing"), True, Standing.SUBMITTING),
        (virtual_pod(job_id="17"), True, Standing.QUEUED),
        (virtual_pod("Running", "17"), True, Standing.RUNNING),
        (virtual_pod("Running", "17"), False, Standing.FROZEN),
        (virtual_pod(job_id="17"), False, Standing.FROZEN),
        (virtual_pod("Running", "17", leaving=True), True, Standing.FROZEN),
        (virtual_pod("Succeeded", "17"), False, Standing.ENDED),
        (virtual_pod("Failed"), True, Standing.ENDED),
    ],
)
def test_how_it_stands_with_a_pod(pod_seen: VirtualPod, ready: bool, means: Standing) -> None:
    assert standing(pod_seen, node_is_ready=ready) is means


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ([], "not ready (Unknown)"),
        ([("Ready", "True", "")], ""),
        ([("Ready", "True", ""), ("InterlinkConnectivity", "True", "")], ""),
        ([("Ready", "False", "KubeletPending")], "not ready (False)"),
        ([("Ready", "Unknown", "NodeStatusUnknown")], "not ready (Unknown)"),
        (
            [("Ready", "True", ""), ("InterlinkConnectivity", "False", "InterlinkPingFailed")],
            "does not reach its HPC (InterlinkPingFailed)",
        ),
    ],
)
def test_whether_a_node_takes_pods(conditions: list[tuple[str, str, str]], words: str) -> None:
    found = [{"type": kind, "status": status, "reason": why} for kind, status, why in conditions]
    node = msgspec.convert({"status": {"conditions": found}}, VirtualNode)
    assert words in node.trouble
    assert bool(node.trouble) == bool(words)
