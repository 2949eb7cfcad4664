"""Looks whether services could be applied: who we are in the cluster, and what we may do there."""

from collections.abc import Sequence

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.login import KubernetesSettings
from dcnios_daemon.kubernetes.rights import missing

_CHANGING = ("create", "get", "patch", "delete")
_KINDS = (
    "configmaps",
    "cronjobs",
    "horizontalpodautoscalers",
    "httproutes",
    "ingresses",
    "secrets",
    "services",
)
NEEDED = {
    "deployments": (*_CHANGING, "list"),
    "deployments/scale": ("patch",),
    "pods": ("list",),
    "pods/log": ("get",),
    **dict.fromkeys(_KINDS, _CHANGING),
}
"""What the commands take, as ``deploy/kubernetes/services`` grants it: ``apply`` looks at every place where a
part of the service may be left from before."""


async def check(kubernetes: KubernetesSettings) -> Sequence[str]:
    """What is missing, a sentence each."""
    session = ClusterSession(kubernetes, SystemClock())
    try:
        return await missing(session, NEEDED, granted_in="deploy/kubernetes/services")
    finally:
        await session.aclose()
