"""Looks whether there are virtual nodes, and whether we may see them and send Jobs there."""

from collections.abc import Mapping, Sequence

import msgspec

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.login import KubernetesSettings
from dcnios_daemon.kubernetes.rights import FOLLOWING, missing
from dcnios_daemon.sinks.interlink.admission import is_meant
from dcnios_daemon.sinks.interlink.objects import VirtualNode
from dcnios_daemon.sinks.interlink.settings import InterlinkRun
from dcnios_daemon.sinks.kubernetes.watch import decode

NEEDED = {**FOLLOWING, "nodes": ("list", "watch")}
"""As ``deploy/kubernetes/rights`` and ``deploy/kubernetes/interlink`` grant it."""


class _Nodes(msgspec.Struct):
    items: list[VirtualNode] = []


_DECODER = msgspec.json.Decoder(_Nodes)


def neighbour(run: InterlinkRun) -> str:
    """The virtual node, or the labels of those that will do: what is away there is no other's trouble."""
    return run.node or ",".join(f"{key}={value}" for key, value in run.selector.items())


async def check(
    *,
    kubernetes: KubernetesSettings,
    any_payload: bool,  # noqa: ARG001 - all kinds are asked alike
    runs: Mapping[str, InterlinkRun],
) -> Sequence[str]:
    """What is missing. See :class:`~dcnios_daemon.sinks.registry.SinkKind`."""
    session = ClusterSession(kubernetes, SystemClock())
    try:
        if lacking := await missing(session, NEEDED):
            return lacking
        found = decode(_DECODER, await session.request("GET", "nodes")).items
    finally:
        await session.aclose()
    return [words for place, run in runs.items() for words in _look(place, run, found)]


def _look(place: str, run: InterlinkRun, nodes: Sequence[VirtualNode]) -> list[str]:
    """What keeps all nodes from taking the run; nothing where one takes it, or Kueue chooses."""
    if not run.selector:
        return []
    meant = [node for node in nodes if is_meant(node, run)]
    if not meant:
        return [f"there is no virtual node {neighbour(run)}: correct {place}.node or node_labels"]
    troubles = {node.metadata.name: node.trouble or _too_small(node, run) for node in meant}
    if not all(troubles.values()):
        return []
    return [f"virtual node {name} {trouble}: {place} waits" for name, trouble in troubles.items()]


def _too_small(node: VirtualNode, run: InterlinkRun) -> str:
    wanted = run.resources.gpu
    return f"has {node.gpus} GPUs, and the run takes {wanted}" if wanted > node.gpus else ""
