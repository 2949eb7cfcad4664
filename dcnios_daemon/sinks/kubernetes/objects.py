"""Jobs and pods as the API server describes them: only the fields that matter here.

A Job changes several times in its life and each change comes as a whole of some kilobytes, so these are
decoded straight from the bytes, and what is not named costs next to nothing.
"""

from collections.abc import Iterator
from datetime import datetime

import msgspec

_NEVER_STARTED = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
"""What the kubelet says of a container that it cannot start."""


class Seen(msgspec.Struct, rename="camel", frozen=True):
    """Fields that are not named here are passed over while decoding."""


class Condition(Seen, frozen=True):
    """Something that holds, or does not, of a Job or pod."""

    type: str
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class Meta(Seen, frozen=True):
    """Who an object is."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    deletion_timestamp: datetime | None = None


class Thing(Seen, frozen=True):
    """Anything that has a name."""

    metadata: Meta = Meta()


class JobStatus(Seen, frozen=True):
    """What the Job controller says."""

    conditions: tuple[Condition, ...] = ()
    start_time: datetime | None = None
    completion_time: datetime | None = None


class JobSpec(Seen, frozen=True):
    """What was asked for."""

    suspend: bool | None = None


class Job(Thing, frozen=True):
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/."""

    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()

    @property
    def end(self) -> Condition | None:
        """The condition that ended it. FailureTarget and SuccessCriteriaMet only announce it."""
        ends = (item for item in self.status.conditions if item.type in {"Complete", "Failed"})
        return next((item for item in ends if item.status == "True"), None)

    @property
    def is_suspended(self) -> bool:
        """Whether it has neither ended nor may run: a queue (Kueue) has it, or has taken it back."""
        return bool(self.spec.suspend) and self.end is None


class Terminated(Seen, frozen=True):
    """How a container ended."""

    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Waiting(Seen, frozen=True):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class State(Seen, frozen=True):
    """One of the three that a container can be in (running has nothing to say)."""

    terminated: Terminated | None = None
    waiting: Waiting | None = None


class ContainerStatus(Seen, frozen=True):
    """A container's name and state."""

    name: str
    state: State = State()


class PodStatus(Seen, frozen=True):
    """What the kubelet says."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Container(Seen, frozen=True):
    """Of a container's specification only where its last words go."""

    name: str
    termination_message_policy: str = ""


class PodSpec(Seen, frozen=True):
    """Where the pod is, and its containers."""

    node_name: str = ""
    init_containers: tuple[Container, ...] = ()
    containers: tuple[Container, ...] = ()


class Pod(Thing, frozen=True):
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def job(self) -> str:
        """The name of the Job that it belongs to."""
        return self.metadata.labels.get("batch.kubernetes.io/job-name", "")

    @property
    def chain(self) -> Iterator[ContainerStatus]:
        """Its containers in the order in which they run."""
        yield from self.status.init_container_statuses
        yield from self.status.container_statuses

    @property
    def failed(self) -> tuple[str, Terminated] | None:
        """The first container of the chain that failed, and how."""
        ended = ((item.name, item.state.terminated) for item in self.chain)
        return next(((name, how) for name, how in ended if how is not None and how.exit_code != 0), None)

    @property
    def stuck(self) -> str:
        """Why it does not run, where that is not just a matter of moments."""
        if self.waiting:
            return f"{self.waiting.reason}: {self.waiting.message}"
        placed = (item for item in self.status.conditions if item.type == "PodScheduled")
        return next((f"{item.reason}: {item.message}" for item in placed if item.status == "False"), "")

    @property
    def ran(self) -> bool:
        """Whether any of its containers was ever started."""
        return self.status.phase == "Running" or any(
            item.state.terminated and item.state.terminated.started_at for item in self.chain
        )

    @property
    def waiting(self) -> Waiting | None:
        """What keeps the first container that cannot start from starting."""
        states = (item.state.waiting for item in self.chain)
        return next((state for state in states if state and state.reason in _NEVER_STARTED), None)

    def last_words_are_log(self, container: str) -> bool:
        """Whether the message of a container that ran and failed is the end of its log."""
        specs = (*self.spec.init_containers, *self.spec.containers)
        return any(
            spec.name == container and spec.termination_message_policy == "FallbackToLogsOnError"
            for spec in specs
        )
