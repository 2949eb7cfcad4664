"""Runs each order as a Kubernetes Job.

``manifest`` and ``pod`` write what is submitted, ``splice`` encodes it once for all orders of a route,
``carrier`` says how the payload gets in, ``check`` looks whether the cluster lets us; ``sinks.kubernetes``
knows how to talk to it.
"""

from dcnios_daemon.sinks.job.check import check
from dcnios_daemon.sinks.job.sink import JobRun, JobSink

__all__ = ["JobRun", "JobSink", "check"]
