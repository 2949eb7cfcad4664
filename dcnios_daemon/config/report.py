"""The configuration shown to people: what is in force, and what may be written at all. Never a secret."""

import re
from collections.abc import Mapping
from typing import Any, cast

import yaml

from dcnios_daemon.config.model import DaemonSettings, renew
from dcnios_daemon.core.settings import REDACTED, Secret, Settings
from dcnios_daemon.exposed.settings import Service

_SECRET_NAME = re.compile(r"passw|secret|token|credential|api_?key|access_?key|private_?key", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


def effective(settings: DaemonSettings) -> dict[str, Any]:
    """Every key with its value in force, in the form of the file, JSON-ready.

    A secret shows as its file or not at all; so does the value of a variable whose name tells of one, and a
    login inside an address.
    """
    shown = _shown(settings, settings.model_dump(mode="json", by_alias=True))
    return dict(shown)


def _shown(value: object, dumped: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Settings):
        return _shown_block(value, dumped)
    if isinstance(value, Mapping):
        return {
            key: REDACTED
            if isinstance(inner, str) and _SECRET_NAME.search(key)
            else _shown(inner, dumped[key])
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_shown(inner, item) for inner, item in zip(value, dumped, strict=True)]
    return _USER_INFO.sub(f"{REDACTED}@", dumped) if isinstance(dumped, str) else dumped


def _shown_block(value: Settings, dumped: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, field in type(value).model_fields.items():
        key = field.alias or name
        inner = getattr(value, name)
        if isinstance(inner, Secret) and inner.path is not None:
            shown[f"{key}_file"] = str(inner.path)
        elif isinstance(inner, Secret):
            shown[key] = REDACTED
        else:
            shown[key] = _shown(inner, dumped[key])
    return shown


def notes(settings: DaemonSettings) -> list[str]:
    """What is allowed but hardly meant, a sentence each."""
    said = [] if settings.sources or settings.services else ["there is no source: nothing will ever happen"]
    taken = {source for route in settings.routes.values() for source in route.sources}
    said += [f"sources.{name}: no route takes its events" for name in settings.sources if name not in taken]
    return said + [
        f"services.{name}.expose: has no tls_secret: logins cross the network in the clear, unless something "
        "before the Ingress ends TLS"
        for name, block in settings.services.items()
        if (expose := cast("Service", block).expose) is not None and not expose.is_secure
    ]


def summary(settings: DaemonSettings) -> str:
    """How much there is.

    >>> summary(DaemonSettings())
    '0 sources, 0 routes'
    """
    counts = {"source": len(settings.sources), "route": len(settings.routes)}
    if settings.services:
        counts["service"] = len(settings.services)
    return ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for word, count in counts.items())


def schema() -> dict[str, Any]:
    """JSON Schema of the whole file, for editors."""
    renew()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | DaemonSettings.model_json_schema()


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stand as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text.rstrip("\n") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def as_yaml(data: Any) -> str:  # noqa: ANN401 - anything JSON-ready
    """Data as YAML, in its own order."""
    dumped: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return dumped
