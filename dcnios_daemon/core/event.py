"""The event: what a source gives, what the journal keeps, what a container is handed."""

import base64
import enum
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from dcnios_daemon.core.clock import iso


class Action(enum.StrEnum):
    """What happened to the subject."""

    CREATED = "created"
    MOVED = "moved"
    REMOVED = "removed"
    STAGED = "staged"
    MESSAGE = "message"
    SUCCEEDED = "succeeded"
    """A delivery did; so its result says."""
    DEAD = "dead"
    """A delivery is; so its result says."""


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One happening at a source.

    Equal keys mean the same happening; ``data`` is the original, byte for byte. It holds nothing that could
    hold it, so that Python's collector of cycles need not look at each of thousands again and again.
    """

    key: str
    """40 hex digits, see :func:`dcnios_daemon.core.names.event_key`."""
    source: str
    """The source's name in the configuration."""
    kind: str
    """The source's kind: ``minio``, ``kafka``, ..."""
    subject: str
    """A path, ``bucket/key`` or a topic."""
    action: Action
    time: float
    """When it happened at its origin, in seconds since the epoch."""
    size: int | None = None
    """Bytes of the object, where there is one."""
    data: bytes = b""
    content_type: str = "application/json"
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)
    """What else the source knows (partition, offset, headers), lower-case: for filters and templates."""

    def __repr__(self) -> str:
        """Name it without its data, which may be large or private."""
        return f"<Event {self.key[:8]} {self.source} {self.action} {self.subject!r} {len(self.data)} B>"


def context_attributes(event: Event) -> dict[str, str]:
    """What a CloudEvent 1.0 says of itself beside its data."""
    said = {
        "specversion": "1.0",
        "id": event.key,
        "source": f"/dcnios/{event.source}",
        "type": f"dcnios.{event.kind}.{event.action}",
        "subject": event.subject,
        "time": iso(event.time),
        "partitionkey": event.attributes.get("partitionkey", ""),
    }
    return {name: text for name, text in said.items() if text}


def cloudevent(event: Event, *, with_data: bool = True) -> dict[str, Any]:
    """The event as a CloudEvent 1.0 in structured JSON form (a dictionary ready to be encoded).

    JSON data goes into ``data`` as it is, all else base64 into ``data_base64``, as the specification says.
    Without its data, ``data`` holds the size and attributes, by which it can be found at its source.
    """
    envelope: dict[str, Any] = {**context_attributes(event)}
    if not with_data:
        return envelope | {"data": {"size": event.size, **event.attributes}}
    if event.content_type.split(";")[0].strip().endswith("json"):
        try:
            return envelope | {"datacontenttype": event.content_type, "data": json.loads(event.data)}
        except ValueError:
            pass  # said to be JSON, is not: carried as bytes
    return envelope | {
        "datacontenttype": event.content_type,
        "data_base64": base64.b64encode(event.data).decode(),
    }
