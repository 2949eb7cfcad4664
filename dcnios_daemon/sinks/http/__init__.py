"""POSTs each order as a CloudEvent to any receiver: Knative, Argo Events, a web service of one's own.

``message`` makes the request, ``answer`` judges what came back, ``client`` owns the connections.
"""

from dcnios_daemon.sinks.http.check import check
from dcnios_daemon.sinks.http.settings import HttpRun
from dcnios_daemon.sinks.http.sink import HttpSink, neighbour

__all__ = ["HttpRun", "HttpSink", "check", "neighbour"]
