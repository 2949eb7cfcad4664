import json
from typing import Any

from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.payload import PayloadForm, build_payload


def event(data: bytes, **more: Any) -> Event:
    return Event(
        key="0" * 40,
        source="s",
        kind="kafka",
        subject="topic",
        action=Action.MESSAGE,
        time=0,
        data=data,
        **more,
    )


def test_the_original_is_byte_exact() -> None:
    for data in (b"", b"\xff\x00", b'{"a":  1}\n', "\u2028".encode()):
        assert build_payload([event(data)], PayloadForm.ORIGINAL) == data


def test_a_cloudevent_carries_json_as_json_and_bytes_as_base64() -> None:
    shown = json.loads(build_payload([event(b'{"a":1}')], PayloadForm.CLOUDEVENT))
    assert (shown["specversion"], shown["id"], shown["data"]) == ("1.0", "0" * 40, {"a": 1})
    shown = json.loads(build_payload([event(b"\xff")], PayloadForm.CLOUDEVENT))
    assert shown["data_base64"] == "/w=="


def test_a_reference_tells_where_and_carries_nothing() -> None:
    large = event(b"x" * 5_000_000, attributes={"partition": "3", "offset": "7"})
    payload = build_payload([large], PayloadForm.REFERENCE)
    assert len(payload) < 1000
    assert json.loads(payload)["data"] == {"size": None, "partition": "3", "offset": "7"}


def test_several_events_are_one_json_object() -> None:
    payload = build_payload([event(b"1"), event(b"\xff")], PayloadForm.ORIGINAL)
    assert json.loads(payload) == {"events": [1, {"data_base64": "/w=="}]}
