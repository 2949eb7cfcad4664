"""The ``run`` block of ``kind: interlink``: on which HPC, with what, and what its site needs besides."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from dcnios_daemon.core.settings import Settings
from dcnios_daemon.core.units import Duration
from dcnios_daemon.kubernetes.pods import Quantity
from dcnios_daemon.sinks.interlink.slurm import FLAGS, Slurm
from dcnios_daemon.sinks.spec import GpuResources, PodRun

_PLUGIN = "slurm-job.vk.io"
IMAGE_ROOT, FLAVOR = f"{_PLUGIN}/image-root", f"{_PLUGIN}/flavor"
PRE_EXEC = f"{_PLUGIN}/pre-exec"
BINDS, OPTIONS = f"{_PLUGIN}/singularity-mounts", f"{_PLUGIN}/singularity-options"
"""The annotations that interLink's Slurm plugin reads, beside the flags."""
_OURS = {
    FLAGS: "slurm",
    IMAGE_ROOT: "image_root",
    FLAVOR: "flavor",
    PRE_EXEC: "pre_exec",
    BINDS: "binds",
    OPTIONS: "singularity_options",
}
_NOT_THERE = {
    "manifest": "there is one container, and the daemon's wrapper must be in it",
    "service_account": "no token of the cluster goes to the HPC",
    "image_pull_secrets": "the HPC pulls images with its own credentials",
}

HOST_NAME = "kubernetes.io/hostname"
GPU_TYPE = "nvidia-gpu-type"
TYPE, VIRTUAL = "virtual-node.interlink/type", "virtual-kubelet"

Bind = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9_./@+-]*(:/[A-Za-z0-9_./@+-]*(:r[ow])?)?$")]
Option = Annotated[str, StringConstraints(pattern=r"^--?[A-Za-z][A-Za-z0-9-]*(=[A-Za-z0-9_./:,@=+-]+)?$")]


class HpcResources(GpuResources):
    """What one run needs of the HPC. All of it is limit and request: without them Slurm would give 1 MB."""

    cpu: Quantity = "1"
    memory: Quantity = "2Gi"


class SuccessMarker(Settings):
    """A place in a store for what proves that a run succeeded."""

    to: Annotated[str, StringConstraints(pattern=r"^(s3://[^/{}]+|dav:/[^/{}])[^{}]*$")]
    """``s3://bucket/prefix/`` or ``dav:/path/``. An object with the order's name is put there."""
    using: str
    """The source whose endpoint and credentials give leave to write and read there."""


class HpcRun(PodRun):
    """What ``interlink`` takes beside what every sink takes that makes pods. ``job`` takes it, too, so that a
    route moves between a cluster and an HPC by its ``kind`` alone."""

    node: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")] | None = None
    """The virtual node's name."""
    node_labels: Mapping[str, str] = Field(default_factory=dict)
    """Any virtual node with these labels: the one of them with the most room is taken."""
    slurm: Slurm = Slurm()
    """What the job asks of Slurm besides."""
    queue_allowance: Duration | None = None
    """How long an attempt may wait in the batch system's queue. With ``slurm.time`` it makes the deadline,
    so leave ``deadline`` out."""
    pods_per_node: Annotated[int, Field(ge=1)] = 20
    """Pods of this daemon that may live on the node at the same time. The plugin asks for the state of one
    pod in ten seconds: each one more makes the news of all older."""
    suspicious: Literal["hold", "retry", "fail"] = "hold"
    """What follows when a run is called a success and nothing proves it. ``hold``: it is dead as
    ``suspicious`` until an operator has looked and replays it. ``retry``: it counts as ``infrastructure``,
    and may so be done twice. ``fail``: it counts as ``script``."""
    success_marker: SuccessMarker | None = None
    """Where the wrapper puts an object when all is done. It proves a success whose log is lost, or whose Job
    is gone. The daemon must have leave to read there, too."""
    stage_with: Literal["links", "tool"] = "links"
    """What fetches the input and puts outputs and marker away, on an HPC. ``links``: the wrapper itself, with
    the image's ``curl`` or GNU ``wget``. ``tool``: the command ``dcnios``, which must be on the container's
    ``PATH``, by the same links; it takes up broken transfers where they broke and puts many outputs in one
    process."""
    shared_fs: bool = False
    """The HPC's plugin runs with ``SHARED_FS=true``. Mounted Secrets arrive only then."""
    image_root: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]+$")] | None = None
    """Put before the image's name, where that is no absolute path or URI."""
    binds: tuple[Bind, ...] = ()
    """Folders of the HPC that the container sees: ``/scratch/p123:/scratch:ro``."""
    singularity_options: tuple[Option, ...] = ()
    pre_exec: str | None = None
    """Shell lines that the HPC's node runs before the container, unchecked."""
    flavor: str | None = None
    """One of the plugin's named sets of flags."""

    @property
    def longest(self) -> float:
        """Longest life of one attempt, in seconds, waiting in the queue included."""
        if self.queue_allowance is None or self.slurm.run_time is None:
            return self.deadline
        return self.queue_allowance + self.slurm.run_time

    @model_validator(mode="after")
    def _ends_in_time(self) -> "HpcRun":
        run_time = self.slurm.run_time
        if self.queue_allowance is not None:
            if "deadline" in self.model_fields_set:
                raise ValueError("give deadline or queue_allowance, not both: the one makes the other")
            if run_time is None:
                raise ValueError("queue_allowance needs slurm.time: together they make the deadline")
        elif run_time is not None and run_time >= self.deadline:
            raise ValueError(
                f"deadline ({self.deadline:.0f} s) must leave time to wait in the queue before slurm.time "
                f"({run_time:.0f} s): make it longer, or give queue_allowance instead"
            )
        return self


class InterlinkRun(HpcRun):
    """A pod on a virtual node of interLink: a job of an HPC's batch system."""

    resources: HpcResources = HpcResources()
    keep: Annotated[Duration, Field(ge=30)] = 21600.0
    """How long a finished Job stays in the cluster, and with it its log, which alone proves how it ended:
    longer than a virtual node is away."""

    @property
    def selector(self) -> Mapping[str, str]:
        """The labels that a node must have. Empty: Kueue's flavors choose."""
        wanted = {GPU_TYPE: self.resources.gpu_type} if self.resources.gpu_type else {}
        if self.node is not None:
            return {HOST_NAME: self.node, **wanted}
        wanted |= self.node_labels
        if not wanted:
            return {}
        kind = {} if "type" in wanted else {TYPE: VIRTUAL}  # "type": how older installs say it
        return {**kind, **wanted}

    @property
    def site_annotations(self) -> Mapping[str, str]:
        """What the site's plugin is told, beside Slurm's flags."""
        given = {
            IMAGE_ROOT: self.image_root,
            FLAVOR: self.flavor,
            PRE_EXEC: self.pre_exec,
            BINDS: " ".join(f"--bind {bind}" for bind in self.binds),
            OPTIONS: " ".join(self.singularity_options),
        }
        return {name: value for name, value in given.items() if value}

    @model_validator(mode="after")
    def _is_carried(self) -> "InterlinkRun":
        given = [name for name in _NOT_THERE if name in self.model_fields_set]
        _refuse(f"{name} cannot be used with interlink: {_NOT_THERE[name]}" for name in given)
        if not self.image:
            raise ValueError("give an image")
        if not (self.script or self.script_file or self.command):
            raise ValueError("give script, script_file or command: what an image would run is not known here")
        _refuse(f"{name} has a key of its own: {_OURS[name]}" for name in self.annotations if name in _OURS)
        return self

    @model_validator(mode="after")
    def _has_a_place(self) -> "InterlinkRun":
        if self.node is not None and self.node_labels:
            raise ValueError("give node or node_labels, not both")
        waits = bool(self.queue or self.suspend)
        if not (self.selector or waits):
            raise ValueError(
                "give the node's name (node), labels (node_labels) or type of GPU (resources.gpu_type)"
            )
        if waits and self.pre_exec:
            raise ValueError(
                "pre_exec needs submissions one after the other, or jobs get each other's lines: "
                "leave out queue and suspend, with which something else submits"
            )
        return self

    @model_validator(mode="after")
    def _leaves_in_the_pod_nothing(self) -> "InterlinkRun":
        keyed = [name for name, out in self.stage_out.items() if out.secret is not None]
        _refuse(f"stage_out.{name}: credentials: secret is for job only" for name in keyed)
        return self


def _refuse(words: Iterable[str]) -> None:
    if found := "; ".join(words):
        raise ValueError(found)
