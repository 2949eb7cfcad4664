"""What the sinks that run containers share: keys of the ``run`` block, and what a sink is built from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field, StringConstraints, model_validator

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.ports import Store
from dcnios_daemon.core.settings import Settings
from dcnios_daemon.core.templating import Template
from dcnios_daemon.core.units import Duration
from dcnios_daemon.kubernetes.pods import EnvName, Resources, SecretName, Volume, VolumeName

LabelValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")]


class StageOut(Settings):
    """One place that results go to."""

    to: Template
    """``s3://bucket/prefix/``, ``dav:/path/`` or ``file:folder/``; may hold ``{{ event.… }}``."""
    using: str
    """The source whose endpoint and credentials give leave to write there."""
    credentials: Literal["leave", "secret"] = "leave"
    """``leave``: a link made for each delivery; no credential enters a pod. ``secret``: the pod's stager,
    never the run, gets the keys in the Kubernetes Secret ``secret``; for files over 5 GiB and stores that
    take no leave. Of ``using`` then only the endpoint counts. Only for ``job`` and ``s3://``."""
    secret: SecretName | None = None
    """A Kubernetes Secret in the Jobs' namespace, with the keys ``access_key``, ``secret_key`` and perhaps
    ``session_token``."""
    prefix: tuple[str, ...] = ()
    """Only files whose name begins with one of these."""
    suffix: tuple[str, ...] = ()
    """Only files whose name ends with one of these."""

    @model_validator(mode="after")
    def _keys_for_s3(self) -> "StageOut":
        if (self.credentials == "secret") != (self.secret is not None):
            raise ValueError("credentials: secret and the name of the secret go together")
        if self.secret is not None and not self.to.startswith("s3://"):
            raise ValueError("credentials: secret is for s3://bucket/prefix/ only")
        return self


class GpuResources(Resources):
    """What one run needs of a node that may have GPUs."""

    gpu_type: LabelValue | None = None
    """Only nodes with GPUs of this type: of the cluster's those whose label ``nvidia.com/gpu.product``, of
    interLink's those whose label ``nvidia-gpu-type`` says so."""


class ContainerRun(Settings):
    """What to run, on what, and where its results go. All kinds that run a program share it."""

    script: str | None = None
    """Run by ``/bin/sh``. Event fields reach it as environment variables and files, never as text in it."""
    script_file: Path | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[EnvName, Template] = Field(default_factory=dict)
    """May hold ``{{ event.… }}``. The variables that tell of the event are the daemon's own."""
    resources: Resources = Resources()
    stage_in: bool = False
    """Fetch the event's object to ``INPUT_FILE_PATH`` first."""
    stage_out: Mapping[str, StageOut] = Field(default_factory=dict)
    """Put what the run left in ``TMP_OUTPUT_DIR`` there afterwards."""
    deadline: Duration = 86400.0
    """Longest life of one attempt, waiting for a place included."""

    @model_validator(mode="after")
    def _one_thing_to_run(self) -> "ContainerRun":
        given = [bool(self.script), self.script_file is not None, bool(self.command or self.args)]
        if sum(given) > 1:
            raise ValueError("give one of script, script_file, or command with args")
        return self

    @property
    def longest(self) -> float:
        """Longest life of one attempt, in seconds, waiting included."""
        return self.deadline

    def shell_script(self) -> str | None:
        """The script's text, from wherever it was given; None when there is none.

        Reads a file: call it at start, not per event.

        Raises:
            OSError: The script file cannot be read.
        """
        return self.script_file.read_text("utf-8") if self.script_file else self.script


class PodRun(ContainerRun):
    """What every sink that makes pods takes."""

    image: str | None = None
    resources: GpuResources = GpuResources()
    runtime_class: SecretName | None = None
    """The RuntimeClass of pods on the cluster's own nodes, as some need it for GPUs: ``nvidia``. On an HPC
    there is none."""
    keep: Annotated[Duration, Field(ge=30)] = 600.0
    """How long a finished Job stays in the cluster (``ttlSecondsAfterFinished``). An end that the daemon
    could not see for longer is lost, and the delivery dead as `unknown`, for it may have run: let it be
    longer than the longest cut."""
    secrets: Mapping[EnvName, Annotated[str, StringConstraints(pattern=r"^[^/]+/[^/]+$")]] = Field(
        default_factory=dict
    )
    """Environment variables from Kubernetes Secrets: ``PASSWORD: my-secret/password``."""
    volumes: Mapping[VolumeName, Volume] = Field(default_factory=dict)
    labels: Mapping[str, str] = Field(default_factory=dict)
    """On the Job and its pod."""
    annotations: Mapping[str, str] = Field(default_factory=dict)
    """On the Job and its pod."""
    service_account: str | None = None
    """Default: the namespace's own, without its token."""
    image_pull_secrets: tuple[str, ...] = ()
    queue: str | None = None
    """A Kueue LocalQueue. The Job is made suspended, and Kueue starts it."""
    suspend: bool = False
    """Make Jobs suspended: something else starts them."""
    pod: Mapping[str, Any] = Field(default_factory=dict)
    """Merged into the pod's spec, for all that has no key here. Lists of things with names (containers,
    volumes, env) are merged by name."""
    manifest: Path | None = None
    """A file with a whole Job instead. Its texts may hold ``{{ event.… }}``: put those into ``env``, never
    into a shell's text."""

    @model_validator(mode="after")
    def _manifest_stands_alone(self) -> "PodRun":
        beside = {"kind", "manifest", "keep", "deadline", "labels", "annotations", "queue", "suspend"}
        if self.manifest is not None and (both := self.model_fields_set - beside):
            raise ValueError(f"the manifest says it all: leave out {', '.join(sorted(both))}")
        return self


class SinkContext(msgspec.Struct, frozen=True, kw_only=True):
    """What ``app`` gives every sink."""

    instance: str
    state: Path
    """A folder that outlives the daemon's process, beside the journal."""
    stores: Mapping[str, Store]
    """Source name to its store, for staging."""
    clock: Clock
    kubernetes: Any = None
    """The ``kubernetes`` block (``kubernetes.login.KubernetesSettings``)."""
    shutdown_grace: float = 30.0
    """Seconds that running processes get to end by themselves."""
