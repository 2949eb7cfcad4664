"""Looks whether Jobs could be made and followed: who we are in the cluster, and what we may do there."""

from collections.abc import Mapping, Sequence

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.login import KubernetesSettings
from dcnios_daemon.kubernetes.rights import FOLLOWING, missing

_PAYLOADS = {"secrets": ("create", "get", "patch", "delete")}
"""What payloads need that no annotation holds."""


async def check(
    *,
    kubernetes: KubernetesSettings,
    any_payload: bool,
    runs: Mapping[str, object],  # noqa: ARG001 - all kinds are asked alike
) -> Sequence[str]:
    """What is missing. See :class:`~dcnios_daemon.sinks.registry.SinkKind`."""
    session = ClusterSession(kubernetes, SystemClock())
    try:
        return await missing(session, {**FOLLOWING, **(_PAYLOADS if any_payload else {})})
    finally:
        await session.aclose()
