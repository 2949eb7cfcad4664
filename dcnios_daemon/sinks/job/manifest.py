"""From a route's ``run`` block to the Job for one order: compiled once, filled in per order. Pure.

What never changes is built at start; per order only names, labels, annotations, the environment and the
payload's carrier are new. Event text goes into annotations, Secrets and environment values, never into a
command, a script or YAML text.
"""

import base64
import math
from typing import Any

import msgspec

from dcnios_daemon.core.errors import ConfigError, OrderRefused
from dcnios_daemon.core.ports import Order
from dcnios_daemon.core.templating import Context, Render, compile_text, compile_tree, context
from dcnios_daemon.sinks.job.pod import (
    EVENT_FILE,
    EVENT_NAME,
    EVENT_VOLUME,
    PLAN_KEY,
    WORK_DIR,
    WORK_VOLUME,
    Json,
    event_mount,
    find,
    from_annotation,
    literal,
    merge,
    pod_spec,
)
from dcnios_daemon.sinks.spec import PodRun
from dcnios_daemon.staging.contract import OUTPUT, container_environment

ANNOTATION_LIMIT = 200 * 1024
"""Bytes of payload that go into an annotation."""
ANNOTATIONS_LIMIT = 240 * 1024
"""Bytes of a pod's annotations together. The API server takes 256 KiB; others add theirs."""
SECRET_LIMIT = 1024 * 1024
"""Bytes that a Secret takes (``MaxSecretSize`` of the API server)."""

MANAGED_BY, MANAGER = "app.kubernetes.io/managed-by", "dcnios-daemon"
INSTANCE, ROUTE, KEY = "dcnios-daemon/instance", "dcnios-daemon/route", "dcnios-daemon/key"
ATTEMPT, EVENT = "dcnios-daemon/attempt", "dcnios-daemon/event"
CARRIER = "dcnios-daemon/payload"
"""``secret`` on a Job whose payload is in a Secret of its name."""
QUEUE = "kueue.x-k8s.io/queue-name"

_GIVEN = frozenset(
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


class Made(msgspec.Struct, frozen=True):
    """What one order becomes."""

    job: Json
    secret: Json | None
    """Carries the payload where an annotation cannot. Goes first."""


class _Carrier(msgspec.Struct, frozen=True):
    """How a payload gets into the pod."""

    volume: Json
    variable: Json
    """The source of ``EVENT``. Unlike plain values, these are not searched for ``$(NAME)``."""
    annotation: str | None = None
    data: bytes | None = None


def selector(instance: str) -> str:
    """The label selector of all that this daemon has made."""
    return f"{MANAGED_BY}={MANAGER},{INSTANCE}={instance}"


def route_label(route: str) -> str:
    """The route's name as a label value, which may not end with a hyphen."""
    return route.rstrip("-")


class Template:
    """A route's Job, compiled.

    Args:
        run: The ``run`` block.
        route: The route's name.
        instance: The daemon's name, a label value.
        staging_image: The image of this program; needed where there is staging.
        manifest: A whole Job, parsed, in place of what ``run`` would make.

    Raises:
        ConfigError: It cannot work; says why.
    """

    def __init__(
        self,
        run: PodRun,
        *,
        route: str,
        instance: str,
        staging_image: str | None = None,
        manifest: Any = None,  # noqa: ANN401 - any YAML
    ) -> None:
        where = f"routes.{route}.run"
        self._run = run
        self._labels = {
            **run.labels,
            **({QUEUE: run.queue} if run.queue else {}),
            MANAGED_BY: MANAGER,
            INSTANCE: instance,
            ROUTE: route_label(route),
        }
        if manifest is None:
            pod = pod_spec(run, where=where, staging_image=staging_image)
            job: Json = {"spec": {**_job_spec(run), "template": {"spec": pod}}}
            self._job: Render = lambda _: job
        else:
            job = _whole_job(manifest, where=f"{where}.manifest")
            job["spec"] = {**_job_spec(run), **job["spec"]}
            self._job = compile_tree(job, where=f"{where}.manifest")
        self._place = find(job["spec"]["template"]["spec"])
        _check_names(run, self._place.container(job["spec"]["template"]["spec"]), where=where)
        self._env = {name: compile_text(text, where=f"{where}.env.{name}") for name, text in run.env.items()}
        self._is_templated = manifest is not None or bool(run.env)
        self._secrets = [_from_secret(name, address) for name, address in run.secrets.items()]

    def make(self, order: Order, *, plan: bytes | None = None) -> Made:
        """The objects for one order.

        Args:
            order: What is to be run.
            plan: Its staging plan, as JSON; None where nothing is staged.

        Raises:
            OrderRefused: It can never be run so: the payload is too large, a template lacks its field.
        """
        name = order.name
        seen = _context(order) if self._is_templated else {}
        job = self._job(seen)
        labels = {**self._labels, KEY: order.key}
        annotations = {**self._run.annotations, ATTEMPT: str(order.attempt)}
        inside = annotations if plan is None else {**annotations, PLAN_KEY: plan.decode()}
        carrier = _carrier(order.payload, name, beside=inside)
        if carrier.annotation is None:
            labels[CARRIER] = "secret"
        else:
            inside = {**inside, EVENT: carrier.annotation}
        template = job["spec"]["template"]
        pod = self._fill(template["spec"], carrier, self._variables(order, seen, carrier))
        made = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {**_meta(job, labels, annotations), "name": name},
            "spec": {
                **job["spec"],
                "template": {**template, "metadata": _meta(template, labels, inside), "spec": pod},
            },
        }
        return Made(made, _secret(name, labels, annotations, carrier.data))

    def _variables(self, order: Order, seen: Context, carrier: _Carrier) -> list[Json]:
        values = container_environment(
            order, event_file=EVENT_FILE, work_dir=WORK_DIR, stage_in=self._run.stage_in
        )
        told: list[Json] = []
        if values.pop("EVENT", None) is not None:
            told.append({"name": "EVENT", "valueFrom": carrier.variable})
        values.update({name: text(seen) for name, text in self._env.items()})
        told += [{"name": name, "value": literal(value)} for name, value in values.items()]
        return told + self._secrets

    def _fill(self, pod: Json, carrier: _Carrier, variables: list[Json]) -> Json:
        container = self._place.container(pod)
        filled = self._place.replace(pod, {**container, "env": [*variables, *container.get("env", ())]})
        filled["volumes"] = [{"name": EVENT_VOLUME, **carrier.volume}, *pod["volumes"]]
        return filled


def _context(order: Order) -> Context:
    """What templates see: of several events, the first."""
    return context(order.events[0], route=order.route, attempt=order.attempt)


def _meta(part: Json, labels: Json, annotations: Json) -> Json:
    """Metadata with ours over what a manifest says."""
    given = part.get("metadata") or {}
    return {
        **given,
        "labels": {**(given.get("labels") or {}), **labels},
        "annotations": {**(given.get("annotations") or {}), **annotations},
    }


def _check_names(run: PodRun, container: Json, *, where: str) -> None:
    elsewhere = [entry.get("name") for entry in container.get("env", ())]
    if clash := _GIVEN.intersection([*run.env, *run.secrets, *elsewhere]):
        raise ConfigError(f"{where}: {', '.join(sorted(clash))}: the daemon itself gives these variables")
    if twice := set(run.env) & set(run.secrets):
        raise ConfigError(f"{where}: {', '.join(sorted(twice))}: in env and in secrets")


def _from_secret(variable: str, address: str) -> Json:
    name, _, key = address.partition("/")
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def _job_spec(run: PodRun) -> Json:
    """What makes a Job of it that runs once, ends in time and goes away afterwards."""
    spec: Json = {
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "activeDeadlineSeconds": max(1, math.ceil(run.deadline)),
        "ttlSecondsAfterFinished": math.ceil(run.keep),
    }
    if run.suspend or run.queue:
        spec["suspend"] = True
    return spec


def _whole_job(manifest: Any, *, where: str) -> Json:  # noqa: ANN401 - any YAML
    """A user's Job, checked for what is relied on here, with the mounts for payload and outputs."""
    try:
        is_job = manifest["kind"] == "Job"
        pod: Json = dict(manifest["spec"]["template"]["spec"])
        named = all(isinstance(item["name"], str) for item in pod["containers"]) and pod["containers"]
    except (LookupError, TypeError, ValueError):
        is_job, pod, named = False, {}, False
    if not (is_job and named):
        raise ConfigError(f"{where}: this is no Job with spec.template.spec.containers that have names")
    if "namespace" in (manifest.get("metadata") or {}):
        raise ConfigError(f"{where}: leave metadata.namespace out: kubernetes.namespace says where Jobs go")
    place = find(pod)
    mounts = [event_mount(), {"name": WORK_VOLUME, "mountPath": f"{WORK_DIR}/{OUTPUT}"}]
    pod = {
        "restartPolicy": "Never",
        **place.replace(pod, merge({"volumeMounts": mounts}, place.container(pod))),
    }
    pod["volumes"] = [{"name": WORK_VOLUME, "emptyDir": {}}, *pod.get("volumes", ())]
    template = {**manifest["spec"]["template"], "spec": pod}
    return {**manifest, "spec": {**manifest["spec"], "template": template}}


def _carrier(payload: bytes, name: str, *, beside: Json) -> _Carrier:
    """An annotation while that holds it byte for byte, else a Secret.

    Raises:
        OrderRefused: Nothing holds it.
    """
    text = _text(payload)
    taken = sum(len(key) + len(value.encode()) for key, value in beside.items())
    if text is not None and len(payload) <= min(ANNOTATION_LIMIT, ANNOTATIONS_LIMIT - taken):
        field = {"fieldPath": f"metadata.annotations['{EVENT}']"}
        return _Carrier(from_annotation(EVENT, EVENT_NAME), {"fieldRef": field}, annotation=text)
    if len(payload) > SECRET_LIMIT:
        raise OrderRefused(
            f"the payload has {len(payload)} bytes, more than the {SECRET_LIMIT} that a pod can be handed"
        )
    items = [{"key": "event", "path": EVENT_NAME}]
    key = {"secretKeyRef": {"name": name, "key": "event"}}
    return _Carrier({"secret": {"secretName": name, "items": items}}, key, data=payload)


def _text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def _secret(name: str, labels: Json, annotations: Json, data: bytes | None) -> Json | None:
    if data is None:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "immutable": True,
        "data": {"event": base64.b64encode(data).decode()},
    }
