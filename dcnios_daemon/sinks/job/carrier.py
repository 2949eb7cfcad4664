"""How a payload gets into the pod: in an annotation while that holds it byte for byte, else in a Secret."""

from collections.abc import Mapping

import msgspec

from dcnios_daemon.core.errors import OrderRefused
from dcnios_daemon.kubernetes.pods import Json
from dcnios_daemon.sinks.job.pod import EVENT_NAME, from_annotation

EVENT = "dcnios-daemon/event"
"""The annotation."""
ANNOTATION_LIMIT = 200 * 1024
"""Bytes of payload that go into an annotation."""
ANNOTATIONS_LIMIT = 240 * 1024
"""Bytes of a pod's annotations together. The API server takes 256 KiB; others add theirs."""
SECRET_LIMIT = 1024 * 1024
"""Bytes that a Secret takes (``MaxSecretSize`` of the API server)."""


class Carrier(msgspec.Struct, frozen=True):
    """How a payload gets into the pod."""

    volume: Json
    variable: Json
    """The source of ``EVENT``. Unlike plain values, these are not searched for ``$(NAME)``."""
    annotation: str | None = None
    data: bytes | None = None


def carry(payload: bytes, name: str, *, beside: Mapping[str, str]) -> Carrier:
    """An annotation while that holds it byte for byte, else a Secret.

    Raises:
        OrderRefused: Nothing holds it.
    """
    text = _text(payload)
    taken = sum(len(key) + len(value.encode()) for key, value in beside.items())
    if text is not None and len(payload) <= min(ANNOTATION_LIMIT, ANNOTATIONS_LIMIT - taken):
        return in_annotation(text)
    if len(payload) > SECRET_LIMIT:
        raise OrderRefused(
            f"the payload has {len(payload)} bytes, more than the {SECRET_LIMIT} that a pod can be handed"
        )
    items = [{"key": "event", "path": EVENT_NAME}]
    key = {"secretKeyRef": {"name": name, "key": "event"}}
    return Carrier({"secret": {"secretName": name, "items": items}}, key, data=payload)


def in_annotation(text: str) -> Carrier:
    """The carrier of a payload that fits into an annotation."""
    field = {"fieldPath": f"metadata.annotations['{EVENT}']"}
    return Carrier(from_annotation(EVENT, EVENT_NAME), {"fieldRef": field}, annotation=text)


def _text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None
