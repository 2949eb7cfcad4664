"""The Secret that carries a payload which no annotation can: made before its Job, and gone with it.

Before, so that no pod ever waits for it; a crash between the two leaves it for the next try, which finds it.
"""

import msgspec

from dcnios_daemon.core.errors import OrderRefused, SinkError
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.marks import CARRIER
from dcnios_daemon.sinks.kubernetes.objects import Job, Meta
from dcnios_daemon.telemetry.events import PayloadLeft


def carries_secret(job: Job) -> bool:
    """Whether the Job's payload is in a Secret of its name."""
    return job.metadata.labels.get(CARRIER) == "secret"


async def adopt(session: ClusterSession, job: Meta) -> None:
    """Make the Secret go when its Job goes. Adopting twice is once.

    Raises:
        SinkUnavailable, SinkBusy: Not known to be adopted: try again.
    """
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job.name, "uid": job.uid}
    body = msgspec.json.encode({"metadata": {"ownerReferences": [owner]}})
    try:
        await session.request("PATCH", f"secrets/{job.name}", body=body)
    except OrderRefused as error:
        PayloadLeft(secret=job.name, error=str(error)).emit()


async def take_back(session: ClusterSession, name: str) -> None:
    """Remove the Secret of a Job that will never be."""
    try:
        await session.request("DELETE", f"secrets/{name}")
    except SinkError as error:
        PayloadLeft(secret=name, error=str(error)).emit()
