"""Values that begin with the number of a schema become JSON.

The form in front is Confluent's: a zero byte, then the number, four bytes, big-endian (docs.confluent.io,
"Wire format"). A value that cannot be understood is an event all the same, with its bytes as they are and the
reason as attribute ``value_error``; a registry that is away makes the source wait instead, since then nothing
is known of the value yet.
"""

import asyncio
import struct
from collections.abc import Mapping, Sequence

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.event import Event
from dcnios_daemon.sources.kafka import avro
from dcnios_daemon.sources.kafka.avro import Decode, Undecodable
from dcnios_daemon.sources.kafka.schema_registry import (
    RegistrySettings,
    Schema,
    SchemaRegistry,
    UnknownSchema,
)
from dcnios_daemon.telemetry import events as telemetry

_PREFIX = struct.Struct(">bI")
_LARGEST = 2**31 - 1
_KEPT_SCHEMAS = 1000
_BELIEVED_FOR = 300.0
"""Seconds that a schema is taken for unknown or unusable before the registry is asked for it again."""
_DOUBTS = (0.5, 1.5)
"""Of several registries one may lag behind the producer's: an unknown schema is asked for again after these
seconds, ..."""
_DOUBT_EVERY = 300.0
"""... but only this often: a topic full of rubbish would be read at a crawl."""


class _Codec(msgspec.Struct, frozen=True):
    """What to do with the values of one schema."""

    attributes: Mapping[str, str]
    decode: Decode | None = None
    """None: they stay as they are."""
    is_json: bool = True
    """Whether what ``decode`` gives is JSON."""
    refusal: str = ""
    """Why they cannot be decoded."""
    until: float | None = None
    """Monotonic time; None: for ever."""


class Values:
    """Decodes the values of one source's records. Without a registry it does nothing."""

    def __init__(self, *, source: str, settings: RegistrySettings | None, clock: Clock) -> None:
        self._source = source
        self._registry = None if settings is None else SchemaRegistry(settings)
        self._clock = clock
        self._codecs: dict[int, _Codec] = {}
        """By the schema's number, those used last at the end."""
        self._doubted: float | None = None

    async def learn(self, values: Sequence[bytes | None]) -> None:
        """Ask the registry for the schemas of these values that are not known yet.

        Raises:
            Disconnected, Rejected: It does not answer, or not us.
        """
        if self._registry is None:
            return
        numbers = {number for value in values if value and (number := _number(value)) is not None}
        for number in numbers:
            codec = self._codecs.pop(number, None)
            if codec is None or (codec.until is not None and codec.until <= self._clock.monotonic()):
                codec = await self._codec(number, self._registry)
            self._codecs[number] = codec
        while len(self._codecs) > max(_KEPT_SCHEMAS, len(numbers)):
            del self._codecs[next(iter(self._codecs))]

    def decoded(self, event: Event) -> Event:
        """The event with its value decoded; its schema must have been learnt."""
        if self._registry is None or (number := _number(event.data)) is None:
            return event
        codec = self._codecs.get(number)
        if codec is None:
            return event
        attributes = {**event.attributes, **codec.attributes}
        if codec.decode is None and not codec.refusal:
            return msgspec.structs.replace(event, attributes=attributes)
        try:
            data = _decode(codec, event.data[_PREFIX.size :])
        except Undecodable as error:
            return self._kept(event, attributes, str(error))
        content_type = "application/json" if codec.is_json else "application/octet-stream"
        return msgspec.structs.replace(
            event, data=data, size=len(data), content_type=content_type, attributes=attributes
        )

    async def check(self) -> None:
        """Make sure that the registry is there and lets us in.

        Raises:
            Disconnected, Rejected: It is not, or does not.
        """
        if self._registry is not None:
            await self._registry.check()

    async def aclose(self) -> None:
        """Release connections."""
        if self._registry is not None:
            await self._registry.aclose()

    def _kept(self, event: Event, attributes: Mapping[str, str], reason: str) -> Event:
        place = f"value at {event.subject}/{event.attributes['partition']}/{event.attributes['offset']}"
        said = f"schema {attributes['schema_id']}: {reason}; it is passed on as it is"
        telemetry.InputMalformed(source=self._source, what=place, error=said).emit()
        return msgspec.structs.replace(event, attributes={**attributes, "value_error": reason})

    async def _codec(self, number: int, registry: SchemaRegistry) -> _Codec:
        attributes = {"schema_id": str(number)}
        until = self._clock.monotonic() + _BELIEVED_FOR
        try:
            schema = await self._asked(number, registry)
            attributes["schema_type"] = schema.schema_type.lower()
            if schema.schema_type == "JSON":
                return _Codec(attributes, decode=_checked_json)
            if schema.schema_type != "AVRO":
                telemetry.ValuesKept(
                    source=self._source, schema=number, schema_type=schema.schema_type
                ).emit()
                return _Codec(attributes)
            references = await registry.references(schema)
            name, decode = await asyncio.to_thread(avro.compiled, schema.schema, references)
        except UnknownSchema as error:
            return _Codec(attributes, refusal=f"the registry does not have it: {error}", until=until)
        except Undecodable as error:
            return _Codec(attributes, refusal=str(error), until=until)
        attributes |= {"schema_name": name} if name else {}
        if name == "bytes":  # their serializers write them bare, without Avro's length
            return _Codec(attributes, decode=bytes, is_json=False)
        return _Codec(attributes, decode=decode)

    async def _asked(self, number: int, registry: SchemaRegistry) -> Schema:
        if not 0 < number <= _LARGEST:
            raise UnknownSchema("no schema has such a number")
        pauses: list[float] | None = None
        while True:
            try:
                return await registry.schema(number)
            except UnknownSchema:
                pauses = self._pauses_in_doubt() if pauses is None else pauses
                if not pauses:
                    raise
            await asyncio.sleep(pauses.pop(0))

    def _pauses_in_doubt(self) -> list[float]:
        now = self._clock.monotonic()
        if self._doubted is not None and now - self._doubted < _DOUBT_EVERY:
            return []
        self._doubted = now
        return list(_DOUBTS)


def _number(value: bytes) -> int | None:
    if len(value) < _PREFIX.size or value[0]:
        return None
    number: int = _PREFIX.unpack_from(value)[1]
    return number


def _decode(codec: _Codec, value: bytes) -> bytes:
    if codec.decode is None:
        raise Undecodable(codec.refusal)
    return codec.decode(value)


def _checked_json(value: bytes) -> bytes:
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
        value.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable(f"it is no JSON: {error}") from error
    return value
