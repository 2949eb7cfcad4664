"""The daemon's API from Python: wait for the result of an upload, list, replay. ``docs/notebook.md``.

It knows nothing of the daemon's inside but ``core``, and imports nothing heavy.
"""

from dcnios_daemon.client.delivery import Delivery, Outcome
from dcnios_daemon.client.errors import ClientError, DaemonAway, DeliveryDead, NotRun, NotYet, Refused
from dcnios_daemon.client.faces import AsyncClient, Client
from dcnios_daemon.client.wanted import Wanted, cloudevent, dcache_file, kafka_record, minio_object
from dcnios_daemon.core.ports import Failure, State

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "DaemonAway",
    "Delivery",
    "DeliveryDead",
    "Failure",
    "NotRun",
    "NotYet",
    "Outcome",
    "Refused",
    "State",
    "Wanted",
    "cloudevent",
    "dcache_file",
    "kafka_record",
    "minio_object",
]
