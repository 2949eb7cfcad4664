"""What a Kafka record becomes: an event with the value byte for byte, and a key that any reader agrees on."""

import re
from collections.abc import Mapping
from typing import Protocol

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import KEY_HEX, KeyMaker
from dcnios_daemon.kafka.headers import INSTANCE_HEADER, KEY_HEADER

_KEY = re.compile(rb"[0-9a-f]{%d}" % KEY_HEX)
_JSON_ENDS = frozenset({b"{}", b"[]"})
_MESSAGE, _REMOVED = Action.MESSAGE, Action.REMOVED
_PEEK = 64
_JSON = msgspec.json.Decoder(msgspec.Raw)


class Record(Protocol):
    """What we use of the client library's record."""

    @property
    def topic(self) -> str: ...  # noqa: D102 - as Kafka calls it
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch; -1: none."""
        ...

    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> tuple[tuple[str, bytes | None], ...]: ...  # noqa: D102


class Reader:
    """Makes events of records, for one source."""

    def __init__(self, *, source: str, instance: str, clock: Clock) -> None:
        self._source = source
        self._instance = instance.encode()
        self._clock = clock
        self._parts: dict[tuple[str, int], tuple[str, KeyMaker]] = {}
        """By topic and partition: the partition as text, and what makes its keys."""

    def event(self, record: Record) -> Event:
        """The record as an event: ``message``, or ``removed`` for a tombstone (no value at all)."""
        topic, partition, offset, timestamp = record.topic, record.partition, record.offset, record.timestamp
        part, keys = self._parts.get((topic, partition)) or self._part(topic, partition)
        attributes = {"partition": part, "offset": str(offset)}
        key = said = None
        if record.key is not None:
            attributes["record_key"] = record.key.decode("utf-8", "replace")
        if record.headers:
            for header, text in record.headers:
                attributes[f"header.{header.lower()}"] = (text or b"").decode("utf-8", "replace")
            key = self._kept_key(dict(record.headers))
            said = attributes.get("header.content-type")
        data = record.value or b""
        return Event(
            key=key or keys.key(offset, timestamp),
            source=self._source,
            kind="kafka",
            subject=topic,
            action=_MESSAGE if record.value is not None else _REMOVED,
            time=timestamp / 1000 if timestamp >= 0 else self._clock.now(),
            size=len(data),
            data=data,
            content_type=said or content_type(data),
            attributes=attributes,
        )

    def _part(self, topic: str, partition: int) -> tuple[str, KeyMaker]:
        part = self._parts[topic, partition] = str(partition), KeyMaker(self._source, topic, partition)
        return part

    def _kept_key(self, headers: Mapping[str, bytes | None]) -> str | None:
        key = headers.get(KEY_HEADER) or b""
        if _KEY.fullmatch(key) is None or headers.get(INSTANCE_HEADER) == self._instance:
            return None
        return key.decode()


def content_type(data: bytes) -> str:
    """``application/json`` for a JSON object or array, else ``application/octet-stream``.

    Only what begins and ends like one is looked at any closer.
    """
    ends = data[:1] + data[-1:]
    if ends not in _JSON_ENDS:
        ends = data[:_PEEK].lstrip()[:1] + data[-_PEEK:].rstrip()[-1:]
    if ends in _JSON_ENDS:
        try:
            _JSON.decode(data)
            if not data.isascii():
                data.decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return "application/octet-stream"
        return "application/json"
    return "application/octet-stream"
