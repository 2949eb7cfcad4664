"""What an order hands to its container, built from its events. Pure."""

import base64
import enum
import json
from collections.abc import Sequence
from typing import Any

from dcnios_daemon.core.event import Event, cloudevent


class PayloadForm(enum.StrEnum):
    """A route's ``payload``."""

    ORIGINAL = "original"
    """The source's own bytes."""
    CLOUDEVENT = "cloudevent"
    """A CloudEvent around them."""
    REFERENCE = "reference"
    """A CloudEvent that tells where they are (bucket and object, topic and offset) instead of carrying
    them: for data larger than a pod can be handed."""


def _encode(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _as_json(event: Event, form: PayloadForm) -> Any:  # noqa: ANN401 - the source's own JSON
    if form is not PayloadForm.ORIGINAL:
        return cloudevent(event, with_data=form is PayloadForm.CLOUDEVENT)
    try:
        return json.loads(event.data)
    except ValueError:
        return {"data_base64": base64.b64encode(event.data).decode()}


def build_payload(events: Sequence[Event], form: PayloadForm) -> bytes:
    """The payload of an order.

    One event: its data byte for byte, or its CloudEvent. Several: a JSON object with an ``events`` array of
    the same, where data that is not JSON stands as ``{"data_base64": …}``.
    """
    if len(events) > 1:
        return _encode({"events": [_as_json(event, form) for event in events]})
    return events[0].data if form is PayloadForm.ORIGINAL else _encode(_as_json(events[0], form))
