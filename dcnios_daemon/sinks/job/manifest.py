"""From a route's ``run`` block to the Job for one order: compiled once, filled in per order. Pure.

What never changes is built at start; per order only names, labels, annotations, the environment and the
payload's carrier are new. Event text goes into annotations, Secrets and environment values, never into a
command, a script or YAML text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.core.ports import Order
from dcnios_daemon.core.templating import Context, Render, compile_text, compile_tree
from dcnios_daemon.kubernetes.marks import ATTEMPT, CARRIER, KEY
from dcnios_daemon.kubernetes.pods import Json, from_secret, literal, merge
from dcnios_daemon.sinks.job.carrier import EVENT, Carrier, carry, in_annotation
from dcnios_daemon.sinks.job.pod import (
    EVENT_FILE,
    EVENT_VOLUME,
    PLAN_KEY,
    WORK_DIR,
    WORK_VOLUME,
    event_mount,
    find,
    pod_spec,
)
from dcnios_daemon.sinks.job.splice import Splice
from dcnios_daemon.sinks.kubernetes.making import (
    GIVEN,
    check_names,
    common_labels,
    job_spec,
    payload_secret,
    seen_by_templates,
)
from dcnios_daemon.sinks.spec import PodRun
from dcnios_daemon.staging.contract import OUTPUT, container_environment


class Made(msgspec.Struct, frozen=True):
    """What one order becomes."""

    job: Json
    secret: Json | None
    """Carries the payload where an annotation cannot. Goes first."""


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """All texts of a Job that one order brings, but for its payload."""

    name: str
    key: str
    attempt: str
    plan: str | None
    has_event: bool
    """Whether the payload is also the variable ``EVENT``."""
    values: Mapping[str, str]
    """The other variables, as they must stand in the pod."""


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
        self._labels = common_labels(run, route=route, instance=instance)
        if manifest is None:
            pod = pod_spec(run, where=where, staging_image=staging_image)
            job: Json = {"spec": {**job_spec(run, deadline=run.longest), "template": {"spec": pod}}}
            self._job: Render = lambda _: job
        else:
            job = _whole_job(manifest, where=f"{where}.manifest")
            job["spec"] = {**job_spec(run, deadline=run.longest), **job["spec"]}
            self._job = compile_tree(job, where=f"{where}.manifest")
        self._place = find(job["spec"]["template"]["spec"])
        container = self._place.container(job["spec"]["template"]["spec"])
        elsewhere = [entry.get("name") for entry in container.get("env", ())]
        check_names(run, elsewhere, where=where, ours=GIVEN)
        self._env = {name: compile_text(text, where=f"{where}.env.{name}") for name, text in run.env.items()}
        self._is_whole = manifest is not None
        self._is_templated = self._is_whole or bool(run.env)
        self._secrets = [from_secret(name, address) for name, address in run.secrets.items()]
        self._splices: dict[tuple[object, ...], Splice] = {}
        """By which texts there are; few, for an order brings this or that variable or does not."""

    def make(self, order: Order, *, plan: bytes | None = None) -> Made:
        """The objects for one order.

        Args:
            order: What is to be run.
            plan: Its staging plan, as JSON; None where nothing is staged.

        Raises:
            OrderRefused: It can never be run so: the payload is too large, a template lacks its field.
        """
        seen = seen_by_templates(order) if self._is_templated else {}
        told = self._told(order, seen, plan)
        carrier = carry(order.payload, told.name, beside=self._annotations(told))
        job = self._build(self._job(seen), told, carrier)
        if carrier.data is None:
            return Made(job, None)
        labels = job["metadata"]["labels"]
        return Made(job, payload_secret(told.name, labels, self._own(told), carrier.data))

    def encode(self, order: Order, *, plan: bytes | None = None) -> bytes | None:
        """The Job of :meth:`make` as JSON, at a fraction of the cost; None where it takes more: a payload
        that needs a Secret, a manifest with templates.

        Raises:
            OrderRefused: See :meth:`make`.
        """
        if self._is_whole:
            return None
        told = self._told(order, seen_by_templates(order) if self._is_templated else {}, plan)
        carrier = carry(order.payload, told.name, beside=self._annotations(told))
        if carrier.annotation is None:
            return None
        shape = (*told.values, told.has_event, plan is None)
        splice = self._splices.get(shape)
        if splice is None:
            splice = self._splices[shape] = self._splice(told)
        return splice.fill(
            (told.name, told.key, told.attempt, carrier.annotation, told.plan or "", *told.values.values())
        )

    def _splice(self, like: _Told) -> Splice:
        """Jobs that differ from this one in their texts only."""

        def build(texts: Sequence[str]) -> Json:
            name, key, attempt, annotation, plan, *values = texts
            told = _Told(
                name=name,
                key=key,
                attempt=attempt,
                plan=None if like.plan is None else plan,
                has_event=like.has_event,
                values=dict(zip(like.values, values, strict=True)),
            )
            return self._build(self._job({}), told, in_annotation(annotation))

        return Splice(build, 5 + len(like.values))

    def _told(self, order: Order, seen: Context, plan: bytes | None) -> _Told:
        values = container_environment(
            order, event_file=EVENT_FILE, work_dir=WORK_DIR, stage_in=self._run.stage_in
        )
        has_event = values.pop("EVENT", None) is not None
        values.update({name: text(seen) for name, text in self._env.items()})
        return _Told(
            name=order.name,
            key=order.key,
            attempt=str(order.attempt),
            plan=None if plan is None else plan.decode(),
            has_event=has_event,
            values={name: literal(value) for name, value in values.items()},
        )

    def _own(self, told: _Told) -> Json:
        """The annotations of whatever is made."""
        return {**self._run.annotations, ATTEMPT: told.attempt}

    def _annotations(self, told: _Told) -> Json:
        """Those of the pod, without the payload's."""
        own = self._own(told)
        return own if told.plan is None else {**own, PLAN_KEY: told.plan}

    def _build(self, job: Json, told: _Told, carrier: Carrier) -> Json:
        labels = {**self._labels, KEY: told.key}
        inside = self._annotations(told)
        if carrier.annotation is None:
            labels[CARRIER] = "secret"
        else:
            inside = {**inside, EVENT: carrier.annotation}
        template = job["spec"]["template"]
        pod = self._fill(template["spec"], carrier, self._variables(told, carrier))
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {**_meta(job, labels, self._own(told)), "name": told.name},
            "spec": {
                **job["spec"],
                "template": {**template, "metadata": _meta(template, labels, inside), "spec": pod},
            },
        }

    def _variables(self, told: _Told, carrier: Carrier) -> list[Json]:
        event = [{"name": "EVENT", "valueFrom": carrier.variable}] if told.has_event else []
        plain = [{"name": name, "value": value} for name, value in told.values.items()]
        return [*event, *plain, *self._secrets]

    def _fill(self, pod: Json, carrier: Carrier, variables: list[Json]) -> Json:
        container = self._place.container(pod)
        filled = self._place.replace(pod, {**container, "env": [*variables, *container.get("env", ())]})
        filled["volumes"] = [{"name": EVENT_VOLUME, **carrier.volume}, *pod["volumes"]]
        return filled


def _meta(part: Json, labels: Json, annotations: Json) -> Json:
    """Metadata with ours over what a manifest says."""
    given = part.get("metadata") or {}
    return {
        **given,
        "labels": {**(given.get("labels") or {}), **labels},
        "annotations": {**(given.get("annotations") or {}), **annotations},
    }


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
