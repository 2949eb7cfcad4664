"""Virtual nodes of the cluster in memory, and the pods there, moved along by hand."""

from collections.abc import Mapping
from typing import Any

from dcnios_daemon.core.ports import Order
from tests.fakes.cluster import FakeCluster


async def virtual_node(
    cluster: FakeCluster,
    name: str,
    *,
    ready: bool = True,
    gpus: int = 8,
    labels: Mapping[str, str] | None = None,
) -> None:
    """A node of interLink's, or a change of it."""
    status = "True" if ready else "False"
    await cluster.change(
        "nodes",
        name,
        metadata={
            "name": name,
            "labels": {"virtual-node.interlink/type": "virtual-kubelet", **(labels or {})},
        },
        status={
            "conditions": [{"type": "Ready", "status": status, "reason": "KubeletPending"}],
            "allocatable": {"nvidia.com/gpu": str(gpus)},
        },
    )


async def virtual_pod(
    cluster: FakeCluster, order: Order, *, job_id: str = "", phase: str = "Pending", **status: Any
) -> str:
    """The pod of an order's Job, as the virtual kubelet shows it. Returns its name."""
    job = cluster.objects["jobs"][order.name]
    template = job["spec"]["template"]
    name = f"{order.name}-pod"
    await cluster.change(
        "pods",
        name,
        metadata={
            "name": name,
            "labels": {**job["metadata"]["labels"], "batch.kubernetes.io/job-name": order.name},
            "annotations": {"JobID": job_id} if job_id else {},
        },
        spec={**template["spec"], "nodeName": template["spec"]["nodeSelector"]["kubernetes.io/hostname"]},
        status={"phase": phase, **status},
    )
    return name


def evidence(order: Order, step: str = "done", code: int = 0) -> bytes:
    """The wrapper's line, and what the plugin writes after it."""
    line = f"dcnios-end key={order.key} attempt={order.attempt} step={step} exit={code}"
    return f"{line}\n\nreal 0m0.1s\n".encode()


async def pretend_run(
    cluster: FakeCluster, order: Order, *, step: str = "done", code: int = 0, wrote: bytes | None = None
) -> None:
    """The order's job runs on the HPC, and ends so; what it wrote is the wrapper's line if nothing else."""
    for phase, job_id in (("Pending", ""), ("Pending", "17"), ("Running", "17")):
        await virtual_pod(cluster, order, job_id=job_id, phase=phase)
    cluster.logs[f"{order.name}-pod"] = evidence(order, step, code) if wrote is None else wrote
    ended = {"name": "run", "state": {"terminated": {"exitCode": code, "reason": f"Error: {code}"}}}
    phase = "Failed" if code else "Succeeded"
    await virtual_pod(cluster, order, job_id="17", phase=phase, containerStatuses=[ended])
    await cluster.end(order.name, "Failed" if code else "Complete", "BackoffLimitExceeded" if code else "")
