"""Looks whether Jobs could be made and followed: who we are in the cluster, and what we may do there."""

from collections.abc import Mapping, Sequence

import msgspec

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import OrderRefused, SinkUnavailable
from dcnios_daemon.sinks.kubernetes.answers import Missing, Unrecognised
from dcnios_daemon.sinks.kubernetes.cluster import ClusterSession, KubernetesSettings

_JOBS = {
    "jobs": ("create", "get", "list", "watch"),
    "pods": ("list", "watch"),
    "pods/log": ("get",),
}
"""All that this package does, as ``deploy/kubernetes/rights`` grants it."""
_PAYLOADS = {"secrets": ("create", "get", "patch", "delete")}
"""What payloads need that no annotation holds."""
_GROUPS = {"jobs": "batch"}


class _Verdict(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Verdict = msgspec.field(default_factory=_Verdict)


async def check(
    *,
    kubernetes: KubernetesSettings,
    any_payload: bool,
    runs: Mapping[str, object],  # noqa: ARG001 - all kinds are asked alike
) -> Sequence[str]:
    """What is missing. See :class:`~dcnios_daemon.sinks.registry.SinkKind`."""
    session = ClusterSession(kubernetes, SystemClock())
    try:
        return await _look(session, _JOBS | (_PAYLOADS if any_payload else {}))
    finally:
        await session.aclose()


async def _look(session: ClusterSession, needed: dict[str, tuple[str, ...]]) -> list[str]:
    namespace = await session.namespace()
    try:
        denied = await _denied(session, namespace, needed)
    except Unrecognised as error:
        raise SinkUnavailable(f"the cluster does not know our credential: {error}") from error
    try:
        await session.request("GET", f"namespaces/{namespace}")
        maybe = ""
    except Missing:
        return [f"namespace {namespace!r} does not exist: create it, or correct kubernetes.namespace"]
    except OrderRefused:
        maybe = ", if there is such a namespace"  # only those with rights over the whole cluster may ask
    return [
        f"no right to {', '.join(verbs)} {resource} in namespace {namespace!r}{maybe}: grant it, "
        "see deploy/kubernetes/rights"
        for resource, verbs in denied.items()
    ]


async def _denied(
    session: ClusterSession, namespace: str, needed: dict[str, tuple[str, ...]]
) -> dict[str, list[str]]:
    """Resource to the verbs that we may not use."""
    denied: dict[str, list[str]] = {}
    for resource, verbs in needed.items():
        for verb in verbs:
            if not await _may(session, namespace, resource, verb=verb):
                denied.setdefault(resource, []).append(verb)
    return denied


async def _may(session: ClusterSession, namespace: str, resource: str, *, verb: str) -> bool:
    kind, _, part = resource.partition("/")
    asked = {
        "namespace": namespace,
        "verb": verb,
        "group": _GROUPS.get(kind, ""),
        "resource": kind,
        "subresource": part,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": asked},
    }
    body = msgspec.json.encode(review)
    answer = await session.request("POST", "selfsubjectaccessreviews", body=body)
    return msgspec.json.decode(answer, type=_Review).status.allowed
