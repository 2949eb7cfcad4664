"""Avro values become JSON, and no value can hurt us: not by its depth, nor by a length that it only claims.

In JSON, bytes and ``fixed`` are base64, decimals and UUIDs texts, times RFC 3339 (as msgspec writes them);
``NaN`` and the infinities, which JSON does not know, are texts, as in Protobuf's JSON. A union's value stands
for itself, without the name of its branch. ``fastavro`` is loaded when the first schema comes.
"""

import functools
import importlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

Decode = Callable[[bytes], bytes]
"""From a value to JSON. Raises Undecodable."""

_WRAPPER = "__value__"
_HAS_FLOATS = ('"float"', '"double"')
_NAMED = ("record", "error", "enum", "fixed")
_BROKEN = (
    ValueError,  # UnicodeDecodeError, msgspec's and fastavro's errors are such
    LookupError,
    EOFError,
    ArithmeticError,
    TypeError,
    AttributeError,
    RecursionError,
    AssertionError,
)
"""What the library raises over a schema or a value that is not what it should be."""


class Undecodable(Exception):
    """A value, or the schema it names, cannot be understood. The message says why."""


def compiled(schema: str, references: Sequence[str] = ()) -> tuple[str, Decode]:
    """The full name of a schema, if it has one, and a decoder for its values. Takes a moment, and may load
    the library: call it off the event loop.

    Args:
        schema: Avro's JSON.
        references: The schemas it refers to, each after those that it refers to itself.

    Raises:
        Undecodable: It is no schema, or not one whose values are safe to read.
    """
    fastavro = importlib.import_module("fastavro")
    try:
        named: dict[str, Any] = {}
        for reference in references:
            fastavro.parse_schema(msgspec.json.decode(reference), named_schemas=named)
        given = msgspec.json.decode(schema)
        # A record adds no bytes; within one, a union or a bare name is treated as all else.
        wrapper = {"type": "record", "name": _WRAPPER, "fields": [{"name": "value", "type": given}]}
        parsed = fastavro.parse_schema(wrapper, named_schemas=named)
        shape = _Shape(named)
        shape.takes_bytes(_WRAPPER)
    except (fastavro.schema.SchemaParseException, *_BROKEN) as error:
        raise Undecodable(f"its schema cannot be used: {_text(error)}") from error
    # The compiled reader does not mind its depth: a value of some kilobytes could end the process.
    module = "fastavro._read_py" if shape.is_recursive else "fastavro"
    reader = importlib.import_module(module).schemaless_reader
    has_floats = any(mark in text for text in (schema, *references) for mark in _HAS_FLOATS)
    return _name(parsed), functools.partial(_decode, reader, parsed, has_floats)


def _decode(reader: Callable[..., Any], schema: Mapping[str, Any], has_floats: bool, value: bytes) -> bytes:  # noqa: FBT001 - bound once, above
    stream = io.BytesIO(value)
    try:
        read = reader(stream, schema)["value"]
        encoded = msgspec.json.encode(_sayable(read) if has_floats else read)
    except _BROKEN as error:
        raise Undecodable(_text(error)) from error
    if left := len(value) - stream.tell():
        raise Undecodable(f"{left} bytes are left over")
    return encoded


def _name(parsed: Mapping[str, Any]) -> str:
    given = parsed["fields"][0]["type"]
    name = given.get("name", "") if isinstance(given, dict) else given if isinstance(given, str) else ""
    return str(name)


def _sayable(value: Any) -> Any:  # noqa: ANN401 - any value there is
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: _sayable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_sayable(each) for each in value]
    return value


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


class _Shape:
    """Looks through a schema for what makes reading by it dangerous."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._open: set[str] = set()
        self._known: dict[str, bool] = {}
        self.is_recursive = False
        """Whether values can be as deep as they like."""

    def takes_bytes(self, schema: Any) -> bool:  # noqa: ANN401 - Avro's JSON
        """Whether each of its values takes at least one byte.

        Raises:
            Undecodable: Arrays of what takes none: some bytes could claim any number of items.
        """
        if isinstance(schema, list):
            for each in schema:
                self.takes_bytes(each)
            return True  # the branch's number
        if isinstance(schema, str):
            return self._named_takes_bytes(schema) if schema in self._named else schema != "null"
        kind = schema["type"]
        if kind == "array" and not self.takes_bytes(schema["items"]):
            raise Undecodable("its schema has arrays of items that take no bytes")
        if kind == "map":
            self.takes_bytes(schema["values"])
        if kind in ("array", "map"):  # a tuple: it may be a schema itself, which has no hash
            return True
        return self.takes_bytes(schema["name"] if kind in _NAMED else kind)

    def _named_takes_bytes(self, name: str) -> bool:
        if name in self._open:
            self.is_recursive = True
            return True
        if name not in self._known:
            schema = self._named[name]
            self._open.add(name)
            fields = [self.takes_bytes(field["type"]) for field in schema.get("fields", ())]
            self._known[name] = any(fields) or schema["type"] == "enum" or schema.get("size", 0) > 0
            self._open.remove(name)
        return self._known[name]
