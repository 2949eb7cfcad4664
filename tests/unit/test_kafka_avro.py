"""Avro becomes JSON; what is not Avro, or pretends to be more than it is, is told and hurts nobody."""

import datetime as dt
import io
import json
import math
import subprocess
import sys
import uuid
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcnios_daemon.sources.kafka.avro import Undecodable, compiled

UTC = dt.UTC


def written(schema: Any, value: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
    return stream.getvalue()


def read(schema: Any, data: bytes) -> Any:
    _, decode = compiled(json.dumps(schema))
    return json.loads(decode(data))


def through(schema: Any, value: Any) -> Any:
    return read(schema, written(schema, value))


def logical(kind: str, meaning: str, **more: object) -> dict[str, object]:
    return {"type": kind, "logicalType": meaning} | more


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ("null", None, None),
        ("long", -(2**63), -(2**63)),
        ("string", "é\u2028", "é\u2028"),
        ("bytes", b"\x00\xff", "AP8="),
        ({"type": "fixed", "name": "F", "size": 2}, b"\x01\x02", "AQI="),
        ({"type": "enum", "name": "E", "symbols": ["ON", "OFF"]}, "OFF", "OFF"),
        (["null", "string", "int"], 7, 7),
        (["null", "string", "int"], None, None),
        ({"type": "map", "values": "int"}, {"a": 1}, {"a": 1}),
        ({"type": "array", "items": ["null", "boolean"]}, [None, True], [None, True]),
        (logical("bytes", "decimal", precision=9, scale=2), Decimal("-12.30"), "-12.30"),
        (
            logical("fixed", "decimal", precision=9, scale=3, name="D", size=8),
            Decimal("0.005"),
            "0.005",
        ),
        (
            logical("long", "timestamp-millis"),
            dt.datetime(2026, 3, 1, 12, 0, 0, 5000, UTC),
            "2026-03-01T12:00:00.005000Z",
        ),
        (logical("long", "timestamp-micros"), dt.datetime(1969, 12, 31, tzinfo=UTC), "1969-12-31T00:00:00Z"),
        (logical("long", "local-timestamp-micros"), dt.datetime(2026, 3, 1), "2026-03-01T00:00:00"),  # noqa: DTZ001 - local
        (logical("int", "date"), dt.date(2026, 3, 1), "2026-03-01"),
        (logical("int", "time-millis"), dt.time(1, 2, 3), "01:02:03"),
        (
            logical("string", "uuid"),
            uuid.UUID("12345678-1234-5678-1234-567812345678"),
            "12345678-1234-5678-1234-567812345678",
        ),
        (logical("string", "unheard-of"), "x", "x"),
        ("double", math.nan, "NaN"),
        ({"type": "array", "items": "float"}, [1.5, math.inf, -math.inf], [1.5, "Infinity", "-Infinity"]),
    ],
)
def test_each_type_has_a_sensible_json(schema: Any, value: Any, expected: Any) -> None:
    assert through(schema, value) == expected


RUN = {
    "type": "record",
    "name": "Run",
    "namespace": "org.example",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["ON", "OFF"]}},
        {"name": "before", "type": ["null", "State"], "default": None},
        {
            "name": "frames",
            "type": {
                "type": "array",
                "items": {"type": "record", "name": "Frame", "fields": [{"name": "at", "type": "double"}]},
            },
        },
        {"name": "last", "type": ["null", "org.example.Frame"], "default": None},
    ],
}


def test_records_with_nested_names_become_objects_and_tell_their_name() -> None:
    value = {"id": 7, "state": "ON", "before": "OFF", "frames": [{"at": math.nan}], "last": {"at": 0.5}}
    assert through(RUN, value) == value | {"frames": [{"at": "NaN"}]}
    assert compiled(json.dumps(RUN))[0] == "org.example.Run"
    assert compiled('["null", "string"]')[0] == ""


def test_references_are_resolved_also_by_a_union_at_the_top() -> None:
    point = {"type": "record", "name": "geo.Point", "fields": [{"name": "x", "type": "int"}]}
    line = {
        "type": "record",
        "name": "geo.Line",
        "fields": [{"name": "ends", "type": {"type": "array", "items": "geo.Point"}}],
    }
    references = [json.dumps(point), json.dumps(line)]
    _, decode = compiled('["null", "geo.Line"]', references)
    assert json.loads(decode(b"\x02\x04\x02\x04\x00")) == {"ends": [{"x": 1}, {"x": 2}]}


TREE = {
    "type": "record",
    "name": "Node",
    "fields": [{"name": "next", "type": ["null", "Node"]}, {"name": "n", "type": "int"}],
}


def test_values_as_deep_as_their_schema_allows_are_read_up_to_a_depth() -> None:
    value: Any = None
    for n in range(50):
        value = {"next": value, "n": n}
    assert through(TREE, value) == value


def test_a_value_that_is_deeper_than_any_stack_is_told_and_ends_nothing() -> None:
    code = (
        "from dcnios_daemon.sources.kafka.avro import *; import json\n"
        f"_, decode = compiled(json.dumps({TREE!r}))\n"
        "try: decode(b'\\x02' * 1_000_000 + b'\\x00' * 1_000_001)\n"
        "except Undecodable as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("RecursionError")


@pytest.mark.parametrize(
    "item",
    [
        "null",
        {"type": "null", "name": "int"},
        {"type": "record", "name": "Empty", "fields": []},
        {"type": "record", "name": "Nothing", "fields": [{"name": "n", "type": "null"}]},
        {"type": "fixed", "name": "None", "size": 0},
    ],
)
def test_arrays_that_could_claim_any_number_of_items_are_refused(item: Any) -> None:
    for schema in (
        {"type": "array", "items": item},
        ["int", {"type": "map", "values": {"type": "array", "items": item}}],
    ):
        with pytest.raises(Undecodable, match="arrays of items that take no bytes"):
            compiled(json.dumps(schema))


@pytest.mark.parametrize(
    "schema",
    [
        "",
        "{",
        "{}",
        "[]",
        "5",
        '"Unheard"',
        '{"type": "record", "name": "R"}',
        "[" * 100_000,
        '{"type": "array"}',
    ],
)
def test_what_is_no_schema_is_told(schema: str) -> None:
    try:
        _, decode = compiled(schema)
    except Undecodable:
        return
    with pytest.raises(Undecodable):
        decode(b"\x02\x02")


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        ("int", b""),
        ("int", b"\x02\x02"),
        ("string", b"\x0aab"),
        ("string", b"\x02\xff"),
        ("string", b"\x01"),
        ("bytes", b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"),
        (["null", "int"], b"\x08"),
        (logical("long", "timestamp-millis"), b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        (logical("string", "uuid"), b"\x02a"),
    ],
)
def test_what_is_no_value_is_told(schema: Any, data: bytes) -> None:
    with pytest.raises(Undecodable):
        read(schema, data)


EVERYTHING = {
    "type": "record",
    "name": "All",
    "fields": [
        {"name": f"f{number}", "type": each}
        for number, each in enumerate(
            [
                RUN,
                TREE,
                ["null", "string", "bytes", "boolean"],
                {"type": "map", "values": {"type": "array", "items": "float"}},
                logical("bytes", "decimal", precision=3, scale=1),
                logical("int", "date"),
                logical("long", "timestamp-micros"),
                logical("int", "time-millis"),
                logical("long", "time-micros"),
                logical("string", "uuid"),
                logical("fixed", "duration", name="Duration", size=12),
            ]
        )
    ],
}
DECODERS = [compiled(json.dumps(field["type"]))[1] for field in EVERYTHING["fields"]]  # type: ignore[index]
DECODERS.append(compiled(json.dumps(EVERYTHING))[1])


@given(st.sampled_from(DECODERS), st.binary(max_size=64))
def test_any_bytes_are_either_json_or_told(decode: Any, data: bytes) -> None:
    try:
        json.loads(decode(data))
    except Undecodable:
        return
