"""A request to the API server: which of its addresses it goes to, and how it is sent. Pure."""

import functools
import io
from collections.abc import Mapping

import aiohttp
import msgspec

from dcnios_daemon import __version__

PIECE = 1024 * 1024
"""Bytes of a body that are sent at once."""
_CORE = "/api/v1"
_IN_NAMESPACE = {
    **dict.fromkeys(("configmaps", "pods", "secrets", "services"), _CORE),
    **dict.fromkeys(("cronjobs", "jobs"), "/apis/batch/v1"),
    "deployments": "/apis/apps/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "httproutes": "/apis/gateway.networking.k8s.io/v1",
    **dict.fromkeys(("ingresses", "networkpolicies"), "/apis/networking.k8s.io/v1"),
}
_IN_CLUSTER = {
    "namespaces": "/api/v1",
    "nodes": "/api/v1",
    "selfsubjectaccessreviews": "/apis/authorization.k8s.io/v1",
}
_JSON = "application/json"
_AGENT = f"dcnios-daemon/{__version__}"
_MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
"""Server-side apply. JSON is YAML."""
_WHO_IT_IS = f"{_JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{_JSON}"
"""Of what was just sent, only the metadata comes back: a tenth less CPU for a Job."""


class Call(msgspec.Struct, frozen=True):
    """One request."""

    method: str
    path: str
    """``jobs``, ``jobs/<name>``, ``pods/<name>/log``: below the namespace where the kind has one."""
    query: Mapping[str, str] | None
    body: bytes | None
    limits: aiohttp.ClientTimeout
    patch: str = _MERGE_PATCH
    """What the body of a PATCH is."""

    def address(self, namespace: str) -> str:
        """What comes after the server's URL."""
        kind = self.path.partition("/")[0]
        if kind in _IN_CLUSTER:
            return f"{_IN_CLUSTER[kind]}/{self.path}"
        return f"{_IN_NAMESPACE[kind]}/namespaces/{namespace}/{self.path}"

    def headers(self, authorization: str | None) -> Mapping[str, str]:
        """Who asks, what is sent, and what should come back."""
        sent = None if self.body is None else self.patch if self.method == "PATCH" else _JSON
        return _headers(sent, _WHO_IT_IS if sent and self.path not in _IN_CLUSTER else _JSON, authorization)

    def stream(self) -> bytes | io.BytesIO | None:
        """The body as aiohttp wants it: a large one in pieces, so that the loop has turns in between."""
        return io.BytesIO(self.body) if self.body and len(self.body) > PIECE else self.body


def api_group(resource: str) -> str:
    """The API group of a kind, as rights name it; empty for the core's.

    >>> api_group("deployments"), api_group("pods")
    ('apps', '')
    """
    prefix = (_IN_NAMESPACE | _IN_CLUSTER)[resource]
    return "" if prefix == _CORE else prefix.split("/")[2]


def api_version(resource: str) -> str:
    """What an object of this kind says in ``apiVersion``.

    >>> api_version("deployments"), api_version("secrets")
    ('apps/v1', 'v1')
    """
    prefix = _IN_NAMESPACE[resource]
    return prefix.removeprefix("/apis/").removeprefix("/api/")


@functools.lru_cache(maxsize=8)
def _headers(sent: str | None, wanted: str, authorization: str | None) -> Mapping[str, str]:
    """The same few all day."""
    found = {"User-Agent": _AGENT, "Accept": wanted}
    if sent:
        found["Content-Type"] = sent
    if authorization:
        found["Authorization"] = authorization
    return found
