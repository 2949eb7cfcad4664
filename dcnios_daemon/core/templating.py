"""Event fields in configured texts: ``{{ event.subject }}``, ``{{ data.run }}``. Leaves only, never YAML
or shell text.

A text without ``{{`` costs nothing. Templates are compiled once, in a sandbox; a field that is not there is
an error, not an empty text.
"""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import AfterValidator

from dcnios_daemon.core.clock import iso
from dcnios_daemon.core.errors import ConfigError, OrderRefused
from dcnios_daemon.core.event import Event

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)

Context = Mapping[str, Any]
Render = Callable[[Context], Any]


class _LazyData:
    """The event's JSON data, decoded only if a template asks for it."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - whatever the JSON holds
        return json.loads(self._raw)[name]


def context(event: Event, *, route: str, attempt: int) -> Context:
    """What templates see: ``event`` (its fields), ``data`` (its JSON), ``route``, ``attempt``."""
    name = event.subject.rstrip("/").rpartition("/")[2]
    fields = {
        "key": event.key,
        "source": event.source,
        "kind": event.kind,
        "subject": event.subject,
        "name": name,
        "stem": name.partition(".")[0],
        "action": str(event.action),
        "time": iso(event.time),
        "size": event.size,
        "attributes": event.attributes,
    }
    return {"event": fields, "data": _LazyData(event.data), "route": route, "attempt": attempt}


def compile_text(text: str, *, where: str) -> Render:
    """A function from a :func:`context` to the text with its fields filled in.

    Raises:
        ConfigError: The template's syntax is wrong; names ``where`` it stands.
    """
    if "{{" not in text and "{%" not in text:
        return lambda _: text
    try:
        template = _ENVIRONMENT.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"{where}: {error.message} in the template {text!r}") from error

    def render(values: Context) -> str:
        try:
            return template.render(values)
        except (jinja2.TemplateError, ValueError, LookupError, TypeError) as error:
            raise OrderRefused(f"{where}: template {text!r}: {error}") from error

    return render


def _checked(text: str) -> str:
    try:
        compile_text(text, where="a template")
    except ConfigError as error:
        raise ValueError(f"no template: {error.__cause__}") from error
    return text


Template = Annotated[str, AfterValidator(_checked)]
"""A setting that may hold ``{{ event.… }}``; a mistake in its syntax is found with the settings' others."""


def compile_tree(tree: Any, *, where: str) -> Render:  # noqa: ANN401 - any parsed YAML
    """The same for every text leaf of parsed YAML; keys and other leaves stay."""
    if isinstance(tree, str):
        return compile_text(tree, where=where)
    if isinstance(tree, dict):
        members = {key: compile_tree(value, where=f"{where}.{key}") for key, value in tree.items()}
        return lambda values: {key: member(values) for key, member in members.items()}
    if isinstance(tree, list):
        items = [compile_tree(value, where=f"{where}[{index}]") for index, value in enumerate(tree)]
        return lambda values: [item(values) for item in items]
    return lambda _: tree
