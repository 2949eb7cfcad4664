"""What everything that runs in a pod shares: keys of its settings, and the parts of a pod's spec. Pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from dcnios_daemon.core.settings import Settings

Json = dict[str, Any]

Quantity = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(m|[kKMGTPE]i?)?$")]
"""A Kubernetes quantity, as text: ``500m``, ``2``, ``512Mi``."""
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""An environment variable that a shell can name."""
VolumeName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
SecretName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", max_length=253)]
"""A Kubernetes object's name."""


class Resources(Settings):
    """What one run needs."""

    cpu: Quantity | None = None
    memory: Quantity | None = None
    gpu: Annotated[int, Field(ge=0)] = 0


class Volume(Settings):
    """Something mounted into a run. For kinds that have no key here, use the ``pod`` overlay."""

    mount: Annotated[str, StringConstraints(pattern=r"^/")]
    """Where the run sees it."""
    claim: str | None = None
    """A PersistentVolumeClaim."""
    secret: str | None = None
    """A Kubernetes Secret, each key a file."""
    config_map: str | None = None
    host_path: str | None = None
    """A folder of the node."""
    empty: bool = False
    """A folder of the pod's own, gone with it."""
    read_only: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> "Volume":
        given = (self.claim, self.secret, self.config_map, self.host_path, self.empty)
        if sum(bool(kind) for kind in given) != 1:
            raise ValueError("give one of claim, secret, config_map, host_path, empty")
        return self


def literal(text: str) -> str:
    """The text as it must stand in a container's command, arguments and environment, where Kubernetes would
    replace ``$(NAME)`` and take ``$$`` for ``$``.
    """
    return text.replace("$", "$$")


def from_secret(variable: str, address: str) -> Json:
    """A variable that holds a Secret's key; the address is ``name/key``."""
    name, _, key = address.partition("/")
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def limits(resources: Resources) -> Json:
    """CPU and memory as a container's limits, which are its requests then, too."""
    given = {"cpu": resources.cpu, "memory": resources.memory}
    return {name: amount for name, amount in given.items() if amount}


def with_gpu(resources: Resources) -> Json:
    """The same and the GPUs."""
    gpu = {"nvidia.com/gpu": str(resources.gpu)} if resources.gpu else {}
    return {**limits(resources), **gpu}


def mounts(volumes: Mapping[str, Volume]) -> list[Json]:
    """Where a container sees them."""
    return [
        {"name": name, "mountPath": volume.mount, **({"readOnly": True} if volume.read_only else {})}
        for name, volume in volumes.items()
    ]


def volume_source(volume: Volume) -> Json:
    """What is mounted."""
    if volume.claim:
        return {"persistentVolumeClaim": {"claimName": volume.claim, "readOnly": volume.read_only}}
    if volume.secret:
        return {"secret": {"secretName": volume.secret}}
    if volume.config_map:
        return {"configMap": {"name": volume.config_map}}
    if volume.host_path:
        return {"hostPath": {"path": volume.host_path}}
    return {"emptyDir": {}}


def merge(base: Any, overlay: Any) -> Any:  # noqa: ANN401 - any JSON
    """The overlay laid over the base: maps key by key; lists of things with names (or mount paths) by these;
    anything else is replaced.
    """
    if isinstance(base, Mapping) and isinstance(overlay, Mapping):
        return {**base, **{key: merge(base.get(key), value) for key, value in overlay.items()}}
    if isinstance(base, list) and isinstance(overlay, list):
        for key in ("mountPath", "name"):
            if all(isinstance(item, Mapping) and key in item for item in (*base, *overlay)):
                return _merge_by(key, base, overlay)
    return overlay


def _merge_by(key: str, base: Sequence[Json], overlay: Sequence[Json]) -> list[Json]:
    merged = {item[key]: item for item in base}
    for item in overlay:
        merged[item[key]] = merge(merged.get(item[key]), item)
    return list(merged.values())
