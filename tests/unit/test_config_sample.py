"""Events written by hand or copied from elsewhere."""
# ruff: noqa: E501 - messages stand whole

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcnios_daemon.config.sample import event_from_json, event_to_json
from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.core.event import Action, Event, cloudevent
from dcnios_daemon.core.names import event_key
from dcnios_daemon.sources.cloudevents.reading import read_request

EVENTS = st.builds(
    Event,
    key=st.from_regex(r"[0-9a-f]{40}", fullmatch=True),
    source=st.text(min_size=1),
    kind=st.text(min_size=1),
    subject=st.text(),
    action=st.sampled_from(Action),
    time=st.floats(0, 4e9),
    size=st.none() | st.integers(0, 2**63),
    data=st.binary(),
    content_type=st.text(),
    attributes=st.dictionaries(st.text(), st.text(), max_size=3),
)


def event(given: object) -> Event:
    raw = given if isinstance(given, bytes) else json.dumps(given).encode()
    return event_from_json(raw, source="uploads", kind="minio", now=1000.0)


@given(EVENTS)
def test_an_event_that_was_shown_can_be_rendered_again(shown: Event) -> None:
    assert event(event_to_json(shown)) == shown


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda leaf: st.lists(leaf) | st.dictionaries(st.text(), leaf),
    )
)
def test_our_own_cloudevent_becomes_the_event_it_was_made_of(document: Any) -> None:
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    original = Event(
        key="a" * 40, source="uploads", kind="minio", subject="b/k", action=Action.MOVED, time=1.5, data=data
    )
    assert event(cloudevent(original)) == original


def test_our_own_cloudevent_with_bytes_too() -> None:
    original = Event(
        key="a" * 40,
        source="frames",
        kind="kafka",
        subject="t",
        action=Action.MESSAGE,
        time=1.5,
        data=b"\xff\x00",
        content_type="application/octet-stream",
    )
    assert event(cloudevent(original)) == original


@pytest.mark.parametrize(
    "extra",
    [
        {"data": {"a": [1, "ü"]}},
        {"data": "text", "datacontenttype": "text/plain"},
        {"data_base64": "/wA=", "datacontenttype": "x/y"},
    ],
)
def test_a_foreign_cloudevent_becomes_what_the_source_makes_of_it(extra: dict[str, Any]) -> None:
    envelope = {
        "specversion": "1.0",
        "id": "1",
        "source": "/lab",
        "type": "org.x",
        "time": "2026-01-31T12:00:00Z",
    } | extra
    raw = json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"content-type": "application/cloudevents+json"}
    [real] = read_request(headers, raw, source="hooks", now=1000.0).events
    assert event_from_json(raw, source="hooks", kind="cloudevents", now=1000.0) == real


def test_what_is_left_out_gets_a_default() -> None:
    made = event({})
    assert (made.source, made.kind, made.subject, made.action) == ("uploads", "minio", "", Action.CREATED)
    assert (made.time, made.data, made.size, made.attributes) == (1000.0, b"{}", None, {})
    assert made.key == event_key("uploads", "", "1000.0", b"{}")


@pytest.mark.parametrize(
    ("given", "data", "content_type"),
    [
        ({"data": {"a": 1}}, b'{"a":1}', "application/json"),
        ({"data": [1, "ü"]}, '[1,"ü"]'.encode(), "application/json"),
        ({"data": None}, b"null", "application/json"),
        ({"data": "text"}, b"text", "text/plain"),
        ({"data": "{}", "content_type": "application/json"}, b"{}", "application/json"),
        ({"data_base64": "/wA="}, b"\xff\x00", "application/octet-stream"),
        (b'{"data": {"a": "\\ud800"}}', b'{"a":"\\ud800"}', "application/json"),
    ],
)
def test_data_comes_in_three_forms(given: object, data: bytes, content_type: str) -> None:
    made = event(given)
    assert (made.data, made.content_type) == (data, content_type)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (5, 5),
        (1.5, 1.5),
        ("1970-01-01T00:01:00Z", 60),
        ("1970-01-01T00:01:00+00:01", 0),
        ("1970-01-02", 86400),
    ],
)
def test_times_are_numbers_or_iso(written: object, seconds: float) -> None:
    assert event({"time": written}).time == seconds


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"{", "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"\xff", "not JSON: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"[]", "must be a JSON object"),
        ({"specversion": "1.0", "id": "1"}, "the CloudEvent has no source, type"),
        ({"subjectt": 1, "foo": 2}, "foo: an event has no such field\nsubjectt: an event has no such field"),
        ({"data": 1, "data_base64": ""}, "data: give data or data_base64, not both"),
        ({"data_base64": "!"}, "data_base64: not base64: Only base64 data is allowed"),
        ({"data_base64": 5}, "data_base64: not base64: argument should be a bytes-like object or ASCII string, not 'int'"),
        (b'{"data": "\\ud800"}', "data: holds half of a character: give data_base64"),
        ({"time": "noon"}, "time: 'noon' is no time: write seconds since 1970, or 2026-01-31T12:00:00Z"),
        ({"time": 1e300}, "time: 1e+300 is no time: write seconds since 1970, or 2026-01-31T12:00:00Z"),
        ({"action": "blown up"}, "action: 'blown up' is none of created, moved, removed, staged, message, succeeded, dead"),
        (
            {"key": "x", "subject": 5, "size": "big", "attributes": {"a": 1}},
            "subject: must be a text, not 5\nsize: must be a number of bytes, not 'big'\nattributes: must be texts by name\nkey: must be 40 hex digits, not 'x'",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_named(given: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        event(given)
    assert str(caught.value) == said
