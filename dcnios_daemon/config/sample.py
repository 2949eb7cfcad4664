"""Events written by hand or copied from elsewhere, for ``dcnios render``."""

import base64
import binascii
import json
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dcnios_daemon.core.errors import ConfigError, Malformed
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.sources.cloudevents.reading import read_request

_FIELDS = frozenset(Event.__struct_fields__) | {"data_base64"}
_KEY = re.compile(r"[0-9a-f]{40}")
_OUR_TYPE = re.compile(r"dcnios\.(?P<kind>[a-z0-9-]+)\.(?P<action>[a-z]+)")
_OUR_SOURCE = "/dcnios/"
_CARRIED = {"subject", "time", "data", "data_base64"}


def event_to_json(event: Event) -> dict[str, Any]:
    """An event's fields, JSON-ready, so that :func:`event_from_json` gives the same event again.

    JSON data stands as such where that loses nothing, other text as text, all else as ``data_base64``.
    """
    fields: dict[str, Any] = {
        name: getattr(event, name) for name in Event.__struct_fields__ if name not in {"data", "attributes"}
    }
    fields |= {"action": str(event.action), "attributes": dict(event.attributes)}
    try:
        text = event.data.decode()
    except UnicodeDecodeError:
        return fields | {"data_base64": base64.b64encode(event.data).decode()}
    return fields | {"data": text}


def event_from_file(name: str, *, source: str, kind: str, now: float) -> Event:
    """:func:`event_from_json` on a file; ``-`` is standard input.

    Raises:
        ConfigError: As there, each line with the file's name.
        OSError: The file cannot be read.
    """
    raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        return event_from_json(raw, source=source, kind=kind, now=now)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{name}: {line}" for line in str(error).splitlines())) from error


def event_from_json(raw: bytes, *, source: str, kind: str, now: float) -> Event:
    """An event from JSON: its own fields (as :func:`event_to_json` writes them), or a CloudEvent.

    ``data`` may be any JSON, or a text that stands for its bytes; ``data_base64`` holds bytes that are no
    text. What is left out gets a default: the key is made of all the rest.

    Args:
        raw: The JSON.
        source: The name of the source when the event does not say.
        kind: That source's kind.
        now: The event's time when it does not say, in seconds since the epoch.

    Raises:
        ConfigError: It is no such JSON; each line is one mistake.
    """
    try:
        given = json.loads(raw)
    except ValueError as error:
        raise ConfigError(f"not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ConfigError("must be a JSON object")
    if "specversion" in given:
        if not _is_ours(given):
            return _received(raw, source, now)
        given = _unwrapped(given)
    unknown = sorted(given.keys() - _FIELDS)
    if unknown:
        raise ConfigError("\n".join(f"{name}: an event has no such field" for name in unknown))
    data, content_type = _data(given)
    fields: dict[str, Any] = {"source": source, "kind": kind, "subject": "", "content_type": content_type}
    fields |= {key: value for key, value in given.items() if key not in {"data", "data_base64"}}
    fields |= {"time": _seconds(given.get("time", now)), "action": _action(given.get("action", "created"))}
    _check_types(fields)
    fields.setdefault("key", event_key(fields["source"], fields["subject"], repr(fields["time"]), data))
    return Event(data=data, **fields)


def _is_ours(envelope: Mapping[str, Any]) -> bool:
    return _OUR_TYPE.fullmatch(str(envelope.get("type"))) is not None and _origin(envelope) is not None


def _origin(envelope: Mapping[str, Any]) -> str | None:
    source = str(envelope.get("source"))
    return source.removeprefix(_OUR_SOURCE) if source.startswith(_OUR_SOURCE) else None


def _unwrapped(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the event that :func:`dcnios_daemon.core.event.cloudevent` wrapped."""
    fields = {name: value for name, value in envelope.items() if name in _CARRIED}
    fields |= {"key": envelope.get("id"), "source": _origin(envelope)}
    fields["content_type"] = envelope.get("datacontenttype", "application/json")
    if "data" in envelope:
        fields["data"] = _compact(envelope["data"]).decode()
    kind_and_action = _OUR_TYPE.fullmatch(str(envelope.get("type")))
    return fields | (kind_and_action.groupdict() if kind_and_action else {})


def _received(raw: bytes, source: str, now: float) -> Event:
    """What a ``cloudevents`` source would make of it."""
    headers = {"content-type": "application/cloudevents+json"}
    try:
        return read_request(headers, raw, source=source, now=now).events[0]
    except Malformed as error:
        raise ConfigError(str(error)) from error


def _data(given: Mapping[str, Any]) -> tuple[bytes, str]:
    """The bytes, and what they are unless the event says."""
    if "data_base64" in given:
        if "data" in given:
            raise ConfigError("data: give data or data_base64, not both")
        try:
            return base64.b64decode(given["data_base64"], validate=True), "application/octet-stream"
        except (binascii.Error, TypeError, ValueError) as error:
            raise ConfigError(f"data_base64: not base64: {error}") from error
    data = given.get("data", {})
    if not isinstance(data, str):
        return _compact(data), "application/json"
    try:
        return data.encode(), "text/plain"
    except UnicodeEncodeError as error:
        raise ConfigError("data: holds half of a character: give data_base64") from error


def _compact(document: object) -> bytes:
    """JSON without spaces; what UTF-8 cannot hold stays escaped."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")


def _seconds(value: object) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            datetime.fromtimestamp(value, UTC)  # a year that no calendar has is an error here already
            return float(value)
        moment = datetime.fromisoformat(str(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        what = "write seconds since 1970, or 2026-01-31T12:00:00Z"
        raise ConfigError(f"time: {value!r} is no time: {what}") from error


def _action(value: object) -> Action:
    try:
        return Action(str(value))
    except ValueError as error:
        raise ConfigError(f"action: {value!r} is none of {', '.join(Action)}") from error


def _check_types(fields: Mapping[str, Any]) -> None:
    wrong = [
        f"{name}: must be a text, not {fields[name]!r}"
        for name in ("key", "source", "kind", "subject", "content_type")
        if not isinstance(fields.get(name, ""), str)
    ]
    if not isinstance(fields.get("size"), int | None):
        wrong.append(f"size: must be a number of bytes, not {fields['size']!r}")
    attributes = fields.get("attributes", {})
    if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
        wrong.append("attributes: must be texts by name")
    if not _KEY.fullmatch(str(fields.get("key", "0" * 40))):
        wrong.append(f"key: must be 40 hex digits, not {fields['key']!r}")
    if wrong:
        raise ConfigError("\n".join(wrong))
