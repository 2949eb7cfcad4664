"""What interLink cannot carry to an HPC, said before anything is submitted. Pure.

Over there such a thing is dropped without a word, or breaks the plugin: what was seen is written beside each.
Read from interLink 0.6.2 and its Slurm plugin, and tried on the real ones.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]

_ONE = "one container is all that an HPC's job is: "
_POD = {
    "initContainers": _ONE + "the exit codes of init containers get lost there",
    "ephemeralContainers": _ONE + "there is nothing to debug it from",
    "imagePullSecrets": "the HPC pulls images with its own credentials",
    "serviceAccountName": "no token of the cluster goes to the HPC",
    "hostAliases": "it is ignored there",
    "dnsConfig": "it is ignored there",
    "dnsPolicy": "it is ignored there",
    "terminationGracePeriodSeconds": "it is ignored there",
    "activeDeadlineSeconds": "it is ignored there; the run's deadline is not",
    "runtimeClassName": "it is ignored there",
    "resourceClaims": "it is ignored there",
}
_CONTAINER = {
    "livenessProbe": "probes are ignored there, or keep the pod from ever running",
    "readinessProbe": "probes are ignored there, or keep the pod from ever running",
    "startupProbe": "probes are ignored there, or keep the pod from ever running",
    "lifecycle": "hooks are ignored there",
    "ports": "nothing reaches a pod there but through a tunnel, which deliveries have no use for",
    "workingDir": "it is ignored there: change the folder in the script",
    "envFrom": "name each variable in `secrets`, or in the overlay's `env`",
    "volumeDevices": "it is ignored there",
    "resizePolicy": "it is ignored there",
}
_VOLUMES = {
    "downwardAPI": "its files never arrive there",
    "projected": "its Secrets never arrive there, and its tokens should not",
    "configMap": "newlines in its texts change on the way: put them into a Secret",
    "persistentVolumeClaim": "it is not there, and makes all other mounts vanish: use binds",
    "csi": "it is not there, and makes all other mounts vanish: use binds",
    "ephemeral": "it is not there, and makes all other mounts vanish: use binds",
    "nfs": "it is not there, and makes all other mounts vanish: use binds",
}
_TYPES = frozenset({"Directory", "DirectoryOrCreate"})
_OWN_SYSTEM = frozenset({"virtual-kubelet"})


def not_carried(pod: Json, *, shared_fs: bool) -> list[str]:
    """Why interLink cannot carry this pod's spec, a sentence each; empty when it can.

    Args:
        pod: The spec as it would be submitted.
        shared_fs: Whether the HPC's plugin writes files to where the compute nodes see them.
    """
    containers = pod.get("containers", [])
    return [
        *_of_pod(pod),
        *(f"{len(containers)} containers: {_ONE}several would all start at once" for _ in containers[1:2]),
        *(words for container in containers for words in _of_container(container)),
        *(words for volume in pod.get("volumes", ()) for words in _of_volume(volume, shared_fs)),
    ]


def _of_pod(pod: Json) -> Iterator[str]:
    yield from (f"{key}: {why}" for key, why in _POD.items() if pod.get(key))
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken: no token of the cluster goes to the HPC"
    if pod.get("restartPolicy") != "Never":
        yield "restartPolicy: nothing is restarted there"
    system = (pod.get("nodeSelector") or {}).get("kubernetes.io/os")
    if system is not None and system not in _OWN_SYSTEM:
        yield f"nodeSelector: a virtual node's kubernetes.io/os is virtual-kubelet, never {system}"


def _of_container(container: Json) -> Iterator[str]:
    yield from (f"{key}: {why}" for key, why in _CONTAINER.items() if container.get(key))
    for entry in container.get("env", ()):
        source = entry.get("valueFrom") or {}
        if "resourceFieldRef" in source:
            yield f"env {entry.get('name')}: resourceFieldRef does not arrive there"
    given = container.get("resources") or {}
    limits, requests = given.get("limits") or {}, given.get("requests") or {}
    for kind in ("cpu", "memory"):
        if not limits.get(kind) or limits.get(kind) != requests.get(kind):
            yield f"resources: {kind} must be in limits and requests alike, else Slurm gives next to nothing"


def _of_volume(volume: Json, shared_fs: bool) -> Iterator[str]:  # noqa: FBT001
    name = volume.get("name")
    for kind in volume.keys() - {"name"}:
        why = _VOLUMES.get(kind)
        if kind == "secret":
            why = _of_secret(volume[kind] or {}, shared_fs)
        elif kind == "hostPath" and (volume[kind] or {}).get("type") not in _TYPES:
            why = "without type Directory or DirectoryOrCreate it brings the plugin down"
        elif kind not in {"hostPath", "emptyDir"} and why is None:
            why = "it is not there, and makes all other mounts vanish"
        if why:
            yield f"volume {name}: {kind}: {why}"


def _of_secret(secret: Mapping[str, Any], shared_fs: bool) -> str | None:  # noqa: FBT001
    if not shared_fs:
        return "files of Secrets arrive only where the plugin has SHARED_FS=true (shared_fs: true)"
    ignored = [key for key in ("items", "optional") if key in secret]
    return f"{', '.join(ignored)}: ignored there" if ignored else None
