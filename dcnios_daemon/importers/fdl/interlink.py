"""A service for an HPC as a ``run`` of kind ``interlink``: its plugin's annotations become keys of ours."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

from dcnios_daemon.importers.draft import quoted
from dcnios_daemon.importers.fdl.sources import Service

NODE = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
_KEYS = {
    "account": "account",
    "A": "account",
    "comment": "comment",
    "gres": "gres",
    "nodes": "nodes",
    "N": "nodes",
    "ntasks": "tasks",
    "n": "tasks",
    "partition": "partition",
    "p": "partition",
    "qos": "qos",
    "q": "qos",
    "reservation": "reservation",
    "time": "time",
    "t": "time",
}
"""Flags of sbatch that have a key of their own in ``slurm``."""
_INTERLINKS_OWN = frozenset(
    "array a error e job-name J output o parsable requeue wait W wrap no-requeue".split()  # noqa: SIM905
)
"""Flags by which interLink would no longer find its job, or a job would run twice."""
_TIME = re.compile(r"\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.,@:+-]{1,200}")
_COUNT = re.compile(r"[1-9]\d{0,5}", re.ASCII)
_BIND = re.compile(r"/[A-Za-z0-9_./@+-]*(:/[A-Za-z0-9_./@+-]*(:r[ow])?)?")
_OPTION = re.compile(r"--?[A-Za-z][A-Za-z0-9-]*(=[A-Za-z0-9_./:,@=+-]+)?")
_FLAG = re.compile(r"--?[A-Za-z][A-Za-z0-9-]*[\x20-\x7e]*")
_LEFT_OUT = {
    "image_pull_secrets": "the HPC pulls images with its own credentials",
    "volumes": "claims are not there: name folders of the HPC as binds",
    "pod": "what needs the cluster's own nodes is not there",
}


def as_interlink(service: Service, run: dict[str, Any], node: str) -> dict[str, Any]:
    """The same run on a virtual node.

    Args:
        service: Whose it is.
        run: As a ``job``.
        node: The virtual node's name.
    """
    for key, why in _LEFT_OUT.items():
        if run.pop(key, None):
            service.notes.cannot(f"interlink_node_name ({key})", why)
    annotations = dict(run.pop("annotations", {}))
    made = {**run, "kind": "interlink", "node": node} | _site(service, annotations)
    if annotations:
        made["annotations"] = annotations
    if "time" in made.get("slurm", {}):
        made["queue_allowance"] = made.pop("deadline")
    return made


def _site(service: Service, annotations: dict[str, str]) -> dict[str, Any]:
    """The keys for what the plugin's annotations say, which are taken away."""
    made: dict[str, Any] = {}
    for name in list(annotations):
        key = name.partition("/")[2] if name.startswith(("slurm-job.vk.io/", "job.vk.io/")) else ""
        where = f"annotations.{name}"
        if key == "flags":
            made["slurm"] = _slurm(service, annotations.pop(name), where)
        elif key == "singularity-mounts":
            made["binds"] = [*made.get("binds", []), *_binds(service, annotations.pop(name), where)]
        elif key == "singularity-options":
            made["singularity_options"] = _options(service, annotations.pop(name), where)
        elif key == "pre-exec":
            made["pre_exec"] = annotations.pop(name)
        elif key in {"image-root", "flavor"}:
            made[key.replace("-", "_")] = annotations.pop(name).strip()
    return {key: value for key, value in made.items() if value}


def _words(service: Service, text: str, where: str) -> Iterator[tuple[str, str | None]]:
    """Each flag, and its value if it has one."""
    try:
        words = shlex.split(text)
    except ValueError:
        service.notes.cannot(where, "is no list of flags: left out")
        return
    while words:
        word = words.pop(0)
        name, is_given, value = word.partition("=")
        if not word.startswith("-"):
            service.notes.cannot(where, f"{quoted(word)} belongs to no flag: left out")
        elif is_given:
            yield name, value
        else:
            yield name, words.pop(0) if words and not words[0].startswith("-") else None


def _slurm(service: Service, text: str, where: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    flags: list[str] = []
    for name, value in _words(service, text, where):
        plain = name.lstrip("-")
        key = _KEYS.get(plain)
        if plain in _INTERLINKS_OWN:
            service.notes.differently(where, f"without {name}: interLink says that itself")
        elif key is not None and value is not None and _fits(key, value):
            made[key] = int(value) if key in {"nodes", "tasks"} else value
        elif key is None and _FLAG.fullmatch(flag := _joined(name, value)):
            flags.append(flag)
        else:
            service.notes.cannot(where, f"{quoted(name)} is not as sbatch has it: left out")
    return made | ({"flags": flags} if flags else {})


def _joined(name: str, value: str | None) -> str:
    return name if value is None else f"{name}={value}" if name.startswith("--") else f"{name} {value}"


def _fits(key: str, value: str) -> bool:
    pattern = {"time": _TIME, "nodes": _COUNT, "tasks": _COUNT}.get(key, _NAME)
    return pattern.fullmatch(value) is not None


def _binds(service: Service, text: str, where: str) -> list[str]:
    found = [bind for _, value in _words(service, text, where) for bind in (value or "").split(",")]
    return _fitting(service, found, _BIND, where)


def _options(service: Service, text: str, where: str) -> list[str]:
    found = [_joined(name, value).replace(" ", "=", 1) for name, value in _words(service, text, where)]
    return _fitting(service, found, _OPTION, where)


def _fitting(service: Service, found: list[str], pattern: re.Pattern[str], where: str) -> list[str]:
    for wrong in found:
        if not pattern.fullmatch(wrong):
            service.notes.cannot(where, f"{quoted(wrong)} cannot be given: left out")
    return [one for one in found if pattern.fullmatch(one)]
