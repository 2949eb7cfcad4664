"""What comes out at OSCAR's supervisor is what went in."""

import base64
import json
import shutil
import subprocess
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcnios_daemon.core.errors import OrderRefused
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.payload import PayloadForm, build_payload
from dcnios_daemon.core.ports import Order
from dcnios_daemon.sinks.oscar.body import LARGEST, body_of, user_of
from dcnios_daemon.sinks.oscar.recognition import Shape, shape
from dcnios_daemon.sources.dcache.facts import as_if_told
from dcnios_daemon.sources.minio.records import from_listing
from dcnios_daemon.staging.s3_answers import S3Object
from tests.fakes.desk import make_order

S3 = {"bucket": {"name": "b", "arn": "arn:aws:s3:::b"}, "object": {"key": "in%2Fa+b.png"}}
RECORD = {"eventSource": "minio:s3", "eventTime": "2026-01-31T12:00:00Z", "s3": S3}
MINIO = {"EventName": "s3:ObjectCreated:Put", "Key": "b/in/a b.png", "Records": [RECORD]}
DCACHE = {"event": {"name": "f.h5", "mask": ["IN_CLOSE_WRITE"]}, "subscription": "https://d/s/1"}
RUCIO = {"event_type": "close", "payload": {"scope": "me", "name": "set"}}
ONEDATA = {
    "Key": "/s/f",
    "Records": [{"eventSource": "OneTrigger", "objectKey": "f", "eventTime": "2026-01-31"}],
}


def without(document: Any, *path: Any) -> Any:
    """A copy that lacks one member."""
    copy = json.loads(json.dumps(document))
    block = copy
    for step in path[:-1]:
        block = block[step]
    del block[path[-1]]
    return copy


@pytest.mark.parametrize(
    ("document", "expected"),
    [  # in the order in which the supervisor asks
        ({"httpMethod": "POST", "body": "aGk=", "queryStringParameters": {"q": "1"}}, Shape.API_GATEWAY),
        ({"httpMethod": "POST", "body": None}, Shape.API_GATEWAY),
        ({"httpMethod": "POST", "body": json.dumps(MINIO)}, Shape.API_GATEWAY),
        ({"httpMethod": "POST", **DCACHE}, Shape.API_GATEWAY),
        ({"httpMethod": "POST", "body": "free text!"}, None),
        ({"httpMethod": "POST", "queryStringParameters": {"q": 1}}, None),
        (DCACHE, Shape.DCACHE),
        ({**DCACHE, "event_type": "close"}, Shape.DCACHE),
        (without(DCACHE, "event", "name"), None),
        ({**DCACHE, "event": "IN_Q_OVERFLOW"}, None),
        (RUCIO, Shape.RUCIO),
        ({"event_type": "close"}, None),
        ({"event_type": "close", "payload": {"scope": "me"}}, None),
        ({"event_type": "close", "payload": {"a": 1}}, Shape.UNKNOWN),
        ({"event": MINIO, "storage_provider": "minio.far"}, Shape.ENVELOPE),
        ({"event": json.dumps(DCACHE)}, Shape.ENVELOPE),
        ({"event": "aGk="}, Shape.ENVELOPE),
        ({"event": "a door opened"}, None),
        ({"event": 5}, None),
        (MINIO, Shape.STORE),
        ({**MINIO, "Records": [{**RECORD, "eventSource": "aws:s3"}]}, Shape.STORE),
        (ONEDATA, Shape.STORE),
        ({"Records": [{"eventSource": "rucio"}], "payload": RUCIO["payload"]}, Shape.STORE),
        ({"Records": [{"eventSource": "rucio"}]}, None),
        (without(MINIO, "Records", 0, "s3", "bucket", "arn"), None),
        (without(MINIO, "Records", 0, "eventTime"), None),
        (without(MINIO, "Records", 0, "eventSource"), Shape.UNKNOWN),
        ({"Records": []}, Shape.UNKNOWN),
        ({"Records": 5}, None),
        ({"Records": ["x"]}, None),
        ({"value": 5}, Shape.UNKNOWN),
        ({}, Shape.UNKNOWN),
        ([MINIO], None),
        ("text", None),
        (5, None),
        (None, None),
    ],
)
def test_the_supervisor_takes_events_for_what_they_are(document: object, expected: Shape | None) -> None:
    """Held against faas-supervisor 2.0.1 itself, which survives whatever is not None here. Of the rest, much
    ends it, and some becomes garbage in the script's hands."""
    assert shape(document) is expected


def test_envelopes_are_opened_so_far_and_no_further() -> None:
    document: dict[str, Any] = MINIO
    for _ in range(5):
        document = {"event": document}
    assert shape(document) is Shape.ENVELOPE
    for _ in range(10_000):
        document = {"event": document}
    assert shape(document) is None


def sent(payload: bytes) -> str:
    """The body for an event."""
    return body_of(make_order(payload=payload)).decode("ascii")


def saved(body: str) -> bytes:
    """What the supervisor writes into the input file if it takes it for nothing that it knows."""
    try:
        document = json.loads(body)
    except ValueError:
        return base64.b64decode(body)
    assert isinstance(document, dict), "it dies of this"
    return json.dumps(document).encode()


def test_events_of_our_sources_arrive_as_what_they_are() -> None:
    found = from_listing("b", S3Object(key="in/a b.png", size=3, etag="e", modified=1.0))
    assert shape(json.loads(sent(found.data))) is Shape.STORE
    assert json.loads(sent(found.data)) == json.loads(found.data)
    told = as_if_told("/data/raw/f.h5", "https://d/s/1")
    assert shape(json.loads(sent(told))) is Shape.DCACHE


@given(st.binary())
def test_bytes_become_the_input_file(payload: bytes) -> None:
    body = sent(payload)
    if shape(_parsed(payload)) is None:
        assert saved(body) == payload
    else:
        assert json.loads(body) == json.loads(payload)


def _parsed(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return None


@pytest.mark.parametrize("text", ["1234", "true", "null", "1e10", "Infinity"])
def test_base64_that_could_be_json_is_none(text: str) -> None:
    payload = base64.b64decode(text + "=" * (-len(text) % 4))
    body = sent(payload)
    assert _parsed(body.encode()) is None
    assert saved(body) == payload


TREES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), TREES))
def test_json_stays_equal_and_has_nothing_for_a_shell(document: dict[str, Any]) -> None:
    body = sent(json.dumps(document).encode())
    if shape(document) is not None:
        assert json.loads(body) == document
    assert not set(body) & set(" \n\t*?")
    assert all(escape in {"u", '"'} for escape in _escapes(body))


def _escapes(body: str) -> list[str]:
    return [body[index + 1] for index, character in enumerate(body) if character == "\\"]


@pytest.mark.parametrize("shell", [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)])
def test_a_real_shell_hands_over_the_same(shell: str) -> None:
    """As OSCAR calls it: ``echo $EVENT | supervisor``, where there are files to be globbed."""
    nasty = "a  b\n\t\\n \\\\ \\0101 \\c * ? [a-z]* /etc/* \" ' ~ $HOME `id` ü \x00 \u2028"
    document = {**MINIO, "note": nasty, "[e]*": nasty, "-n": nasty}
    body = sent(json.dumps(document).encode())
    command = [shell, *["sh"] * (shell == "busybox"), "-c", "echo $EVENT"]
    run = subprocess.run(command, env={"EVENT": body}, cwd="/etc", capture_output=True, check=True)
    assert json.loads(run.stdout) == document


def order(*payloads: bytes, form: PayloadForm = PayloadForm.ORIGINAL) -> Order:
    events = tuple(
        Event(
            key=f"{number:040x}",
            source="s",
            kind="kafka",
            subject="t",
            action=Action.MESSAGE,
            time=0,
            data=data,
        )
        for number, data in enumerate(payloads)
    )
    made = make_order(payload=build_payload(events, form))
    return msgspec.structs.replace(made, events=events, form=form)


def test_a_batch_and_a_cloudevent_are_saved_as_they_are() -> None:
    assert json.loads(body_of(order(b"1", b"\xff"))) == {"events": [1, {"data_base64": "/w=="}]}
    for form in (PayloadForm.CLOUDEVENT, PayloadForm.REFERENCE):
        document = json.loads(body_of(order(b"x" * 50, form=form)))
        assert shape(document) is Shape.UNKNOWN
        assert document["specversion"] == "1.0"


@pytest.mark.parametrize(
    ("document", "user"),
    [
        ({"Records": [{"requestParameters": {"principalId": "u"}}]}, "u"),
        ({"Records": [{"requestParameters": {"principalId": "minio"}}]}, ""),
        ({"Records": [{"requestParameters": {"principalId": 5}}]}, ""),
        ({"Records": [{"requestParameters": 5}]}, ""),
        ({"Records": [5]}, ""),
        ({"Records": 5}, ""),
        (MINIO, ""),
        ([], ""),
    ],
)
def test_whose_event_it_is_is_read_as_oscar_does(document: object, user: str) -> None:
    assert user_of(make_order(payload=json.dumps(document).encode())) == user


def test_more_than_a_variable_holds_is_refused_in_words() -> None:
    fits = b'{"a":"' + b"x" * (LARGEST - 8) + b'"}'
    assert len(sent(fits)) == LARGEST
    with pytest.raises(OrderRefused, match=r"131,066 bytes .* 131,065 are the most"):
        sent(fits.replace(b'"}', b'x"}'))
    with pytest.raises(OrderRefused, match="payload: reference"):
        sent(b"\xff" * 100_000)
