"""What a service runs: image, script, environment, resources and place, as the ``run`` block of a route."""

import re
from typing import Any

from dcnios_daemon.importers.draft import Draft, as_literal, is_credential, quoted
from dcnios_daemon.importers.fdl.interlink import NODE, as_interlink
from dcnios_daemon.importers.fdl.script import environment_of, needs_node_name, script_of
from dcnios_daemon.importers.fdl.sources import Service, Sources
from dcnios_daemon.importers.fields import Block

_QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kKMGTPE]i?)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VOLUME = re.compile(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?")
_OURS = frozenset(
    {"EVENT", "EVENT_TIME", "INPUT_FILE_PATH", "STORAGE_OBJECT_KEY", "TMP_OUTPUT_DIR"}
    | {f"DCNIOS_{name}" for name in ("ATTEMPT", "EVENT_FILE", "KEY", "ROUTE")}
)
_DEFAULTS = {"cpu": "0.2", "memory": "256Mi"}
"""OSCAR's (``types/service.go``)."""


def run_of(service: Service, draft: Draft, sources: Sources) -> dict[str, Any] | None:
    """The ``run`` block; None, and a finding, if there is nothing that could be run."""
    block = service.block
    image = block.text("image")
    if image is None:
        service.notes.cannot("image", "is missing: there is nothing to run")
        return None
    is_staged = bool(service.inputs) and not block.flag("file_stage_in")
    if service.inputs and not is_staged:
        service.notes.carried(block.where("file_stage_in"), "true means there: fetch nothing")
    script = script_of(service, is_staged=is_staged)
    if script is None:
        return None
    run: dict[str, Any] = {"kind": "job", "image": image} | script
    text = script.get("script", "")
    env = {name: as_literal(value) for name, value in variables_of(service, draft, run).items()}
    run["env"] = dict(environment_of(text)) | {"OSCAR_SERVICE_NAME": as_literal(service.name)} | env
    run["resources"] = resources_of(service)
    if is_staged:
        run["stage_in"] = True
    run["stage_out"] = sources.outputs(service)
    run |= {"labels": labels_of(service), "annotations": annotations_of(service)}
    run["image_pull_secrets"] = block.texts("image_pull_secrets")
    run["volumes"] = volumes_of(service, block.block("volume"))
    run["pod"] = _overlay(service, run, needs_node=needs_node_name(text))
    run["deadline"] = "1d"
    service.notes.differently("", "OSCAR's Jobs have no deadline; here one ends after a day: see deadline")
    return _placed(service, draft, {key: value for key, value in run.items() if value})


def _placed(service: Service, draft: Draft, run: dict[str, Any]) -> dict[str, Any]:
    """The run where it is to be: on a virtual node, if it names one and there is such a kind of run."""
    where, node = service.block.where("interlink_node_name"), service.block.text("interlink_node_name")
    if node is None:
        return run
    is_known = "interlink" in draft.options.run_kinds
    if is_known and NODE.fullmatch(node) and run.keys() & {"script", "script_file"}:
        service.notes.carried(where, f"runs of kind interlink on node {quoted(node)}")
        return as_interlink(service, run, node)
    why = (
        "it has no script, or no node could be called so" if is_known else "not yet: no such kind of run here"
    )
    service.notes.cannot(where, f"{why}: it is a plain job, not on {quoted(node)}")
    plain = run["image"].removeprefix("docker://")
    if plain != run["image"]:
        service.notes.differently("image", "without docker://, which plain nodes do not know")
    return run | {"image": plain or run["image"]}


def variables_of(service: Service, draft: Draft, run: dict[str, Any]) -> dict[str, str]:
    """The plain ones; those that are secret go to a Kubernetes Secret and into ``run``."""
    block = service.block.block("environment")
    where = block.where("variables")
    variables, secrets = block.pairs("variables"), block.pairs("secrets")
    for name in [name for name in variables if is_credential(name, variables[name])]:
        block.notes.differently(f"{where}.{name}", "looks like a credential: it is in the Secret, too")
        secrets.setdefault(name, variables.pop(name))
    for key, names in (("variables", variables), ("secrets", secrets)):
        for name in [name for name in names if not _VARIABLE.fullmatch(name) or name in _OURS]:
            why = "is given by the daemon itself" if name in _OURS else "is no name for a variable"
            block.notes.cannot(f"{block.where(key)}.{name}", f"{why}: left out")
            del names[name]
    if secrets:
        secret = f"{service.route}-env"
        file = draft.kubernetes_secret(secret, secrets)
        run["secrets"] = {name: f"{secret}/{name}" for name in secrets}
        block.notes.carried(block.where("secrets"), f"{', '.join(secrets)}: from the Secret {secret}")
        block.notes.to_do(block.where("secrets"), f"kubectl apply -f {file}, in the namespace of the Jobs")
    block.close()
    return {name: value for name, value in variables.items() if name not in secrets}


def resources_of(service: Service) -> dict[str, Any]:
    """Its share of a node, OSCAR's where it says none."""
    block, found = service.block, dict(_DEFAULTS)
    for key in _DEFAULTS:
        given = block.text(key)
        if given and not _QUANTITY.fullmatch(given):
            block.notes.cannot(block.where(key), f"is no quantity: {found[key]} instead, OSCAR's default")
        elif given:
            found[key] = given
    return found | ({"gpu": 1} if block.flag("enable_gpu") else {})


def labels_of(service: Service) -> dict[str, str]:
    """Its own; those that OSCAR adds are of no use without it."""
    block = service.block
    theirs = {"applicationId", "oscar_service", "queue", "owner_name", "vo"}
    labels = block.pairs("labels")
    kept = {name: value for name, value in labels.items() if name not in theirs}
    if kept != labels:
        gone = ", ".join(sorted(set(labels) - set(kept)))
        block.notes.differently(block.where("labels"), f"without OSCAR's own: {gone}")
    return kept


def annotations_of(service: Service) -> dict[str, str]:
    """For its objects, as they are."""
    return service.block.pairs("annotations")


def volumes_of(service: Service, block: Block) -> dict[str, Any]:
    """The claim that it mounts, if any."""
    if not block.names():
        return {}
    name, mount, size = block.text("name") or service.name, block.text("mount_path"), block.text("size")
    policy = block.text("lifecycle_policy")
    if mount is None or not mount.startswith("/"):
        service.notes.cannot(block.path, "has no absolute mount_path: left out")
        block.close()
        return {}
    claim = name if _VOLUME.fullmatch(name) else service.route
    asked = f" of {quoted(size)}" if size else ""
    service.notes.differently(block.path, f"mounts the claim {claim}; claims are not made or deleted here")
    service.notes.to_do(block.path, f"make the PersistentVolumeClaim {claim}{asked}, if there is none yet")
    if policy:
        service.notes.cannot(f"{block.path}.lifecycle_policy", "claims live until somebody deletes them")
    block.close()
    return {"data": {"mount": mount, "claim": claim}}


def _overlay(service: Service, run: dict[str, Any], *, needs_node: bool) -> dict[str, Any]:
    """What has no key of its own, laid over the container that runs."""
    block, container = service.block, dict[str, Any]()
    limits: dict[str, Any] = {}
    if block.flag("enable_sgx"):
        limits["limits"] = {"sgx.intel.com/enclave": "1"}
        container["securityContext"] = {"capabilities": {"add": ["SYS_RAWIO"]}}
    storage = block.text("ephemeral_storage_request")
    if storage and _QUANTITY.fullmatch(storage):
        limits["requests"] = {"ephemeral-storage": storage}
    elif storage:
        block.notes.cannot(block.where("ephemeral_storage_request"), "is no quantity: left out")
    if limits:
        container["resources"] = limits
    if needs_node and "RESOURCE_ID" not in {**run.get("env", {}), **run.get("secrets", {})}:
        node = {"fieldRef": {"fieldPath": "spec.nodeName"}}
        container["env"] = [{"name": "RESOURCE_ID", "valueFrom": node}]
    return {"containers": [{"name": "run", **container}]} if container else {}
