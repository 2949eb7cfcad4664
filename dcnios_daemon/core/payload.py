"""What an order hands to its container, built from its events. Pure."""

import base64
import enum
import json
from collections.abc import Sequence
from typing import Any

from dcnios_daemon.core.event import Event, cloudevent


class PayloadForm(enum.StrEnum):
    """A route's ``payload``: the source's own bytes, or a CloudEvent around them."""

    ORIGINAL = "original"
    CLOUDEVENT = "cloudevent"


def _encode(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _as_json(event: Event) -> Any:  # noqa: ANN401 - the source's own JSON
    try:
        return json.loads(event.data)
    except ValueError:
        return {"data_base64": base64.b64encode(event.data).decode()}


def build_payload(events: Sequence[Event], form: PayloadForm) -> bytes:
    """The payload of an order.

    One event: its data byte for byte, or its CloudEvent. Several: a JSON object with an ``events`` array of
    the same, where data that is not JSON stands as ``{"data_base64": …}``.
    """
    if len(events) == 1:
        return events[0].data if form is PayloadForm.ORIGINAL else _encode(cloudevent(events[0]))
    members = [_as_json(event) if form is PayloadForm.ORIGINAL else cloudevent(event) for event in events]
    return _encode({"events": members})
