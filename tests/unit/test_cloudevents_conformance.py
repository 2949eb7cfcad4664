"""What the specification's own conformance samples ask, in their shape (github.com/cloudevents/conformance,
``format/json`` and ``features/http-protocol-binding.feature``): valid and invalid events and batches.
"""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from dcnios_daemon.core.errors import Malformed
from dcnios_daemon.core.event import Event
from dcnios_daemon.sources.cloudevents.reading import Reading, read_request

MINIMAL = {"specversion": "1.0", "id": "one", "type": "io.example.test", "source": "https://example.io"}
ALL_CORE = MINIMAL | {
    "id": "core",
    "datacontenttype": "text/plain",
    "dataschema": "https://example.io/schema",
    "subject": "tests",
    "time": "2018-04-05T17:31:00Z",
}
EXTENSIONS = {
    "extinteger": 10,
    "extboolean": True,
    "extstring": "text",
    "exturi": "https://example.io",
    "exturiref": "//authority/path",
    "exttimestamp": "2023-03-31T15:12:00Z",
    "extbinary": "TWE=",
}
MOMENT = 1522949460.0  # 2018-04-05T17:31:00Z


def single(event: Mapping[str, Any]) -> Event:
    body = json.dumps(event).encode()
    reading = read_request({"content-type": "application/cloudevents+json"}, body, source="s", now=1.0)
    assert not reading.mistakes
    return reading.events[0]


def batch(events: Any) -> Reading:
    body = json.dumps(events).encode()
    return read_request({"content-type": "application/cloudevents-batch+json"}, body, source="s", now=1.0)


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in MINIMAL.items() if name not in names}


VALID: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "minimal": (MINIMAL, {}),
    "null for optional": (
        MINIMAL | dict.fromkeys(("datacontenttype", "dataschema", "subject", "time")),
        {"subject": None, "time": None, "dataschema": None, "datacontenttype": None},
    ),
    "all core attributes": (ALL_CORE, dict(ALL_CORE)),
    "relative source": (MINIMAL | {"source": "#fragment"}, {"source": "#fragment"}),
    "simple text data": (
        MINIMAL | {"datacontenttype": "text/plain", "data": "Simple text"},
        {"datacontenttype": "text/plain"},
    ),
    "all extension types": (
        MINIMAL | EXTENSIONS,
        {name: str(value) for name, value in EXTENSIONS.items()} | {"extboolean": "true"},
    ),
}


@pytest.mark.parametrize("name", VALID)
def test_valid_event(name: str) -> None:
    event, attributes = VALID[name]
    found = single(event).attributes
    assert {key: found.get(key) for key in attributes} == attributes
    assert {key: found[key] for key in without()} == {key: event[key] for key in without()}


@pytest.mark.parametrize(
    "time",
    [
        "2018-04-05T17:31:00Z",
        "2018-04-05T17:31:00.000000000Z",
        "2018-04-05T18:31:00+01:00",
        "2018-04-05T16:31:00-01:00",
        "2018-04-05t17:31:00z",
        "2018-04-05T17:30:60Z",
    ],
)
def test_valid_time(time: str) -> None:
    assert single(MINIMAL | {"time": time}).time == MOMENT


def test_text_data_is_its_text() -> None:
    assert single(MINIMAL | {"datacontenttype": "text/plain", "data": "Simple text"}).data == b"Simple text"


INVALID = {
    **{f"no {name}": without(name) for name in MINIMAL},
    **{f"empty {name}": MINIMAL | {name: ""} for name in ALL_CORE},
    **{
        f"time {time}": MINIMAL | {"time": time}
        for time in (
            "lunchtime",
            "2018-04-05T18:31Z",
            "2018-04-05T18:31:00",
            "2018-04-05T18:31:00X",
            "2018-04-05T18:31:00+25:00",
            "2018-04-05T18:31:00+xx:00",
            "2018-04-05T18:31:00+05",
            "2018-04-05 18:31:00Z",
            "2018-04-05T18:31:61Z",
            "2018-W14-4T18:31:00Z",
        )
    },
    "unknown specversion": MINIMAL | {"specversion": "0.9"},
    "content type that is none": MINIMAL | {"datacontenttype": "xyz"},
    "numeric id": MINIMAL | {"id": 25},
    "object id": MINIMAL | {"id": {"xyz": "abc"}},
    "capital extension": MINIMAL | {"MyExtension": "bad"},
    "punctuated extension": MINIMAL | {"my.extension": "bad"},
    "fractional extension": MINIMAL | {"myextension": 1.5},
    "both kinds of data": MINIMAL | {"data": "text", "data_base64": "eyAieHl6IjogMTIzIH0="},
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_event(name: str) -> None:
    with pytest.raises(Malformed):
        single(INVALID[name])


@pytest.mark.parametrize(
    ("events", "ids"),
    [
        ([], []),
        ([MINIMAL], ["one"]),
        ([MINIMAL, MINIMAL], ["one", "one"]),
        ([MINIMAL, ALL_CORE], ["one", "core"]),
        ([MINIMAL, ALL_CORE | EXTENSIONS], ["one", "core"]),
    ],
)
def test_valid_batch(events: list[dict[str, Any]], ids: list[str]) -> None:
    reading = batch(events)
    assert not reading.mistakes
    assert [event.attributes["id"] for event in reading.events] == ids


@pytest.mark.parametrize(
    ("events", "wrong"),
    [
        ([MINIMAL, MINIMAL | {"specversion": "0.9"}], "event 1 of the batch: specversion '0.9'"),
        ([without("id")], "event 0 of the batch: the CloudEvent has no id"),
        (["not an object", MINIMAL], "event 0 of the batch: no JSON object"),
    ],
)
def test_invalid_batch(events: list[Any], wrong: str) -> None:
    (mistake,) = batch(events).mistakes
    assert mistake.startswith(wrong)


@pytest.mark.parametrize("events", [MINIMAL, "text", 1, None])
def test_a_batch_is_an_array(events: Any) -> None:
    with pytest.raises(Malformed, match="no JSON array"):
        batch(events)


HTTP = {
    "id": "1234-1234-1234",
    "specversion": "1.0",
    "type": "com.example.someevent",
    "source": "/mycontext/subcontext",
    "time": "2018-04-05T03:56:24Z",
}
HELLO = {"message": "Hello World!"}


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_http_binary_mode(content_type: str) -> None:
    headers = {f"ce-{name}": value for name, value in HTTP.items()} | {"content-type": content_type}
    body = json.dumps(HELLO, indent=4).encode()
    (event,) = read_request(headers, body, source="s", now=1.0).events
    assert event.attributes == HTTP | {"datacontenttype": content_type}
    assert event.data == body


@pytest.mark.parametrize(
    "content_type", ["application/cloudevents+json", "application/cloudevents+json; charset=utf-8"]
)
def test_http_structured_mode(content_type: str) -> None:
    body = json.dumps(HTTP | {"datacontenttype": "application/json", "data": HELLO}, indent=4).encode()
    (event,) = read_request({"content-type": content_type}, body, source="s", now=1.0).events
    assert event.attributes == HTTP | {"datacontenttype": "application/json"}
    assert json.loads(event.data) == HELLO
