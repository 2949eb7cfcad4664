"""How services are: what the cluster says of their Deployments and pods, in a line each."""

import base64
from collections.abc import AsyncGenerator, Mapping, Sequence

import msgspec

from dcnios_daemon.core.errors import OrderRefused
from dcnios_daemon.exposed.reach import PORT
from dcnios_daemon.exposed.settings import Service
from dcnios_daemon.kubernetes.answers import Missing
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.marks import MANAGED_BY, MANAGER, SERVICE

_OURS = f"{MANAGED_BY}={MANAGER},{SERVICE}"
_QUIET = 3600.0
"""Seconds without a line after which following a log ends."""


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    creation_timestamp: str = ""


class _Replicas(msgspec.Struct, rename="camel"):
    replicas: int = 1


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""
    message: str = ""


class _Ready(msgspec.Struct, rename="camel"):
    ready_replicas: int = 0
    conditions: tuple[_Condition, ...] = ()


class Deployment(msgspec.Struct):
    """https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/."""

    metadata: _Meta = msgspec.field(default_factory=_Meta)
    spec: _Replicas = msgspec.field(default_factory=_Replicas)
    status: _Ready = msgspec.field(default_factory=_Ready)


class _Reason(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _ContainerState(msgspec.Struct):
    waiting: _Reason | None = None


class _ContainerStatus(msgspec.Struct, rename="camel"):
    state: _ContainerState = msgspec.field(default_factory=_ContainerState)


class _PodStatus(msgspec.Struct, rename="camel"):
    container_statuses: tuple[_ContainerStatus, ...] = ()
    init_container_statuses: tuple[_ContainerStatus, ...] = ()
    conditions: tuple[_Condition, ...] = ()


class _Pod(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)


class _Deployments(msgspec.Struct):
    items: tuple[Deployment, ...] = ()


class _Pods(msgspec.Struct):
    items: tuple[_Pod, ...] = ()


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """How one service is."""

    name: str
    kind: str
    """Empty for one that is in the cluster, and not in the configuration."""
    state: str
    """``serving``, ``starting``, ``asleep``, ``absent``."""
    ready: int = 0
    wanted: int = 0
    reason: str = ""
    """Why it does not serve, in the cluster's words."""
    url: str = ""


async def look(session: ClusterSession, services: Mapping[str, tuple[str, Service]]) -> Sequence[Seen]:
    """All services: those of the configuration, then those that only the cluster has.

    Args:
        session: The cluster.
        services: Name to kind and settings.

    Raises:
        SinkUnavailable, OrderRefused: The cluster does not say.
    """
    query = {"labelSelector": _OURS}
    answer = await session.request("GET", "deployments", query=query)
    there = {
        item.metadata.labels[SERVICE]: item for item in msgspec.json.decode(answer, type=_Deployments).items
    }
    pods = msgspec.json.decode(await session.request("GET", "pods", query=query), type=_Pods).items
    reasons: dict[str, str] = {}
    for pod in pods:
        if reason := _why(pod):
            reasons.setdefault(pod.metadata.labels[SERVICE], reason)
    namespace = await session.namespace()
    found = []
    for name in dict.fromkeys([*services, *there]):
        kind, service = services.get(name, ("", None))
        inside = f"http://{name}.{namespace}:{PORT}"
        url = service.expose.url if service is not None and service.expose is not None else inside
        found.append(_describe(name, kind, there.get(name), reason=reasons.get(name, ""), url=url))
    return found


def _describe(name: str, kind: str, there: Deployment | None, *, reason: str, url: str) -> Seen:
    if there is None:
        return Seen(name=name, kind=kind, state="absent", reason="not applied yet")
    wanted, ready = there.spec.replicas, there.status.ready_replicas
    state = "asleep" if wanted == 0 else "serving" if ready >= wanted else "starting"
    refused = [item.message for item in there.status.conditions if item.type == "ReplicaFailure"]
    why = "" if state != "starting" else " ".join(refused) or reason
    if not kind:
        why = why or "not in the configuration"
    return Seen(name=name, kind=kind, state=state, ready=ready, wanted=wanted, reason=why, url=url)


def _why(pod: _Pod) -> str:
    """Why a pod does not run: what its containers wait for, else what the scheduler says."""
    states = [*pod.status.init_container_statuses, *pod.status.container_statuses]
    waiting = [status.state.waiting for status in states if status.state.waiting is not None]
    said = [f"{reason.reason}: {reason.message}".rstrip(": ") for reason in waiting]
    said += [
        item.message
        for item in pod.status.conditions
        if item.type == "PodScheduled" and item.status == "False"
    ]
    return said[0] if said else ""


async def logs(session: ClusterSession, name: str, *, tail: int, follow: bool) -> AsyncGenerator[str]:
    """The last lines of the service's newest pod, and with ``follow`` those to come.

    Raises:
        OrderRefused: There is no pod.
        SinkUnavailable: The cluster does not answer.
    """
    query = {"labelSelector": f"{MANAGED_BY}={MANAGER},{SERVICE}={name}"}
    pods = msgspec.json.decode(await session.request("GET", "pods", query=query), type=_Pods).items
    if not pods:
        raise OrderRefused(f"service {name!r} has no pod: it sleeps, or was not applied")
    newest = max(pods, key=lambda pod: pod.metadata.creation_timestamp).metadata.name
    asked = {"tailLines": str(tail), **({"follow": "true"} if follow else {})}
    async for line in session.lines(f"pods/{newest}/log", asked, quiet=_QUIET):
        yield line.decode(errors="replace")


class _Secret(msgspec.Struct):
    data: dict[str, str] = msgspec.field(default_factory=dict)


async def token(session: ClusterSession, name: str) -> str:
    """What lets people in.

    Raises:
        OrderRefused: The service has none, or was not applied.
        SinkUnavailable: The cluster does not answer.
    """
    try:
        answer = await session.request("GET", f"secrets/{name}-token")
    except Missing as error:
        raise OrderRefused(f"service {name!r} has no token: it uses none, or was not applied") from error
    return base64.b64decode(msgspec.json.decode(answer, type=_Secret).data["token"]).decode()
