"""What the sinks that run containers share: the ``run`` block's common keys, and what a sink is built from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from pydantic import Field, StringConstraints, model_validator

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.ports import Store
from dcnios_daemon.core.settings import Settings
from dcnios_daemon.core.units import Duration

Quantity = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(m|[kKMGTPE]i?)?$")]
"""A Kubernetes quantity, as text: ``500m``, ``2``, ``512Mi``."""


class Resources(Settings):
    """What one run needs."""

    cpu: Quantity | None = None
    memory: Quantity | None = None
    gpu: Annotated[int, Field(ge=0)] = 0


class StageOut(Settings):
    """One place that results go to."""

    to: str
    """``s3://bucket/prefix/``, ``dav:/path/`` or ``file:folder/``; may hold ``{{ event.… }}``."""
    using: str
    """The source whose endpoint and credentials give leave to write there."""
    prefix: tuple[str, ...] = ()
    """Only files whose name begins with one of these."""
    suffix: tuple[str, ...] = ()
    """Only files whose name ends with one of these."""


class ContainerRun(Settings):
    """What to run, on what, and where its results go. ``job``, ``interlink`` and ``process`` share it."""

    script: str | None = None
    """Run by ``/bin/sh``. Event fields reach it as environment variables and files, never as text in it."""
    script_file: Path | None = None
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = Field(default_factory=dict)
    """May hold ``{{ event.… }}``."""
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

    def shell_script(self) -> str | None:
        """The script's text, from wherever it was given; None when there is none.

        Reads a file: call it at start, not per event.

        Raises:
            OSError: The script file cannot be read.
        """
        return self.script_file.read_text("utf-8") if self.script_file else self.script


class SinkContext(msgspec.Struct, frozen=True, kw_only=True):
    """What ``app`` gives every sink."""

    instance: str
    state: Path
    """A folder that outlives the daemon's process, beside the journal."""
    stores: Mapping[str, Store]
    """Source name to its store, for staging."""
    clock: Clock
    kubernetes: Any = None
    """The ``kubernetes`` block (``sinks.cluster.KubernetesSettings``)."""
    shutdown_grace: float = 30.0
    """Seconds that running processes get to end by themselves."""
