"""CloudEvents as they come over HTTP."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from dcnios_daemon.core.errors import Malformed
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Inbound
from dcnios_daemon.sources.cloudevents import CloudEventsSource, read_request

ENVELOPE = {"specversion": "1.0", "id": "a-1", "source": "/beam/7", "type": "org.example.shot"}
BINARY = {f"ce-{name}": value for name, value in ENVELOPE.items()}


def read(headers: Mapping[str, str], body: bytes = b"") -> list[Event]:
    return read_request(headers, body, source="hooks", now=1000.0)


def binary(body: bytes = b"", **more: str) -> Event:
    (event,) = read(BINARY | {name.replace("_", "-"): value for name, value in more.items()}, body)
    return event


def structured(members: Mapping[str, Any] | bytes) -> Event:
    body = members if isinstance(members, bytes) else json.dumps(members).encode()
    (event,) = read({"content-type": "application/cloudevents+json; charset=utf-8"}, body)
    return event


def test_binary_mode_carries_the_body_byte_for_byte() -> None:
    body = b'{ "a" : 1.0,\n "b":"\xff" }'
    event = binary(body, content_type="application/json", ce_subject="run/7", ce_time="2026-11-23T10:00:00Z")
    assert event.data == body
    assert event.content_type == "application/json"
    assert (event.subject, event.time, event.action) == ("run/7", 1795428000.0, "message")
    assert event.attributes["type"] == "org.example.shot"


def test_binary_attributes_are_percent_decoded_and_unquoted() -> None:
    event = binary(ce_subject="Euro%20%E2%82%AC%20%F0%9F%98%80", ce_note='"a \\"b\\""')
    assert event.subject == "Euro \u20ac \U0001f600"
    assert event.attributes["note"] == 'a "b"'


def test_without_subject_and_time_it_has_its_source_and_now() -> None:
    event = binary()
    assert (event.subject, event.time) == ("/beam/7", 1000.0)


def test_structured_mode_keeps_the_datas_own_bytes() -> None:
    event = structured(
        b'{"specversion":"1.0","id":"a-1","source":"/beam/7","type":"t","data":{"x" : 1.00, "y":[ ]}}'
    )
    assert event.data == b'{"x" : 1.00, "y":[ ]}'
    assert event.content_type == "application/json"


@pytest.mark.parametrize(
    ("members", "data"),
    [
        (
            {"data_base64": base64.b64encode(b"\x00\xff").decode(), "datacontenttype": "image/png"},
            b"\x00\xff",
        ),
        ({"data": "<a>\u20ac</a>", "datacontenttype": "application/xml"}, "<a>\u20ac</a>".encode()),
        ({"data": "text", "datacontenttype": "application/vnd.x+json"}, b'"text"'),
        ({"data": None}, b"null"),
        ({}, b""),
    ],
)
def test_structured_data_in_each_of_its_forms(members: dict[str, Any], data: bytes) -> None:
    assert structured(ENVELOPE | members).data == data


def test_extensions_may_be_numbers_and_booleans_and_null_is_absent() -> None:
    event = structured(ENVELOPE | {"count": 7, "dark": True, "subject": None})
    assert (event.attributes["count"], event.attributes["dark"]) == ("7", "true")
    assert event.subject == "/beam/7"


def test_a_batch_is_many_events() -> None:
    body = json.dumps([ENVELOPE | {"id": name} for name in ("a", "b", "c")]).encode()
    events = read({"content-type": "application/cloudevents-batch+json"}, body)
    assert [event.attributes["id"] for event in events] == ["a", "b", "c"]


def test_the_same_event_in_another_mode_is_the_same_event() -> None:
    assert binary().key == structured(ENVELOPE | {"data": 1, "traceparent": "00"}).key
    assert binary().key != binary(ce_id="a-2").key
    assert binary().key != binary(ce_source="/beam/8").key


@pytest.mark.parametrize(
    ("headers", "body", "says"),
    [
        ({}, b"{}", "no ce- headers"),
        ({"content-type": "application/json"}, b"{}", "'application/json'"),
        ({"ce-specversion": "1.0", "ce-id": ""}, b"", "no id, source, type"),
        (BINARY | {"ce-specversion": "0.3"}, b"", "'0.3' is not supported"),
        (BINARY | {"ce-time": "yesterday"}, b"", "'yesterday'"),
        (BINARY | {"ce-time": "2026-11-23"}, b"", "no RFC 3339"),
        (BINARY | {"ce-time": "2026-11-23T10:00:00"}, b"", "no RFC 3339"),
        (BINARY | {"ce-subject": "%ff"}, b"", "'%ff'"),
        (BINARY | {"ce-my_ext": "x"}, b"", "'my_ext'"),
        ({"content-type": "application/cloudevents+avro"}, b"", "send application/cloudevents+json"),
        ({"content-type": "application/cloudevents+json"}, b"{", "no JSON object"),
        ({"content-type": "application/cloudevents+json"}, b"[]", "no JSON object"),
        ({"content-type": "application/cloudevents+json"}, b"\xff", "no JSON object"),
        ({"content-type": "application/cloudevents+json"}, b'{"id":{"a":1}}', "'id'"),
        (
            {"content-type": "application/cloudevents+json"},
            json.dumps(ENVELOPE | {"data_base64": "%"}).encode(),
            "data_base64",
        ),
        (
            {"content-type": "application/cloudevents+json"},
            json.dumps(ENVELOPE | {"data_base64": "", "data": 1}).encode(),
            "both",
        ),
        ({"content-type": "application/cloudevents-batch+json"}, b"{}", "no JSON array"),
        (
            {"content-type": "application/cloudevents-batch+json"},
            json.dumps([ENVELOPE, {}]).encode(),
            "event 1 of the batch",
        ),
        ({"content-type": "application/cloudevents+json"}, b'{"data":' + b"[" * 100_000, "no JSON object"),
    ],
)
def test_what_is_no_cloudevent_is_refused_with_what_is_wrong(
    headers: Mapping[str, str], body: bytes, says: str
) -> None:
    with pytest.raises(Malformed) as error:
        read(headers, body)
    assert says in str(error.value)


async def test_only_a_post_brings_events_and_a_probe_is_answered() -> None:
    source = CloudEventsSource(name="hooks")
    assert (await source.receive(Inbound("HEAD", {}, b""))).status == 200
    assert (await source.receive(Inbound("GET", {}, b""))).status == 200
    refused = await source.receive(Inbound("DELETE", {}, b""))
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, POST")
