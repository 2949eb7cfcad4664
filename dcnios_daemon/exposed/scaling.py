"""How many pods a service has now: people's stop and start, and what the CronJobs of ``sleep`` run."""

import datetime as dt

import aiohttp
import msgspec

from dcnios_daemon.core.errors import OrderRefused, SinkUnavailable
from dcnios_daemon.core.units import duration_text
from dcnios_daemon.exposed.seen import Deployment
from dcnios_daemon.kubernetes.answers import Missing
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.marks import MANAGED_BY, MANAGER, SERVICE

SCALER = "dcnios-services-scale"
"""Holds the number of replicas, which ``apply`` leaves to it."""
_SECONDS = 20.0


class _Activity(msgspec.Struct):
    """https://jupyter-server.readthedocs.io/en/latest/developers/rest-api.html: ``GET /api/status``."""

    last_activity: dt.datetime
    connections: int = 0


class _Kernel(msgspec.Struct):
    execution_state: str = ""


async def scale(session: ClusterSession, name: str, replicas: int) -> int:
    """Have that many pods. Returns how many there were to be before.

    Raises:
        OrderRefused: There is no such service, or it is not ours, or the cluster refuses.
        SinkUnavailable: The cluster does not answer.
    """
    path = f"deployments/{name}"
    try:
        found = msgspec.json.decode(await session.request("GET", path), type=Deployment)
    except Missing as error:
        raise OrderRefused(f"there is no service {name!r} in the cluster") from error
    labels = found.metadata.labels
    if (labels.get(MANAGED_BY), labels.get(SERVICE)) != (MANAGER, name):
        raise OrderRefused(f"{path} is not ours: left alone")
    if found.spec.replicas != replicas:
        body = msgspec.json.encode({"spec": {"replicas": replicas}})
        await session.request("PATCH", f"{path}/scale", body=body, query={"fieldManager": SCALER})
    return found.spec.replicas


async def why_busy(url: str, token: str, *, idle_for: float, now: dt.datetime) -> str | None:
    """Why a notebook server is not idle; None: it is.

    Args:
        url: Its ``/api``.
        token: What lets us in.
        idle_for: Seconds without anything that make it idle.
        now: With its time zone.

    Raises:
        SinkUnavailable: It does not say. Nothing is known then, so it is not to be stopped.
    """
    try:
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_SECONDS),
            raise_for_status=True,
            headers={"Authorization": f"token {token}"},
        ) as session:
            seen = msgspec.json.decode(await _read(session, f"{url}/status"), type=_Activity)
            kernels = msgspec.json.decode(await _read(session, f"{url}/kernels"), type=list[_Kernel])
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError, OSError) as error:
        said = str(error) or type(error).__name__
        raise SinkUnavailable(f"the notebook server does not say whether it is idle: {said}") from error
    quiet = (now - seen.last_activity).total_seconds()
    if any(kernel.execution_state == "busy" for kernel in kernels):
        return "a kernel works"
    if seen.connections:
        return f"{seen.connections} connected to kernels"
    if quiet < idle_for:
        return f"used {duration_text(max(0, round(quiet)))} ago"
    return None


async def _read(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url) as answer:
        return await answer.read()
