"""From an HTTP request to events. The specification is at github.com/cloudevents/spec: ``spec.md`` says what
an event is, ``bindings/http-protocol-binding.md`` how it travels, ``formats/json-format.md`` how it is
written.
"""

import base64
import binascii
import codecs
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import unquote

import msgspec

from dcnios_daemon.core.errors import Malformed
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key

KIND = "cloudevents"
MOST_EVENTS = 10_000
"""Events of a batch; more are answered 413. Bytes are bounded before, by the web server."""
MOST_ATTRIBUTES = 64 * 1024
"""Characters of an event's attributes together. The specification wants events of 64 KiB to be taken."""

_STRUCTURED = "application/cloudevents"
_BATCHED = "application/cloudevents-batch"
_REQUIRED = ("specversion", "id", "source", "type")
_TEXTS = frozenset({*_REQUIRED, "datacontenttype", "dataschema", "subject", "time"})
"""The specification's own attributes: texts all of them, and never empty."""
_DATA = frozenset({"data", "data_base64"})
_BOM = codecs.BOM_UTF8
_NAME = re.compile(r"[a-z0-9]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA = re.compile(rf"\s*{_WORD}/{_WORD}\s*(;.*)?", re.DOTALL)
_JSON_MEDIA = re.compile(r"\s*[^/]+/(?:[^/;]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]+)", re.IGNORECASE)
_CHARSETS = frozenset(
    {"utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252", "utf-16", "utf-16-le", "utf-16-be"}
)
"""That a structured event's text may be encoded in, as Python calls them."""
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:)(\d\d)((?:\.\d+)?)([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_LEAP = "60"
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MANY = msgspec.json.Decoder(list[msgspec.Raw])


class UnknownFormat(Malformed):
    """It may be an event, but in a form that is not understood here."""


class BatchTooLong(Malformed):
    """More events at once than are taken."""


class Reading(msgspec.Struct, frozen=True):
    """What was in a request."""

    events: list[Event]
    mistakes: list[str] = msgspec.field(default_factory=list)
    """Of each event of a batch that is none, what is wrong with it."""


def read_request(headers: Mapping[str, str], body: bytes, *, source: str, now: float) -> Reading:
    """The events in a request; the mode is told by its content type (HTTP binding 3).

    Args:
        headers: Names in lower case.
        body: As it came.
        source: The source's name in the configuration.
        now: Seconds since the epoch, for events that tell no time.

    Raises:
        Malformed: It is no CloudEvent; says what is wrong.
        UnknownFormat: It says of itself to be something else.
        BatchTooLong: There are more than are taken at once.
    """
    content_type = headers.get("content-type", "").strip()
    media = content_type.partition(";")[0].strip().lower()
    if media.startswith(_BATCHED):
        return _batch(_json(content_type, body, _BATCHED), source=source, now=now)
    if media.startswith(_STRUCTURED):
        return Reading([_structured(_json(content_type, body, _STRUCTURED), source=source, now=now)])
    attributes = {name[3:]: _header(value) for name, value in headers.items() if name.startswith("ce-")}
    if not attributes:
        raise UnknownFormat(
            f"the request is no CloudEvent: no ce- headers, and its content type is {content_type!r}, "
            f"not {_STRUCTURED}+json"
        )
    if content_type:
        attributes["datacontenttype"] = content_type
    return Reading([_event(attributes, body, source=source, now=now)])


def _json(content_type: str, body: bytes, form: str) -> bytes:
    """The body, which is JSON: in UTF-8 then, whatever else the header may say (RFC 8259, 8.1)."""
    if content_type.partition(";")[0].strip().lower() != f"{form}+json":
        raise UnknownFormat(f"the event format {content_type!r} is not supported: send {form}+json")
    charset = _charset(content_type)
    if charset not in {"utf-8", "ascii"}:
        raise UnknownFormat(f"{content_type!r}: JSON is sent in UTF-8")
    return body.removeprefix(_BOM)


def _charset(content_type: str) -> str:
    """Python's name of the charset in a content type; UTF-8 where there is none, empty for one unknown."""
    named = _CHARSET.search(content_type)
    try:
        return codecs.lookup(named[1]).name if named else "utf-8"
    except LookupError:
        return ""


def _header(value: str) -> str:
    """A header's value as the attribute's (HTTP binding 3.1.3.2): unquoted, then percent-decoded."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise Malformed(f"a ce- header holds {value!r}, which is not percent-encoded UTF-8") from error


def _batch(body: bytes, *, source: str, now: float) -> Reading:
    try:
        bodies = _MANY.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(f"the batch is no JSON array: {error}") from error
    if len(bodies) > MOST_EVENTS:
        raise BatchTooLong(f"{len(bodies)} events at once: send {MOST_EVENTS} at most")
    reading = Reading([])
    for index, raw in enumerate(bodies):
        try:
            reading.events.append(_structured(bytes(raw), source=source, now=now))
        except Malformed as error:
            reading.mistakes.append(f"event {index} of the batch: {error}")
    return reading


def _structured(body: bytes, *, source: str, now: float) -> Event:
    try:
        members = _MEMBERS.decode(body)
        given = {name: _scalar(name, raw) for name, raw in members.items() if name not in _DATA}
        attributes = {name: value for name, value in given.items() if value is not None}
        if _DATA & members.keys():
            attributes.setdefault("datacontenttype", "application/json")  # JSON format 3.1.2
        data = _data(members, attributes.get("datacontenttype", ""))
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(f"no JSON object: {error}") from error
    return _event(attributes, data, source=source, now=now)


def _scalar(name: str, raw: msgspec.Raw) -> str | None:
    """An attribute's value as text. Null is the same as its absence (JSON format 2.2)."""
    value = msgspec.json.decode(raw)
    if value is None or isinstance(value, str):
        return value
    if name in _TEXTS:
        raise Malformed(f"{name!r} must be a text")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    raise Malformed(f"the attribute {name!r} must be a text, a whole number or a boolean")


def _data(members: Mapping[str, msgspec.Raw], content_type: str) -> bytes:
    """The data, byte for byte as it stands in the event (JSON format 3.1)."""
    encoded, plain = members.get("data_base64"), members.get("data")
    if encoded is not None and bytes(encoded) != b"null":
        if plain is not None and bytes(plain) != b"null":
            raise Malformed("it has both data and data_base64")
        try:
            return base64.b64decode(msgspec.json.decode(encoded, type=str), validate=True)
        except (msgspec.ValidationError, binascii.Error, ValueError) as error:
            raise Malformed(f"data_base64 is no base64 text: {error}") from error
    if plain is None:
        return b""
    if not _JSON_MEDIA.fullmatch(content_type):
        text = msgspec.json.decode(plain)
        if isinstance(text, str):
            return _encoded(text, content_type)
    return bytes(plain)


def _encoded(text: str, content_type: str) -> bytes:
    """A text as its content type says, so that the two still fit each other outside of the JSON."""
    charset = _charset(content_type)
    if charset not in _CHARSETS:
        raise Malformed(f"the data cannot be written as {content_type!r}: send it as data_base64")
    try:
        return text.encode(charset, "surrogatepass" if charset == "utf-8" else "strict")
    except UnicodeEncodeError as error:
        raise Malformed(f"the data cannot be written as {content_type!r}: {error.reason}") from error


def _event(attributes: Mapping[str, str], data: bytes, *, source: str, now: float) -> Event:
    _check(attributes)
    return Event(
        key=event_key(source, attributes["source"], attributes["id"]),
        source=source,
        kind=KIND,
        subject=attributes.get("subject", attributes["source"]),
        action=Action.MESSAGE,
        time=_time(attributes["time"]) if "time" in attributes else now,
        data=data,
        content_type=attributes.get("datacontenttype", "application/octet-stream"),
        attributes=dict(attributes),
    )


def _check(attributes: Mapping[str, str]) -> None:
    missing = [name for name in _REQUIRED if not attributes.get(name)]
    if missing:
        raise Malformed(f"the CloudEvent has no {', '.join(missing)}")
    if attributes["specversion"] != "1.0":
        raise Malformed(f"specversion {attributes['specversion']!r} is not supported: send 1.0")
    for name, value in attributes.items():
        if not _NAME.fullmatch(name) or name == "data":
            raise Malformed(f"{name!r} is no attribute name: they are lower-case letters and digits")
        if not value and name in _TEXTS:
            raise Malformed(f"{name} is empty: leave it out")
        if _CONTROL.search(value):
            raise Malformed(f"{name} holds a control character")
    if not _MEDIA.fullmatch(attributes.get("datacontenttype", "a/b")):
        raise Malformed(f"datacontenttype {attributes['datacontenttype']!r} is no media type")
    if sum(map(len, attributes.values())) > MOST_ATTRIBUTES:
        raise Malformed(f"its attributes hold more than {MOST_ATTRIBUTES} characters: put that into data")


def _time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 timestamp; a leap second is the one after it."""
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise Malformed(f"time {text!r} is no RFC 3339 timestamp")
    try:
        minute, second, fraction, offset = found.groups()
        late = timedelta(seconds=second == _LEAP)
        moment = datetime.fromisoformat(
            f"{minute.upper()}{'59' if late else second}{fraction}{offset.upper()}"
        )
        return (moment + late).timestamp()
    except (ValueError, OverflowError) as error:
        raise Malformed(f"time {text!r} is no RFC 3339 timestamp") from error
