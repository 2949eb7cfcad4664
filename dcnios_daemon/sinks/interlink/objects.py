"""Virtual nodes and what lives on them, as the API server describes them: only what matters here."""

from datetime import datetime

import msgspec

from dcnios_daemon.sinks.kubernetes.objects import Condition, Meta, PodStatus, Seen, Thing

JOB_ID = "JobID"
"""The annotation that the virtual kubelet writes once the batch system has the job."""
GPU = "nvidia.com/gpu"
_ENDED = frozenset({"Succeeded", "Failed"})


class NotedMeta(Meta, frozen=True):
    """Who an object is, and what was noted on it."""

    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    creation_timestamp: datetime | None = None


class Limits(Seen, frozen=True):
    """What a container may take at most."""

    limits: dict[str, str] = msgspec.field(default_factory=dict)


class PlacedContainer(Seen, frozen=True):
    """Of a container what it takes."""

    resources: Limits = Limits()


class PlacedSpec(Seen, frozen=True):
    """Where a pod is, and what it takes there."""

    node_name: str = ""
    containers: tuple[PlacedContainer, ...] = ()


class VirtualPod(Thing, frozen=True):
    """A pod of ours on a virtual node, or on its way to one."""

    metadata: NotedMeta = NotedMeta()
    spec: PlacedSpec = PlacedSpec()
    status: PodStatus = PodStatus()

    @property
    def job(self) -> str:
        """The name of the Job that it belongs to."""
        return self.metadata.labels.get("batch.kubernetes.io/job-name", "")

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.status.phase in _ENDED

    @property
    def job_id(self) -> str:
        """Its number in the batch system; empty while that does not have it."""
        return self.metadata.annotations.get(JOB_ID, "")

    @property
    def gpus(self) -> int:
        """How many it takes."""
        return sum(whole(item.resources.limits.get(GPU, "0")) for item in self.spec.containers)


class NodeStatus(Seen, frozen=True):
    """What the virtual kubelet says."""

    conditions: tuple[Condition, ...] = ()
    allocatable: dict[str, str] = msgspec.field(default_factory=dict)


class VirtualNode(Thing, frozen=True):
    """https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/node-v1/."""

    status: NodeStatus = NodeStatus()

    @property
    def trouble(self) -> str:
        """Why nothing can be sent there now; empty when it is ready."""
        found = {item.type: item for item in self.status.conditions}
        ready = found.get("Ready", Condition("Ready", "Unknown", message="it has not said so yet"))
        link = found.get("InterlinkConnectivity")
        if ready.status != "True":
            return f"is not ready ({ready.status}): {_said(link or ready)}"
        if link is not None and link.status == "False":
            return f"does not reach its HPC ({link.reason}): {_said(link)}"
        return ""

    @property
    def gpus(self) -> int:
        """How many it has; 0 where it does not say."""
        return whole(self.status.allocatable.get(GPU, "0"))


_WORDS = 200


def _said(condition: Condition) -> str:
    return condition.message[:_WORDS] or condition.reason


def whole(quantity: str) -> int:
    """A count of devices; these are always whole."""
    return int(quantity) if quantity.isdecimal() else 0
