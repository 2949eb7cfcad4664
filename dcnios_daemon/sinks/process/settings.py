"""The ``run`` block of ``kind: process``."""

from typing import Self

from pydantic import model_validator

from dcnios_daemon.kubernetes.pods import Resources
from dcnios_daemon.sinks.spec import ContainerRun


class ProcessRun(ContainerRun):
    """A script or command on this machine, with the daemon's rights, in a folder of its own."""

    @model_validator(mode="after")
    def _something_to_run(self) -> Self:
        if self.script is None and self.script_file is None and not self.command:
            raise ValueError(
                "a process has no image that says what to run: give script, script_file or command"
            )
        if self.resources != Resources():
            raise ValueError(
                "resources are a cluster's: use in_flight to say how many processes there may be"
            )
        return self
