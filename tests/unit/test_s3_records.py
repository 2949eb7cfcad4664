"""What the records of S3 stores say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcnios_daemon.core.errors import Malformed
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.sources.minio.records import from_listing, read_notification
from dcnios_daemon.staging.s3_answers import S3Object
from tests.contract.source_rig import NAME
from tests.unit import s3_samples as samples
from tests.unit.s3_samples import AWS, CEPH, minio_body


def event_of(body: bytes) -> Event:
    (happening,) = read_notification(body)
    return happening.event(source=NAME, kind="minio")


def test_an_upload_becomes_an_event_with_the_notification_byte_for_byte() -> None:
    body = minio_body("my folder/a+b.png").replace(b",", b" ,\n")
    event = event_of(body)
    assert event.data == body
    assert (event.subject, event.size, event.action) == ("inbox/my folder/a+b.png", 3, Action.CREATED)
    assert event.time == 1_700_000_000.123
    assert event.attributes == {
        "bucket": "inbox",
        "object": "my folder/a+b.png",
        "etag": "e",
        "event_name": "s3:ObjectCreated:Put",
        "via": "webhook",
    }


def test_of_many_records_each_event_holds_its_own_as_minio_would_have_sent_it() -> None:
    records = [json.loads(minio_body(key))["Records"][0] for key in ("a b", "\N{CAT FACE}")]
    happenings = read_notification(json.dumps({"Records": records}, indent=2).encode())
    for happening, record in zip(happenings, records, strict=True):
        document = json.loads(happening.event(source=NAME, kind="minio").data)
        assert document["Records"] == [record]
        assert document["EventName"] == "s3:ObjectCreated:Put"
        assert document["Key"] == f"inbox/{happening.key}"


def test_an_empty_object_has_size_zero_though_minio_leaves_it_out() -> None:
    assert event_of(minio_body(size=0)).size == 0


def test_redelivery_is_the_same_event_and_a_new_instant_another() -> None:
    assert event_of(minio_body()).key == event_of(minio_body()).key
    assert event_of(minio_body()).key != event_of(minio_body(instant=1_700_000_000_124)).key
    assert event_of(minio_body()).key != event_of(minio_body("b.png")).key


@given(
    key=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50),
    size=st.integers(0, 2**40),
    instant=st.integers(0, 4_000_000_000_000),
)
def test_told_or_listed_it_is_the_same_event(key: str, size: int, instant: int) -> None:
    told = event_of(minio_body(key, etag="abc", size=size, instant=instant))
    happening = from_listing("inbox", S3Object(key, size, "abc", instant / 1000))
    listed = happening.event(source=NAME, kind="minio")
    assert (listed.key, listed.subject, listed.size, listed.time) == (
        told.key,
        told.subject,
        told.size,
        told.time,
    )
    assert event_of(listed.data).key == told.key


def test_the_records_of_aws_are_understood() -> None:
    event = event_of(json.dumps(AWS).encode())
    assert (event.subject, event.size, event.time) == ("inbox/Happy Face.jpg", 1024, 0.0)
    assert event.attributes["event_name"] == "s3:ObjectCreated:Put"
    assert event.attributes["version_id"] == "096fKKXTRTtl3on89fVO.nfljtsv6qko"


def test_the_records_of_ceph_are_understood() -> None:
    event = event_of(json.dumps(CEPH).encode())
    assert (event.subject, event.size, event.action) == ("inbox/myimage1.jpg", 1024, Action.CREATED)


@pytest.mark.parametrize(
    ("body", "name", "action", "size"),
    [
        (samples.AWS_DELETE_MARKER, "s3:ObjectRemoved:DeleteMarkerCreated", Action.REMOVED, None),
        (samples.AWS_DELETED, "s3:ObjectRemoved:Delete", Action.REMOVED, None),
        (samples.AWS_EXPIRED, "s3:LifecycleExpiration:Delete", Action.REMOVED, None),
        (samples.AWS_RESTORED, "s3:ObjectRestore:Completed", Action.STAGED, 9),
        (samples.AWS_IN_PARTS, "s3:ObjectCreated:CompleteMultipartUpload", Action.CREATED, 99),
        (samples.ceph(), "s3:ObjectCreated:Put", Action.CREATED, 1024),
        (samples.ceph("s3:ObjectCreated:Copy"), "s3:ObjectCreated:Copy", Action.CREATED, 1024),
        (samples.ceph("ObjectRemoved:Delete", size=0), "s3:ObjectRemoved:Delete", Action.REMOVED, 0),
        (
            samples.ceph("ObjectLifecycle:Expiration:Current", size="0"),
            "s3:ObjectLifecycle:Expiration:Current",
            Action.REMOVED,
            0,
        ),
    ],
)
def test_what_other_stores_tell_of_is_known_for_what_it_is(
    body: bytes, name: str, action: Action, size: int | None
) -> None:
    event = event_of(body)
    assert (event.attributes["event_name"], event.action, event.size) == (name, action, size)
    assert event.data == body
    assert event_of(body).key == event.key


def test_ceph_does_not_quote_keys_and_aws_does() -> None:
    assert event_of(samples.ceph(key="a+b%20c.png")).subject == "inbox/a+b%20c.png"
    assert event_of(samples.ceph(key="\N{CAT FACE}")).subject == "inbox/\N{CAT FACE}"
    assert event_of(samples.aws("ObjectCreated:Put", thing={"key": "a%2Bb+c"})).subject == "inbox/a+b c"


def test_older_ceph_spells_the_etag_otherwise() -> None:
    record = json.loads(samples.ceph())["Records"][0]
    thing = record["s3"]["object"]
    thing["etag"] = thing.pop("eTag")
    assert event_of(json.dumps({"Records": [record]}).encode()).attributes["etag"] == thing["etag"]


@pytest.mark.parametrize("written", ["2019-11-22T13:47:35Z", "2019-11-22T14:47:35.000000+01:00"])
def test_instants_are_understood_however_they_are_written(written: str) -> None:
    body = samples.ceph().replace(b"2019-11-22T13:47:35.124724Z", written.encode())
    assert event_of(body).time == 1574430455


def test_the_test_message_that_aws_sends_holds_no_event() -> None:
    body = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2014-10-13T15:57:02.089Z"}
    assert read_notification(json.dumps(body).encode()) == []


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("s3:ObjectRemoved:Delete", Action.REMOVED),
        ("s3:ObjectRemoved:DeleteMarkerCreated", Action.REMOVED),
        ("s3:ObjectRestore:Completed", Action.STAGED),
        ("s3:ObjectAccessed:Get", Action.MESSAGE),
    ],
)
def test_other_happenings_are_known_by_their_occasion(name: str, action: Action) -> None:
    def occasion(request: str) -> bytes:
        answer = b'"responseElements":{"x-amz-request-id":"' + request.encode() + b'"},"eventName"'
        body = minio_body().replace(b'"eventName"', answer, 1)
        return body.replace(b"s3:ObjectCreated:Put", name.encode())

    first, again = occasion("17E"), occasion("18A")
    assert event_of(first).action is action
    assert event_of(first).key == event_of(first).key
    assert event_of(first).key not in {event_of(again).key, event_of(minio_body()).key}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no S3 notification"),
        (b"[]", "no S3 notification"),
        (b"{}", "no Records"),
        (b'{"Records":{}}', "$.Records"),
        (b'{"Records":[{"eventName":"x"}]}', "Records[0]"),
        (minio_body().replace(b'"name":"inbox"', b'"name":7'), "$.s3.bucket.name"),
        (minio_body().replace(b"2023-11-14T22:13:20.000Z", b"yesterday"), "$.eventTime"),
        (b'{"Records":' + b"[" * 100_000, "no S3 notification"),
        (minio_body()[:-1], "truncated"),
    ],
)
def test_what_is_no_notification_is_refused_with_its_place(body: bytes, says: str) -> None:
    with pytest.raises(Malformed) as error:
        read_notification(body)
    assert says in str(error.value)
