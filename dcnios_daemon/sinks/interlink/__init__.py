"""The ``interlink`` sink: pods that interLink carries to an HPC, made safe to use.

``settings`` with ``slurm`` is the ``run`` block, ``manifest`` the Job that it becomes, with the ``wrapper``
and its ``order`` inside; ``carriable`` says what would not arrive. ``admission`` sees the virtual nodes, read
as ``objects`` says, and lets one order go after the other, where there is no ``doubt``; ``judge`` reads logs
and looks for the ``marker`` that is left where all was done, ``verdict`` says what is true, and ``check``
looks whether cluster and nodes are as they should be.
"""

from dcnios_daemon.sinks.interlink.check import check, neighbour
from dcnios_daemon.sinks.interlink.settings import InterlinkRun
from dcnios_daemon.sinks.interlink.sink import InterlinkSink

__all__ = ["InterlinkRun", "InterlinkSink", "check", "neighbour"]
