"""Who we are in the cluster, and what we may do there: asked without doing any of it."""

from collections.abc import Mapping

import msgspec

from dcnios_daemon.core.errors import OrderRefused, SinkUnavailable
from dcnios_daemon.kubernetes.answers import Missing, Unrecognised
from dcnios_daemon.kubernetes.calls import api_group
from dcnios_daemon.kubernetes.cluster import ClusterSession

Verbs = Mapping[str, tuple[str, ...]]

FOLLOWING: Verbs = {
    "jobs": ("create", "get", "list", "watch"),
    "pods": ("list", "watch"),
    "pods/log": ("get",),
}
"""What making Jobs and seeing their ends takes, as ``deploy/kubernetes/rights`` grants it."""
_EVERYWHERE = frozenset({"nodes"})
"""Resources of no namespace."""


class _Verdict(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Verdict = msgspec.field(default_factory=_Verdict)


async def missing(
    session: ClusterSession, needed: Verbs, *, granted_in: str = "deploy/kubernetes/rights"
) -> list[str]:
    """What of these rights we lack, a sentence each; or that there is no such namespace.

    Args:
        session: The cluster.
        needed: Resource to verbs.
        granted_in: Which manifests of ours grant them.

    Raises:
        SinkUnavailable, OrderRefused: The cluster could not be asked.
    """
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
    inside = f"in namespace {namespace!r}{maybe}"
    lacking = [
        f"{', '.join(verbs)} {resource} {'in the cluster' if resource in _EVERYWHERE else inside}"
        for resource, verbs in denied.items()
    ]
    return [f"no right to {what}: grant it, see {granted_in}" for what in lacking]


async def _denied(session: ClusterSession, namespace: str, needed: Verbs) -> dict[str, list[str]]:
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
        "namespace": "" if kind in _EVERYWHERE else namespace,
        "verb": verb,
        "group": api_group(kind),
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
