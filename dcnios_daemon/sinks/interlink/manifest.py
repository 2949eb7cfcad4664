"""From a route's ``run`` block to the Job that interLink carries to an HPC. Pure.

One container runs the daemon's wrapper, which gets all that it needs in variables in base64: the only thing
that arrives there unchanged. No event text is ever in a command, in an annotation or in a flag.
"""

import base64
from typing import Any

from dcnios_daemon.core.errors import ConfigError, OrderRefused
from dcnios_daemon.core.ports import Order
from dcnios_daemon.core.templating import compile_text
from dcnios_daemon.kubernetes.marks import ATTEMPT, KEY, SINK
from dcnios_daemon.kubernetes.pods import Json, Volume, from_secret, merge
from dcnios_daemon.sinks.interlink.carriable import not_carried
from dcnios_daemon.sinks.interlink.marker import Marker
from dcnios_daemon.sinks.interlink.order import order_text
from dcnios_daemon.sinks.interlink.settings import HOST_NAME, InterlinkRun
from dcnios_daemon.sinks.interlink.slurm import FLAGS
from dcnios_daemon.sinks.interlink.wrapper import BOOTSTRAP, wrapper
from dcnios_daemon.sinks.kubernetes.making import (
    GIVEN,
    check_names,
    common_labels,
    job_spec,
    read_script,
    seen_by_templates,
)
from dcnios_daemon.sinks.kubernetes.verdict import RUN
from dcnios_daemon.staging.contract import container_environment
from dcnios_daemon.staging.document import StagingPlan

KIND = "interlink"
PAYLOAD_LIMIT = 90_000
"""Bytes of payload. In base64 that is 120 kB; Linux takes 128 KiB for one variable with its name."""
ORDER_LIMIT = 126_000
"""Characters of the order in base64, for the same reason."""
_HANDED_OVER = frozenset({"DCNIOS_ORDER", "DCNIOS_PAYLOAD", "DCNIOS_WRAPPER"})
_BY_WRAPPER = ("DCNIOS_EVENT_FILE", "EVENT", "INPUT_FILE_PATH", "TMP_OUTPUT_DIR")
"""Variables that name files over there, where the wrapper finds the room for them."""
_FOR_WRAPPER = ("TMPDIR",)
"""Of ``env`` what the wrapper itself must know before it reads its order: where there is room."""
_IN_POD = ("DCNIOS_KEY", "DCNIOS_ATTEMPT", "DCNIOS_ROUTE")
_START = ["/bin/sh", "-c", BOOTSTRAP]
TOLERATIONS = (
    {"key": "virtual-node.interlink/no-schedule", "operator": "Exists"},
    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
)
"""Without an end: a pod evicted while its node is away is a job that is cancelled, or runs twice."""


class Template:
    """A route's Job, compiled.

    Args:
        run: The ``run`` block.
        route: The route's name.
        instance: The daemon's name, a label value.

    Raises:
        ConfigError: It cannot work, or interLink cannot carry it; says why.
    """

    def __init__(self, run: InterlinkRun, *, route: str, instance: str) -> None:
        where = f"routes.{route}.run"
        self._run = run
        self._labels = {**common_labels(run, route=route, instance=instance), SINK: KIND}
        self._env = {name: compile_text(text, where=f"{where}.env.{name}") for name, text in run.env.items()}
        script = read_script(run, where=where)
        self._command = [*run.command, *run.args] if script is None else ["/bin/sh", "-c", script]
        self._pod = _pod(run)
        if reasons := not_carried(self._pod, shared_fs=run.shared_fs):
            raise ConfigError("\n".join(f"{where}: interLink cannot carry this: {why}" for why in reasons))
        container: Json = self._pod["containers"][0]
        if container.get("command") != _START or "args" in container:
            raise ConfigError(f"{where}.pod: leave command and args to script, script_file or command")
        elsewhere = [entry.get("name") for entry in container.get("env", ())]
        check_names(run, elsewhere, where=where, ours=GIVEN | _HANDED_OVER)
        self._wrapper = base64.b64encode(wrapper()).decode()
        self._secrets = [from_secret(name, address) for name, address in run.secrets.items()]

    def make(
        self, order: Order, *, plan: StagingPlan, marker: Marker | None = None, node: str | None = None
    ) -> Json:
        """The Job for one order.

        Args:
            order: What is to be run.
            plan: What is staged.
            marker: What is left behind when all is done.
            node: The virtual node that was chosen among those with the labels.

        Raises:
            OrderRefused: It can never be run so: too large, or a template lacks its field.
        """
        run = self._run
        own = {**run.annotations, ATTEMPT: str(order.attempt)}
        inside = {
            **own,
            FLAGS: run.slurm.annotation(key=order.key, gpu=run.resources.gpu),
            **run.site_annotations,
        }
        labels = {**self._labels, KEY: order.key, ATTEMPT: str(order.attempt)}
        container = self._pod["containers"][0]
        variables = [*self._variables(order, plan, marker), *self._secrets, *container.get("env", ())]
        pod = {**self._pod, "containers": [{**container, "env": variables}]}
        if node is not None:
            pod["nodeSelector"] = {**pod.get("nodeSelector", {}), HOST_NAME: node}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": order.name, "labels": dict(labels), "annotations": own},
            "spec": {
                **job_spec(run, deadline=run.longest),
                "template": {"metadata": {"labels": labels, "annotations": inside}, "spec": pod},
            },
        }

    def _variables(self, order: Order, plan: StagingPlan, marker: Marker | None) -> list[Json]:
        if len(order.payload) > PAYLOAD_LIMIT:
            raise OrderRefused(
                f"the payload has {len(order.payload)} bytes, more than the {PAYLOAD_LIMIT} that interLink "
                "carries: set the route's payload to reference"
            )
        told = container_environment(order, event_file="", work_dir="", stage_in=self._run.stage_in)
        tells_event = "EVENT" in told
        plain = {name: told.pop(name) for name in _IN_POD}
        for name in _BY_WRAPPER:
            told.pop(name, None)
        seen = seen_by_templates(order) if self._env else {}
        told.update({name: text(seen) for name, text in self._env.items()})
        plain |= {name: told[name] for name in _FOR_WRAPPER if name in told}
        text = order_text(
            command=self._command,
            env=told,
            plan=plan,
            tells_event=tells_event,
            marker=marker,
            by_tool=self._run.stage_with == "tool",
        )
        if len(text) > ORDER_LIMIT:
            raise OrderRefused(
                f"script, env and staging links make {len(text)} characters, more than the {ORDER_LIMIT} "
                "that interLink carries: put the script into the image"
            )
        plain |= {
            "DCNIOS_WRAPPER": self._wrapper,
            "DCNIOS_ORDER": text,
            "DCNIOS_PAYLOAD": base64.b64encode(order.payload).decode(),
        }
        return [{"name": name, "value": value} for name, value in plain.items()]


def _pod(run: InterlinkRun) -> Json:
    amounts: Json = {"cpu": run.resources.cpu, "memory": run.resources.memory}
    if run.resources.gpu:
        amounts["nvidia.com/gpu"] = str(run.resources.gpu)
    container: Json = {
        "name": RUN,
        "image": run.image,
        "command": _START,
        "resources": {"limits": amounts, "requests": dict(amounts)},
    }
    if run.volumes:
        container["volumeMounts"] = [_mount(name, volume) for name, volume in run.volumes.items()]
    pod: Json = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "tolerations": list(TOLERATIONS),
        "containers": [container],
    }
    if run.selector:
        pod["nodeSelector"] = dict(run.selector)
    if run.volumes:
        pod["volumes"] = [{"name": name, **_volume(volume)} for name, volume in run.volumes.items()]
    overlay = dict(run.pod)
    if "tolerations" in overlay:  # Kueue's flavors may need their own beside ours
        overlay["tolerations"] = [*TOLERATIONS, *overlay["tolerations"]]
    merged: Json = merge(pod, overlay)
    return merged


def _mount(name: str, volume: Volume) -> dict[str, Any]:
    return {"name": name, "mountPath": volume.mount, **({"readOnly": True} if volume.read_only else {})}


def _volume(volume: Volume) -> Json:
    if volume.claim:
        return {"persistentVolumeClaim": {"claimName": volume.claim}}
    if volume.secret:
        return {"secret": {"secretName": volume.secret}}
    if volume.config_map:
        return {"configMap": {"name": volume.config_map}}
    if volume.host_path:
        return {"hostPath": {"path": volume.host_path, "type": "Directory"}}
    return {"emptyDir": {}}
