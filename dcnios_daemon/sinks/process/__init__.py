"""Runs on the daemon's own machine: the same three steps as in a pod, so that a laptop is a small cluster."""

from dcnios_daemon.sinks.process.settings import ProcessRun
from dcnios_daemon.sinks.process.sink import ProcessSink

__all__ = ["ProcessRun", "ProcessSink"]
