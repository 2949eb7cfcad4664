"""CloudEvents as they come over HTTP."""

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from dcnios_daemon.core.errors import Malformed
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Inbound, Reply
from dcnios_daemon.sources.cloudevents import reading
from dcnios_daemon.sources.cloudevents.reading import BatchTooLong, UnknownFormat, read_request
from dcnios_daemon.sources.cloudevents.settings import CloudEventsSettings
from dcnios_daemon.sources.cloudevents.source import CloudEventsSource
from tests.contract.source_rig import Bench
from tests.contract.source_rigs import CloudEventsRig

ENVELOPE = {"specversion": "1.0", "id": "a-1", "source": "/beam/7", "type": "org.example.shot"}
BINARY = {f"ce-{name}": value for name, value in ENVELOPE.items()}


def read(headers: Mapping[str, str], body: bytes = b"") -> list[Event]:
    found = read_request(headers, body, source="hooks", now=1000.0)
    assert not found.mistakes
    return found.events


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
        ({"ce-specversion": "1.0", "ce-id": ""}, b"", "no id, source, type"),
        (BINARY | {"ce-specversion": "0.3"}, b"", "'0.3' is not supported"),
        (BINARY | {"ce-time": "yesterday"}, b"", "'yesterday'"),
        (BINARY | {"ce-time": "2026-11-23"}, b"", "no RFC 3339"),
        (BINARY | {"ce-time": "2026-11-23T10:00:00"}, b"", "no RFC 3339"),
        (BINARY | {"ce-subject": "%ff"}, b"", "'%ff'"),
        (BINARY | {"ce-my_ext": "x"}, b"", "'my_ext'"),
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
        (BINARY | {"ce-subject": "a%00b"}, b"", "control character"),
        (BINARY | {"ce-data": "x"}, b"", "'data' is no attribute name"),
        (BINARY | {"ce-subject": ""}, b"", "subject is empty"),
        (BINARY | {"content-type": "json"}, b"", "'json' is no media type"),
        (BINARY | {"ce-note": "x" * 70_000}, b"", "65536 characters"),
        (
            {"content-type": "application/cloudevents+json"},
            json.dumps(
                ENVELOPE | {"data": "\u20ac", "datacontenttype": "text/plain;charset=latin-1"}
            ).encode(),
            "cannot be written as",
        ),
        (
            {"content-type": "application/cloudevents+json"},
            json.dumps(ENVELOPE | {"data": "a", "datacontenttype": "text/plain;charset=idna"}).encode(),
            "data_base64",
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


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "no ce- headers"),
        ({"content-type": "application/json"}, "'application/json'"),
        ({"content-type": "application/cloudevents+avro"}, "send application/cloudevents+json"),
        ({"content-type": "application/cloudevents-batch+xml"}, "send application/cloudevents-batch+json"),
        ({"content-type": "application/cloudevents+json; charset=utf-16"}, "JSON is sent in UTF-8"),
        ({"content-type": "application/cloudevents+json; charset=klingon"}, "JSON is sent in UTF-8"),
    ],
)
async def test_a_form_that_is_not_understood_is_answered_415(headers: dict[str, str], says: str) -> None:
    with pytest.raises(UnknownFormat):
        read(headers, b"{}")
    refused = await CloudEventsSource(name="hooks").receive(Inbound("POST", headers, b"{}"))
    assert refused.status == 415
    assert says in refused.body


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", '"utf-8"', "us-ascii"])
def test_json_says_that_it_is_utf_8_in_several_ways(charset: str) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(ENVELOPE).encode()
    (event,) = read({"content-type": f"Application/CloudEvents+JSON; charset={charset}"}, body)
    assert event.attributes["id"] == "a-1"


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("text/plain", "\u00e9".encode()),
        ("text/plain; charset=ISO-8859-1", b"\xe9"),
        ("text/plain; charset=utf-16-be", b"\x00\xe9"),
    ],
)
def test_a_text_is_written_as_its_content_type_says(content_type: str, data: bytes) -> None:
    event = structured(ENVELOPE | {"data": "\u00e9", "datacontenttype": content_type})
    assert (event.data, event.content_type) == (data, content_type)


def test_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_EVENTS", 2)
    headers = {"content-type": "application/cloudevents-batch+json"}
    assert len(read(headers, json.dumps([ENVELOPE] * 2).encode())) == 2
    with pytest.raises(BatchTooLong, match="3 events at once: send 2"):
        read(headers, json.dumps([ENVELOPE] * 3).encode())


# --- answers -------------------------------------------------------------------------------------------


def posted(*events: Mapping[str, Any], **headers: str) -> Inbound:
    batch = {"content-type": "application/cloudevents-batch+json"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Inbound("POST", batch | named, json.dumps(events).encode())


async def answer(bench: Bench, request: Inbound) -> Reply:
    """Once the source is connected."""
    while (reply := await bench.receive(request)).status == 503:  # noqa: ASYNC110 - as a sender would
        await asyncio.sleep(0.001)
    return reply


async def test_only_a_post_brings_events_and_a_probe_is_answered() -> None:
    source = CloudEventsSource(name="hooks")
    assert (await source.receive(Inbound("HEAD", {}, b""))).status == 200
    assert (await source.receive(Inbound("GET", {}, b""))).status == 200
    refused = await source.receive(Inbound("DELETE", {}, b""))
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")


async def test_of_a_batch_the_good_events_are_kept_and_the_bad_ones_named() -> None:
    """Whether the sender gives the batch up, mends it or sends it again and again: no event is lost by it."""
    bench = Bench(CloudEventsRig())
    bad = {name: value for name, value in ENVELOPE.items() if name != "id"}
    async with bench.running():
        reply = await answer(bench, posted(ENVELOPE, bad, ENVELOPE | {"id": "b"}))
        assert reply.status == 400
        assert "1 refused, 2 taken" in reply.body
        assert "event 1 of the batch: the CloudEvent has no id" in reply.body
        mended = await bench.receive(posted(ENVELOPE, bad | {"id": "mended"}, ENVELOPE | {"id": "b"}))
        assert (mended.status, mended.body) == (200, "3 taken\n")
    assert sorted(event.attributes["id"] for event in bench.journal.events) == ["a-1", "b", "mended"]


async def test_a_batch_whose_good_events_cannot_be_kept_is_answered_busy() -> None:
    source = CloudEventsSource(name="hooks")
    await source.pause()
    assert (await source.receive(posted(ENVELOPE, {}))).status == 503


async def test_the_same_event_twice_in_a_batch_and_twice_in_time_is_one() -> None:
    bench = Bench(CloudEventsRig())
    async with bench.running():
        for _ in range(2):
            await answer(bench, posted(ENVELOPE, ENVELOPE))
    assert len(bench.journal.events) == 1


async def test_a_large_batch_is_read_beside_the_loop() -> None:
    bench = Bench(CloudEventsRig())
    many = [ENVELOPE | {"id": f"{number}", "data": "x" * 100} for number in range(2000)]
    async with bench.running():
        reply = await answer(bench, posted(*many))
        assert reply.body == "2000 taken\n"


async def test_a_retired_source_says_so_for_good() -> None:
    source = CloudEventsSource(name="hooks", settings=CloudEventsSettings(retired=True))
    assert (await source.receive(posted(ENVELOPE))).status == 410
    asked = await source.receive(Inbound("OPTIONS", {"webhook-request-origin": "a.example"}, b""))
    assert "webhook-allowed-origin" not in asked.headers


# --- handshake -----------------------------------------------------------------------------------------


async def ask(*allowed: str, **headers: str) -> tuple[int, Mapping[str, str]]:
    settings = CloudEventsSettings(allowed_origins=allowed) if allowed else None
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = await CloudEventsSource(name="hooks", settings=settings).receive(Inbound("OPTIONS", named, b""))
    assert reply.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    return reply.status, reply.headers


async def test_any_sender_gets_permission_unless_some_are_named() -> None:
    status, headers = await ask(
        webhook_request_origin="eventemitter.example.com",
        webhook_request_rate="120",
        webhook_request_callback="https://example.com/confirm?id=12345&key=a",
    )
    assert (status, headers["webhook-allowed-origin"], headers["webhook-allowed-rate"]) == (200, "*", "*")


@pytest.mark.parametrize("origin", ["emitter.example.com", "EMITTER.Example.com", "broker.example.org"])
async def test_a_sender_that_is_named_gets_permission_under_its_name(origin: str) -> None:
    status, headers = await ask("*.example.com", "broker.example.org", webhook_request_origin=origin)
    assert (status, headers["webhook-allowed-origin"], headers["webhook-allowed-rate"]) == (200, origin, "*")


@pytest.mark.parametrize("origin", ["evil.example", "example.com", "emitter.example.com.evil.example", ""])
async def test_any_other_gets_none(origin: str) -> None:
    status, headers = await ask("*.example.com", webhook_request_origin=origin)
    assert status == 403
    assert not [name for name in headers if name.startswith("webhook")]


async def test_what_is_no_handshake_gets_no_permission() -> None:
    status, headers = await ask(origin="https://page.example", access_control_request_method="POST")
    assert status == 200
    assert not [name for name in headers if name != "allow"]


async def test_events_of_a_sender_that_was_refused_are_refused() -> None:
    settings = CloudEventsSettings(allowed_origins=("*.example.com",))
    source = CloudEventsSource(name="hooks", settings=settings)
    refused = await source.receive(posted(ENVELOPE, webhook_request_origin="evil.example"))
    assert refused.status == 403
    assert (await source.receive(posted(webhook_request_origin="emitter.example.com"))).status == 200
    assert (await source.receive(posted())).status == 200
