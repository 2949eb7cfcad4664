"""The ``oscar`` sink: services of a running OSCAR, called as its own triggers call them.

``settings`` is the ``run`` block. ``recognition`` knows what OSCAR's supervisor makes of an event, ``body``
makes each event one that it bears; ``answer`` judges what ``POST /job`` says. ``system`` speaks to the rest
of OSCAR's API, whose list of jobs ``status`` reads and ``follow`` watches for ends; ``check`` looks whether
all is there.
"""

from dcnios_daemon.sinks.oscar.check import check
from dcnios_daemon.sinks.oscar.settings import OscarRun
from dcnios_daemon.sinks.oscar.sink import OscarSink, neighbour

__all__ = ["OscarRun", "OscarSink", "check", "neighbour"]
