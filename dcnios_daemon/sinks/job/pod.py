"""The part of a pod's spec that is the same for every order of a route. Pure.

With staging a pod is a chain that Kubernetes itself runs in order and stops at the first failure: init
container ``stage-in``, then ``run``, then ``stage-out``, over one emptyDir. The last of them is the main
container, the others are init containers, so that each has its own exit code and none runs after a failure.
"""

from collections.abc import Mapping, Sequence

import msgspec

from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.core.units import size
from dcnios_daemon.kubernetes.pods import Json, limits, literal, merge, mounts, volume_source, with_gpu
from dcnios_daemon.sinks.kubernetes.making import read_script
from dcnios_daemon.sinks.kubernetes.verdict import RUN, STAGE_IN, STAGE_OUT
from dcnios_daemon.sinks.spec import PodRun
from dcnios_daemon.staging.contract import CREDENTIALS, OUTPUT

EVENT_FOLDER, EVENT_NAME = "/dcnios", "event.json"
EVENT_FILE = f"{EVENT_FOLDER}/{EVENT_NAME}"
WORK_DIR = "/dcnios-work"
PLAN_FOLDER = "/dcnios-staging"
PLAN_FILE = "plan.json"
PLAN_KEY = "dcnios-daemon/staging"
"""The pod's annotation that holds the staging plan, mounted into the staging containers only."""
EVENT_VOLUME, WORK_VOLUME, PLAN_VOLUME = "dcnios-event", "dcnios-work", "dcnios-staging"
CREDENTIALS_VOLUME = "dcnios-credentials"
GPU, GPU_TYPE = "nvidia.com/gpu", "nvidia.com/gpu.product"
"""The resource, and the label by which NVIDIA's feature discovery tells what is in a node."""
ARGUMENT_LIMIT = 128 * 1024 - 1
"""Bytes that Linux takes in one argument (``MAX_ARG_STRLEN`` less its end)."""
_STAGING_MEMORY = "256Mi"


class Place(msgspec.Struct, frozen=True):
    """Where in a pod's spec the container stands that runs the user's work."""

    group: str
    """``containers`` or ``initContainers``."""
    index: int

    def container(self, pod: Json) -> Json:
        """That container."""
        found: Json = pod[self.group][self.index]
        return found

    def replace(self, pod: Json, container: Json) -> Json:
        """A copy of the pod's spec with another container there."""
        group = list(pod[self.group])
        group[self.index] = container
        return {**pod, self.group: group}


def find(pod: Json) -> Place:
    """The container called ``run``, else the first."""
    for group in ("initContainers", "containers"):
        for index, container in enumerate(pod.get(group, ())):
            if container.get("name") == RUN:
                return Place(group, index)
    return Place("containers", 0)


def pod_spec(run: PodRun, *, where: str, staging_image: str | None) -> Json:
    """The pod's spec without the payload and the variables that tell of it.

    Raises:
        ConfigError: It cannot work; names the key.
    """
    if not run.image:
        raise ConfigError(f"{where}: give an image or a manifest")
    chain = {RUN: _run_container(run, where=where)}
    staged = [STAGE_IN] * run.stage_in + [STAGE_OUT] * bool(run.stage_out)
    if staged and not staging_image:
        raise ConfigError(f"{where}: staging needs kubernetes.staging_image, the image of this program")
    for name in staged:
        chain[name] = _stage_container(name, str(staging_image), run)
    mount = {"name": WORK_VOLUME, "mountPath": WORK_DIR if run.stage_in else f"{WORK_DIR}/{OUTPUT}"}
    for container in chain.values():
        container["volumeMounts"] = [mount, *container["volumeMounts"]]
    return _assemble(
        run, chain, volumes=[{"name": WORK_VOLUME, "emptyDir": {}}, *_volumes(run, bool(staged))]
    )


def _assemble(run: PodRun, chain: Mapping[str, Json], *, volumes: Sequence[Json]) -> Json:
    overlay = dict(run.pod)
    others: dict[str, list[Json]] = {"initContainers": [], "containers": []}
    found = dict(chain)
    for group, extra in others.items():
        for container in overlay.pop(group, ()):
            name = container.get("name")
            if name in found:
                found[name] = merge(found[name], container)
            else:
                extra.append(container)
    *before, main = [found[name] for name in (STAGE_IN, RUN, STAGE_OUT) if name in found]
    pod: Json = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "containers": [main, *others["containers"]],
        "volumes": list(volumes),
    }
    pod |= _placement(run)
    if before or others["initContainers"]:
        pod["initContainers"] = [*others["initContainers"], *before]
    if run.service_account:
        pod["serviceAccountName"] = run.service_account
    else:
        pod["automountServiceAccountToken"] = False
    if run.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in run.image_pull_secrets]
    merged: Json = merge(pod, overlay)
    return merged


def _placement(run: PodRun) -> Json:
    """What brings a pod to nodes with GPUs. Many sites keep all others away from these by a taint."""
    wanted: Json = {"runtimeClassName": run.runtime_class} if run.runtime_class else {}
    if run.resources.gpu_type:
        wanted["nodeSelector"] = {GPU_TYPE: run.resources.gpu_type}
    if run.resources.gpu:
        wanted["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    return wanted


def _container(name: str, image: str) -> Json:
    return {
        "name": name,
        "image": image,
        # The end of a failed container's log then comes with its exit code, and outlives the container.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False},
    }


def _run_container(run: PodRun, *, where: str) -> Json:
    container = _container(RUN, str(run.image))
    script = read_script(run, where=where)
    if script is not None:
        if len(script.encode()) > ARGUMENT_LIMIT:
            raise ConfigError(f"{where}: the script has over {ARGUMENT_LIMIT} bytes: put it into the image")
        container |= {"command": ["/bin/sh", "-c", literal(script)]}
    if run.command:
        container["command"] = [literal(word) for word in run.command]
    if run.args:
        container["args"] = [literal(word) for word in run.args]
    if wanted := with_gpu(run.resources):
        container["resources"] = {"limits": wanted}
    container["volumeMounts"] = [event_mount(), *mounts(run.volumes)]
    return container


def _stage_container(name: str, image: str, run: PodRun) -> Json:
    step = {STAGE_IN: "in", STAGE_OUT: "out"}[name]
    plan = f"{PLAN_FOLDER}/{PLAN_FILE}"
    container = _container(name, image)
    container["command"] = ["dcnios", "stage", step, "--plan", plan, "--work-dir", WORK_DIR]
    container["volumeMounts"] = [{"name": PLAN_VOLUME, "mountPath": PLAN_FOLDER, "readOnly": True}]
    if name == STAGE_OUT:
        container["volumeMounts"] += [
            {"name": volume, "mountPath": f"{CREDENTIALS}/{secret}", "readOnly": True}
            for volume, secret in _credentials(run).items()
        ]
    # The pod is placed by the largest of the chain, so that the same limits cost nothing more; a namespace
    # with a quota takes no container without them.
    if wanted := limits(run.resources):
        if "memory" in wanted and _bytes(wanted["memory"]) < _bytes(_STAGING_MEMORY):
            wanted["memory"] = _STAGING_MEMORY
        container["resources"] = {"limits": wanted}
    return container


def _bytes(memory: str) -> float:
    """A Kubernetes quantity. Units that no machine has (P, E) are more than any other."""
    try:
        return size(memory)
    except ValueError:
        return float("inf")


def _volumes(run: PodRun, staged: bool) -> list[Json]:  # noqa: FBT001
    made = [{"name": name, **volume_source(volume)} for name, volume in run.volumes.items()]
    if staged:
        made.insert(0, {"name": PLAN_VOLUME, **from_annotation(PLAN_KEY, PLAN_FILE)})
    made += [
        {"name": volume, "secret": {"secretName": secret}} for volume, secret in _credentials(run).items()
    ]
    return made


def _credentials(run: PodRun) -> Mapping[str, str]:
    """Volume name to the Secret with a store's keys. A Secret's own name may be too long for a volume."""
    secrets = sorted({out.secret for out in run.stage_out.values() if out.secret is not None})
    return {f"{CREDENTIALS_VOLUME}-{number}": secret for number, secret in enumerate(secrets)}


def event_mount() -> Json:
    """Where the payload is mounted."""
    return {"name": EVENT_VOLUME, "mountPath": EVENT_FOLDER, "readOnly": True}


def from_annotation(key: str, file: str) -> Json:
    """A volume with one file that holds an annotation of the pod, byte for byte."""
    field = {"fieldPath": f"metadata.annotations['{key}']"}
    return {"downwardAPI": {"items": [{"path": file, "fieldRef": field}]}}
