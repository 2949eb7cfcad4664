"""The parts of a Job that every sink which makes one writes alike. Pure."""

import base64
import math
from collections.abc import Iterable

from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.core.ports import Order
from dcnios_daemon.core.templating import Context, context
from dcnios_daemon.kubernetes.marks import INSTANCE, MANAGED_BY, MANAGER, QUEUE, ROUTE, route_label
from dcnios_daemon.kubernetes.pods import Json
from dcnios_daemon.sinks.spec import ContainerRun, PodRun

GIVEN = frozenset(
    {
        "DCNIOS_ATTEMPT",
        "DCNIOS_EVENT_FILE",
        "DCNIOS_KEY",
        "DCNIOS_ROUTE",
        "EVENT",
        "EVENT_TIME",
        "INPUT_FILE_PATH",
        "STORAGE_OBJECT_KEY",
        "TMP_OUTPUT_DIR",
    }
)
"""Variables that tell of the order: they mean the same in every run, so nobody else may set them."""


def common_labels(run: PodRun, *, route: str, instance: str) -> Json:
    """The labels of all that a route makes; an order adds its key."""
    return {
        **run.labels,
        **({QUEUE: run.queue} if run.queue else {}),
        MANAGED_BY: MANAGER,
        INSTANCE: instance,
        ROUTE: route_label(route),
    }


def job_spec(run: PodRun, *, deadline: float) -> Json:
    """What makes a Job of it that runs once, ends in time and goes away afterwards."""
    spec: Json = {
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "activeDeadlineSeconds": max(1, math.ceil(deadline)),
        "ttlSecondsAfterFinished": math.ceil(run.keep),
    }
    if run.suspend or run.queue:
        spec["suspend"] = True
    return spec


def check_names(run: PodRun, elsewhere: Iterable[str | None], *, where: str, ours: frozenset[str]) -> None:
    """Nobody but us sets the variables that are ``ours``, and nobody sets one twice.

    Raises:
        ConfigError: Somebody does.
    """
    if clash := ours.intersection([*run.env, *run.secrets, *elsewhere]):
        raise ConfigError(f"{where}: {', '.join(sorted(clash))}: the daemon itself gives these variables")
    if twice := set(run.env) & set(run.secrets):
        raise ConfigError(f"{where}: {', '.join(sorted(twice))}: in env and in secrets")


def read_script(run: ContainerRun, *, where: str) -> str | None:
    """The script's text.

    Raises:
        ConfigError: Its file cannot be read.
    """
    try:
        return run.shell_script()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}.script_file: {error}") from error


def seen_by_templates(order: Order) -> Context:
    """What templates see: of several events, the first."""
    return context(order.events[0], route=order.route, attempt=order.attempt)


def payload_secret(name: str, labels: Json, annotations: Json, data: bytes) -> Json:
    """The Secret that carries a payload."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "immutable": True,
        "data": {"event": base64.b64encode(data).decode()},
    }
