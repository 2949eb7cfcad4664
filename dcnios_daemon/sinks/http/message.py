"""An order as a request, after the CloudEvents HTTP binding. Pure.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

import json
import re
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from dcnios_daemon.core.event import Event, cloudevent, context_attributes
from dcnios_daemon.core.payload import PayloadForm
from dcnios_daemon.core.ports import Order

Mode = Literal["binary", "structured"]
_STRUCTURED = "application/cloudevents+json; charset=utf-8"
_BATCH = "application/cloudevents-batch+json; charset=utf-8"
_ANY_BYTES = "application/octet-stream"
_LITERAL = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""What stands for itself in a header's value (3.1.3.2); all else is percent-encoded UTF-8."""
_MEDIA = re.compile(r"[\x20-\x7e]+")


class Message(msgspec.Struct, frozen=True):
    """What is POSTed."""

    headers: dict[str, str]
    body: bytes


def message(order: Order, mode: Mode) -> Message:
    """The request for an order. ``payload: reference`` leaves the data out; one event goes as ``mode`` says,
    several as a JSON batch.
    """
    whole = order.form is not PayloadForm.REFERENCE
    if len(order.events) > 1:
        events = [cloudevent(event, with_data=whole) for event in order.events]
        return Message({"Content-Type": _BATCH}, _json(events))
    event = order.events[0]
    if mode == "structured":
        return Message({"Content-Type": _STRUCTURED}, _json(cloudevent(event, with_data=whole)))
    headers = {f"ce-{name}": _header(text) for name, text in context_attributes(event).items()}
    if not whole:
        body = _json(cloudevent(event, with_data=False)["data"])
        return Message(headers | {"Content-Type": "application/json"}, body)
    return Message(headers | {"Content-Type": _media(event)}, event.data)


def _header(text: str) -> str:
    return quote(text, safe=_LITERAL, errors="replace")


def _media(event: Event) -> str:
    """The data's type, if a header can say it."""
    return event.content_type if _MEDIA.fullmatch(event.content_type) else _ANY_BYTES


def _json(document: Any) -> bytes:  # noqa: ANN401 - JSON
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
