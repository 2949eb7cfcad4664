"""CloudEvents 1.0 over HTTP, for whoever can make a POST: one in a request (binary or structured mode), or
many (batch mode). The specification is at github.com/cloudevents/spec, the HTTP binding in
``bindings/http-protocol-binding.md``, the JSON format in ``formats/json-format.md``.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from urllib.parse import unquote

import msgspec

from dcnios_daemon.core.clock import Clock, SystemClock
from dcnios_daemon.core.errors import Malformed
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Batch, Inbound, Reply
from dcnios_daemon.core.settings import Secret, Settings
from dcnios_daemon.sources.inbound import Mailbox

KIND = "cloudevents"
_STRUCTURED = "application/cloudevents"
_BATCHED = "application/cloudevents-batch"
_REQUIRED = ("specversion", "id", "source", "type")
_NAME = re.compile(r"[a-z0-9]+")
_JSON_MEDIA = re.compile(r"[^/]+/(?:[^/;]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MANY = msgspec.json.Decoder(list[msgspec.Raw])


class CloudEventsSettings(Settings):
    """CloudEvents at ``POST /sources/<name>``."""

    token: Secret | None = None
    """What callers must present as ``Authorization: Bearer``."""


class CloudEventsSource:
    """Implements :class:`~dcnios_daemon.core.ports.Source` and ``Receiver``.

    Args:
        name: The source's name in the configuration.
        clock: Tells the time.
    """

    def __init__(self, *, name: str, clock: Clock | None = None) -> None:
        self._name = name
        self._clock = clock or SystemClock()
        self._mailbox = Mailbox()

    async def connect(self, cursor: str | None) -> None:
        """There is nothing to connect to, and nothing to go on after."""

    async def read(self) -> Batch:
        """All that came in since the last read."""
        return await self._mailbox.collect()

    async def ack(self, batch: Batch) -> None:
        """Answer the callers."""
        self._mailbox.acknowledge(batch)

    async def pause(self) -> None:
        """Answer that we are busy."""
        self._mailbox.pause()

    async def resume(self) -> None:
        """Take events again."""
        self._mailbox.resume()

    async def aclose(self) -> None:
        """Turn away who waits."""
        self._mailbox.close()

    async def receive(self, request: Inbound) -> Reply:
        """One event or many (POST), or a look whether we are there (GET, HEAD)."""
        if request.method in {"GET", "HEAD"}:
            return Reply(HTTPStatus.OK)
        if request.method != "POST":
            return Reply(HTTPStatus.METHOD_NOT_ALLOWED, "POST a CloudEvent\n", {"allow": "GET, HEAD, POST"})
        return await self._mailbox.post(
            read_request(request.headers, request.body, source=self._name, now=self._clock.now())
        )


def read_request(headers: Mapping[str, str], body: bytes, *, source: str, now: float) -> list[Event]:
    """The events in a request; the mode is told by its content type (HTTP binding 3).

    Args:
        headers: Names in lower case.
        body: As it came.
        source: The source's name in the configuration.
        now: Seconds since the epoch, for events that tell no time.

    Raises:
        Malformed: It is no CloudEvent; says what is wrong.
    """
    content_type = headers.get("content-type", "").strip()
    media = content_type.partition(";")[0].strip().lower()
    if media.startswith(_BATCHED):
        _must_be_json(media, _BATCHED)
        try:
            bodies = _MANY.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Malformed(f"the batch is no JSON array: {error}") from error
        return [
            _structured(bytes(raw), f"event {index} of the batch: ", source=source, now=now)
            for index, raw in enumerate(bodies)
        ]
    if media.startswith(_STRUCTURED):
        _must_be_json(media, _STRUCTURED)
        return [_structured(body, "", source=source, now=now)]
    attributes = {name[3:]: _header(value) for name, value in headers.items() if name.startswith("ce-")}
    if not attributes:
        raise Malformed(
            f"the request is no CloudEvent: no ce- headers, and its content type is {content_type!r}, "
            f"not {_STRUCTURED}+json"
        )
    return [_event(attributes, body, content_type, source=source, now=now)]


def _must_be_json(media: str, form: str) -> None:
    if media != f"{form}+json":
        raise Malformed(f"the event format {media!r} is not supported: send {form}+json")


def _header(value: str) -> str:
    """A header's value as the attribute's (HTTP binding 3.1.3.2): unquoted, then percent-decoded."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError as error:
        raise Malformed(f"a ce- header holds {value!r}, which is not percent-encoded UTF-8") from error


def _structured(body: bytes, where: str, *, source: str, now: float) -> Event:
    try:
        members = _MEMBERS.decode(body)
        attributes = {
            name: _scalar(name, raw) for name, raw in members.items() if name not in {"data", "data_base64"}
        }
        given = {name: value for name, value in attributes.items() if value is not None}
        content_type = given.pop("datacontenttype", "application/json")
        data = _data(members, content_type)
        return _event(given, data, content_type, source=source, now=now)
    except Malformed as error:
        raise Malformed(f"{where}{error}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(f"{where}no JSON object: {error}") from error


def _scalar(name: str, raw: msgspec.Raw) -> str | None:
    """An attribute's value as text. Null is the same as its absence (JSON format 2.2)."""
    value = msgspec.json.decode(raw)
    if value is None or isinstance(value, str):
        return value
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
            return text.encode("utf-8", "surrogatepass")
    return bytes(plain)


def _event(
    attributes: Mapping[str, str], data: bytes, content_type: str, *, source: str, now: float
) -> Event:
    missing = [name for name in _REQUIRED if not attributes.get(name)]
    if missing:
        raise Malformed(f"the CloudEvent has no {', '.join(missing)}")
    if attributes["specversion"] != "1.0":
        raise Malformed(f"specversion {attributes['specversion']!r} is not supported: send 1.0")
    strange = [name for name in attributes if not _NAME.fullmatch(name)]
    if strange:
        raise Malformed(f"{strange[0]!r} is no attribute name: they are lower-case letters and digits")
    return Event(
        key=event_key(source, attributes["source"], attributes["id"]),
        source=source,
        kind=KIND,
        subject=attributes.get("subject") or attributes["source"],
        action=Action.MESSAGE,
        time=_time(attributes["time"]) if "time" in attributes else now,
        data=data,
        content_type=content_type or "application/octet-stream",
        attributes=dict(attributes),
    )


def _time(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in text.upper():
        raise Malformed(f"time {text!r} is no RFC 3339 timestamp")
    return moment.timestamp()


def build(*, name: str, settings: CloudEventsSettings, instance: str) -> CloudEventsSource:  # noqa: ARG001 - all kinds are built alike
    """See :class:`~dcnios_daemon.sources.registry.SourceKind`."""
    return CloudEventsSource(name=name)
