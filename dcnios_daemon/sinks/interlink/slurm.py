"""The ``slurm`` block of a run: what its job asks of Slurm, as the flags that interLink's plugin passes on.

The plugin splits the annotation like a shell does and writes each flag as an ``#SBATCH`` line, unchecked
(interlink-slurm-plugin, ``prepare.go``): so nothing in here ever comes from an event.
"""

import re
import shlex
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from dcnios_daemon.core.settings import Settings

FLAGS = "slurm-job.vk.io/flags"
"""The pod's annotation that the plugin reads."""

_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.,@:+-]+$", max_length=256)]
_TIME = re.compile(
    r"^(?:(?P<days>\d+)-(?P<h1>\d+)(?::(?P<m1>\d+)(?::(?P<s1>\d+))?)?"
    r"|(?P<h2>\d+):(?P<m2>\d+):(?P<s2>\d+)|(?P<m3>\d+)(?::(?P<s3>\d+))?)$"
)
"""The six spellings of sbatch(1), ``--time``."""
_FLAG = re.compile(r"^--?[A-Za-z][A-Za-z0-9-]*(=[!$-&(-\[\]-~]+)?$")
"""The plugin takes quotes away when it reads the annotation and gives none to the line that Slurm reads: what
needs them does not arrive."""
_OURS = {
    "--account": "account",
    "-A": "account",
    "--comment": "comment",
    "--gres": "gres",
    "--nodes": "nodes",
    "-N": "nodes",
    "--ntasks": "tasks",
    "-n": "tasks",
    "--partition": "partition",
    "-p": "partition",
    "--qos": "qos",
    "-q": "qos",
    "--reservation": "reservation",
    "--time": "time",
    "-t": "time",
}
"""Flags that have a key of their own."""
_HARMFUL = {
    "--requeue": "a job that Slurm starts again runs twice",
    "--array": "one order is one job",
    "-a": "one order is one job",
    "--job-name": "interLink finds its jobs by this",
    "-J": "interLink finds its jobs by this",
    "--output": "interLink reads the log where it put it itself",
    "-o": "interLink reads the log where it put it itself",
    "--error": "interLink reads the log where it put it itself",
    "-e": "interLink reads the log where it put it itself",
    "--wrap": "interLink gives the job its script",
    "--parsable": "interLink reads what sbatch says",
    "--wait": "interLink would wait for the job's end",
    "-W": "interLink would wait for the job's end",
}


class Slurm(Settings):
    """What a job asks of Slurm. Processors and memory come from ``resources``."""

    partition: _Name | None = None
    account: _Name | None = None
    qos: _Name | None = None
    time: str | None = None
    """Longest run, as sbatch takes it: ``55`` (minutes), ``00:55:00``, ``1-12:00``."""
    nodes: Annotated[int, Field(ge=1)] = 1
    tasks: Annotated[int, Field(ge=1)] = 1
    gres: _Name | None = None
    """Generic resources. Default: ``gpu:N`` where ``resources.gpu`` is N."""
    reservation: _Name | None = None
    comment: _Name | None = None
    """After the delivery's key, which is always there: it is what a lost job is found by."""
    flags: tuple[str, ...] = ()
    """More flags of sbatch, each with its value: ``--constraint=a100``."""

    @field_validator("time")
    @classmethod
    def _is_a_time(cls, value: str | None) -> str | None:
        if value is not None and not _TIME.match(value):
            raise ValueError("no time that sbatch knows: write minutes, hh:mm:ss or days-hh:mm:ss")
        return value

    @field_validator("flags")
    @classmethod
    def _are_flags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for flag in value:
            name = re.split(r"[=\s]", flag, maxsplit=1)[0]
            if name in _OURS:
                raise ValueError(f"{name} has a key of its own: {_OURS[name]}")
            if name in _HARMFUL:
                raise ValueError(f"{name} cannot be used: {_HARMFUL[name]}")
            if not _FLAG.match(flag):
                raise ValueError(f"{flag!r} is not --name or --name=value without blanks, quotes, \\ and #")
        return value

    @property
    def run_time(self) -> float | None:
        """The longest run in seconds; None where the partition's own limit rules."""
        found = _TIME.match(self.time or "")
        if found is None:
            return None
        part = {name: int(text) for name, text in found.groupdict(default="0").items()}
        hours = part["days"] * 24 + part["h1"] + part["h2"]
        minutes = part["m1"] + part["m2"] + part["m3"]
        return float(hours * 3600 + minutes * 60 + part["s1"] + part["s2"] + part["s3"])

    def annotation(self, *, key: str, gpu: int) -> str:
        """The value of :data:`FLAGS` for one delivery.

        Args:
            key: The delivery's key, in hex digits.
            gpu: How many GPUs the run has in its limits; these alone make Slurm give it none.
        """
        return shlex.join(self._flags(key, gpu))

    def _flags(self, key: str, gpu: int) -> Iterator[str]:
        for name in ("partition", "account", "qos", "reservation", "time"):
            if (value := getattr(self, name)) is not None:
                yield f"--{name}={value}"
        yield f"--nodes={self.nodes}"
        yield f"--ntasks={self.tasks}"
        if gres := self.gres or (f"gpu:{gpu}" if gpu else None):
            yield f"--gres={gres}"
        yield "--no-requeue"
        yield f"--comment={key}:{self.comment}" if self.comment else f"--comment={key}"
        yield from self.flags
