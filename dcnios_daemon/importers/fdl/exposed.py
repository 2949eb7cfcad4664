"""A service that is a server (``expose``), as one of ours: ``services`` in the configuration.

It is carried over closed: OSCAR serves at a host that its files do not hold, and by default asks nobody for a
login. Where it is to be reached from outside is a line that somebody takes the # away from.
"""

import re
from typing import Any

from dcnios_daemon.importers.draft import Draft, quoted
from dcnios_daemon.importers.fdl.run import annotations_of, labels_of, resources_of, variables_of, volumes_of
from dcnios_daemon.importers.fdl.script import plain_script_of
from dcnios_daemon.importers.fdl.sources import Service
from dcnios_daemon.importers.fields import Block

_PATH = re.compile(r"/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?")
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "zsh"})
_HIGHEST_PORT = 65535
_MOST = 1000
"""Pods; more is a mistake."""


def is_exposed(service: Service) -> bool:
    """Whether it is a server, whose script starts it."""
    expose = Block(service.block.peek("expose"), "", service.notes.apart())
    return any(port.strip("0") for port in [*expose.texts("api_port"), *expose.texts("port")])


def take_server(service: Service, draft: Draft) -> bool:
    """Make it a service of ours. Says whether it could be."""
    block = service.block
    image = block.text("image")
    expose = block.block("expose")
    port = _port(expose)
    command = None if image is None else _command(service, expose)
    if image is None or port is None or command is None:
        expose.forget_all()
        service.notes.cannot(expose.path, "no server of it: see image, api_port and script")
        return False
    made: dict[str, Any] = {"kind": "container", "image": image, "port": port, "command": command}
    made["auth"] = _login(service, expose)
    made["env"] = variables_of(service, draft, made)
    made["resources"] = resources_of(service)
    made["volumes"] = volumes_of(service, block.block("volume"))
    made |= {"labels": labels_of(service), "annotations": annotations_of(service)}
    made["image_pull_secrets"] = block.texts("image_pull_secrets")
    made |= {"replicas": _replicas(expose), "health_path": _health(expose)}
    draft.services[service.route] = {key: value for key, value in made.items() if value}
    _outside(service, expose, draft)
    expose.close()
    return True


def _port(expose: Block) -> int | None:
    given = [port for port in [*expose.texts("api_port"), *expose.texts("port")] if port.strip("0")]
    ports = [int(port) for port in given if re.fullmatch(r"\d{1,5}", port, re.ASCII)]
    if not ports or not 0 < ports[0] <= _HIGHEST_PORT:
        expose.notes.cannot(expose.where("api_port"), "is no port")
        return None
    if len(given) > 1:
        expose.notes.cannot(expose.where("api_port"), f"only the first is served: {ports[0]}")
    return ports[0]


def _command(service: Service, expose: Block) -> list[str] | None:
    """OSCAR runs the script itself, so that its first line says by what. Empty: the image's own command."""
    if expose.flag("default_command"):
        service.notes.carried(expose.where("default_command"), "the image's own command runs")
        service.block.forget("script")
        return []
    text = plain_script_of(service)
    if not text:
        return None if text is None else []
    first = text.partition("\n")[0]
    words = first.removeprefix("#!").split() if first.startswith("#!") else ["/bin/sh"]
    if not words or words[-1].rpartition("/")[2] not in _SHELLS:
        service.notes.cannot(
            "script", f"is for {quoted(first)}, and only a shell's can be: put it into the image"
        )
        return None
    return [*words, "-c", text]


def _login(service: Service, expose: Block) -> str:
    where = expose.where("set_auth")
    if expose.flag("set_auth"):
        what = "OSCAR's Ingress asked for a login, ours asks for none: see auth before you give it a host"
        service.notes.cannot(where, what)
    else:
        what = "it was public: see auth (token_variable, or own) before you give it a host"
        service.notes.differently(where, what)
    expose.text("auth_type")
    return "none"


def _replicas(expose: Block) -> dict[str, int]:
    least, most, load = (expose.number(key) for key in ("min_scale", "max_scale", "cpu_threshold"))
    if least == 0:
        what = "one pod at least: with sleep there are none at times"
        expose.notes.differently(expose.where("min_scale"), what)
    made = {"min": int(min(max(1, least or 1), _MOST))}
    if most is not None and made["min"] < most <= _MOST:
        made["max"] = int(most)
        if load is not None and 1 <= load <= 100:  # noqa: PLR2004 - per cent
            made["cpu_percent"] = int(load)
    return made if made != {"min": 1} else {}


def _health(expose: Block) -> str | None:
    path = expose.text("health_path")
    expose.text("probe_mode")
    if path is None or not _PATH.fullmatch(path):
        return None
    return path


def _outside(service: Service, expose: Block, draft: Draft) -> None:
    """Where OSCAR served it, as lines to be taken."""
    nodes = [port for port in expose.texts("nodePort") if port.strip("0")]
    if nodes:
        where = expose.where("nodePort")
        expose.notes.cannot(where, f"{', '.join(map(quoted, nodes))}: no ports of nodes are opened here")
    path = "/"
    if expose.flag("rewrite_target"):
        path = f"/system/services/{service.name}/exposed"
        path = path if _PATH.fullmatch(path) else "/"
    draft.commented_out(
        "services", service.route, lines=[f"expose: {{host: {service.route}.example.org, path: {path}}}"]
    )
    what = f"service {service.route}, reached inside the cluster only: take the # away from its expose"
    service.notes.differently(expose.path, f"{what}; dcnios services apply makes it")
