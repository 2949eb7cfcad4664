"""An order as a record, after the CloudEvents Kafka binding. Pure.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from collections.abc import Sequence

import msgspec

from dcnios_daemon.core.event import Action, context_attributes
from dcnios_daemon.core.payload import PayloadForm
from dcnios_daemon.core.ports import Order
from dcnios_daemon.kafka.headers import INSTANCE_HEADER, KEY_HEADER

_STRUCTURED = "application/cloudevents+json; charset=UTF-8"


class Record(msgspec.Struct, frozen=True):
    """What is written."""

    key: bytes
    value: bytes | None
    """None: a tombstone, as one that came from Kafka is."""
    headers: Sequence[tuple[str, bytes]]


def record(order: Order, *, instance: str) -> Record:
    """The record for an order. An event's own bytes travel with its CloudEvent attributes as headers; a
    CloudEvent is one already, and several events are one JSON document.

    Args:
        order: What to write.
        instance: The daemon that writes.
    """
    event = order.events[0]
    headers = {KEY_HEADER: order.key, INSTANCE_HEADER: instance}
    value: bytes | None = order.payload
    if len(order.events) > 1:
        return _record(order.key, value, headers | {"content-type": "application/json"})
    if order.form is PayloadForm.ORIGINAL:
        headers |= {f"ce_{name}": text for name, text in context_attributes(event).items()}
        headers["content-type"] = event.content_type
        value = value if value or event.action is not Action.REMOVED else None
    else:
        headers["content-type"] = _STRUCTURED
    return _record(event.attributes.get("partitionkey") or order.key, value, headers)


def _record(key: str, value: bytes | None, headers: dict[str, str]) -> Record:
    encoded = [(name, text.encode("utf-8", "replace")) for name, text in headers.items()]
    return Record(key.encode("utf-8", "replace"), value, encoded)
