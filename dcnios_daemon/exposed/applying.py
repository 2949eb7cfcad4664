"""Brings services into the cluster and takes them away. Only what carries our labels is ever touched."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from dcnios_daemon.core.errors import OrderRefused
from dcnios_daemon.exposed.objects import MADE_OF, Object, places
from dcnios_daemon.kubernetes.answers import Contested, Missing
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.marks import MANAGED_BY, MANAGER, SERVICE
from dcnios_daemon.kubernetes.pods import Json

FIELD_MANAGER = "dcnios-daemon"
_WE = (FIELD_MANAGER, "Apply")
_GATEWAY_API = "httproutes"


class _Held(msgspec.Struct, rename="camel"):
    """Who set which fields, and when that last changed."""

    manager: str = ""
    operation: str = ""
    time: str = ""
    fields_v1: Any = None


class _Meta(msgspec.Struct, rename="camel"):
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    resource_version: str = ""
    generation: int = 0
    uid: str = ""
    managed_fields: tuple[_Held, ...] = ()

    def ours(self) -> object:
        """What differs exactly when we change something. The version does so whenever a controller writes
        the status, too."""
        held = [item for item in self.managed_fields if (item.manager, item.operation) == _WE]
        return self.generation, held


class _There(msgspec.Struct):
    """What we look at of an object. Of a Secret the values are not even read."""

    metadata: _Meta = msgspec.field(default_factory=_Meta)


async def apply(
    session: ClusterSession,
    name: str,
    wanted: Sequence[Object],
    *,
    force: bool = False,
    dry_run: bool = False,
) -> AsyncIterator[str]:
    """Make it so, and tell what was done, a line for each object that is not as before.

    Args:
        session: The cluster.
        name: The service's name.
        wanted: All its objects. What an earlier apply made and is not among them is deleted.
        force: Take fields from others who set them.
        dry_run: Let the cluster say what it would do, and do nothing.

    Raises:
        OrderRefused: An object of that name is not ours, or others hold a field, or the cluster refuses.
        SinkUnavailable: The cluster does not answer.
    """
    before = {path: await _look(session, path) for path in places(name)}
    for wish in wanted:
        if (there := before[wish.path]) is not None and not _is_ours(there, name):
            raise OrderRefused(
                f"{wish.path} is there and is no part of service {name!r}: give the service another name, "
                "or delete that first"
            )
    query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
    made_of: list[str] = []
    for wish in wanted:
        there = before[wish.path]
        if there is not None and wish.made_once:
            now = there
        else:
            body = msgspec.json.encode(_stamped(wish, made_of))
            now = await _apply(session, wish, body, query | ({"force": "true"} if force else {}))
        if wish.is_read_at_start:
            made_of.append(now.metadata.resource_version)
        if done := _difference(there, now, wish):
            yield f"{wish.path} {done}"
    kept = {wish.path for wish in wanted}
    for path, found in before.items():
        if path not in kept and found is not None and _is_ours(found, name):
            await _delete(session, path, found, dry_run=dry_run)
            yield f"{path} deleted"


async def delete(session: ClusterSession, name: str, *, dry_run: bool = False) -> AsyncIterator[str]:
    """Take away all that makes the service, and tell what. What is called so but not ours stays.

    Raises:
        SinkUnavailable, OrderRefused: See :func:`apply`.
    """
    for path in places(name):
        found = await _look(session, path)
        if found is None:
            continue
        if _is_ours(found, name):
            await _delete(session, path, found, dry_run=dry_run)
            yield f"{path} deleted"
        else:
            yield f"{path} is not ours: left alone"


async def _look(session: ClusterSession, path: str) -> _There | None:
    try:
        return msgspec.json.decode(await session.request("GET", path), type=_There)
    except Missing:  # the object, or for HTTPRoutes perhaps the kind itself
        return None


def _is_ours(there: _There, name: str) -> bool:
    labels = there.metadata.labels
    return labels.get(MANAGED_BY) == MANAGER and labels.get(SERVICE) == name


def _difference(before: _There | None, now: _There, wish: Object) -> str:
    if before is None:
        return "created"
    old, new = before.metadata, now.metadata
    if wish.is_read_at_start:  # these have no status
        return "" if old.resource_version == new.resource_version else "changed"
    return "" if old.ours() == new.ours() else "changed"


def _stamped(wish: Object, made_of: Sequence[str]) -> Json:
    """A Deployment with the versions of what its pods read when they start."""
    if wish.resource != "deployments" or not made_of:
        return wish.body
    template: Any = wish.body["spec"]["template"]
    meta = template["metadata"]
    stamp = {**meta.get("annotations", {}), MADE_OF: ".".join(made_of)}
    stamped = {**template, "metadata": {**meta, "annotations": stamp}}
    return {**wish.body, "spec": {**wish.body["spec"], "template": stamped}}


async def _apply(session: ClusterSession, wish: Object, body: bytes, query: dict[str, str]) -> _There:
    try:
        return msgspec.json.decode(await session.apply(wish.path, body, query), type=_There)
    except Contested as error:
        raise OrderRefused(
            f"{wish.path}: others set the same fields: {error}; take them with --force, or leave them be"
        ) from error
    except Missing as error:
        if wish.resource == _GATEWAY_API:
            raise OrderRefused(
                f"{wish.path}: the cluster has no HTTPRoutes (gateway.networking.k8s.io/v1): install the "
                "Gateway API, or leave expose.gateway out for an Ingress"
            ) from error
        raise


async def _delete(session: ClusterSession, path: str, found: _There, *, dry_run: bool) -> None:
    """Exactly the object that was looked at, not one that took its name since."""
    options = {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "propagationPolicy": "Background",
        "preconditions": {"uid": found.metadata.uid},
        **({"dryRun": ["All"]} if dry_run else {}),  # beside a body the query is not looked at (tried)
    }
    try:
        await session.request("DELETE", path, body=msgspec.json.encode(options))
    except Missing:
        return  # somebody else was quicker
