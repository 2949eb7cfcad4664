"""What the client says of an upload is what the source will call it: the same key, found out apart."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcnios_daemon.client import Delivery, State, Wanted, cloudevent, dcache_file, kafka_record, minio_object
from dcnios_daemon.core.clock import SystemClock, iso
from dcnios_daemon.core.event import Event
from dcnios_daemon.sources.cloudevents.reading import read_request
from dcnios_daemon.sources.dcache.checks import Check
from dcnios_daemon.sources.dcache.client.namespace import Entry
from dcnios_daemon.sources.dcache.facts import Facts
from dcnios_daemon.sources.dcache.watches import Place
from dcnios_daemon.sources.kafka.records import Reader
from dcnios_daemon.sources.minio.records import from_listing, read_notification
from dcnios_daemon.staging.s3_answers import S3Object

ETAG = "9b2cf535f27731c974343645a3985328"
OTHER = "6512bd43d9caa6e02c990b0a82652dca"


def _told(event: Event) -> Delivery:
    """As the API tells of it, through JSON."""
    told = {
        "id": 1,
        "route": "r",
        "state": State.QUEUED,
        "attempt": 1,
        "key": event.key,
        "source": event.source,
        "kind": event.kind,
        "subject": event.subject,
        "action": event.action,
        "time": iso(event.time),
        "accepted": iso(1.0),
    }
    return msgspec.json.decode(msgspec.json.encode(told), type=Delivery)


@given(instant=st.integers(1, 4_000_000_000_000), name=st.text(st.characters(codec="utf-8"), min_size=1))
def test_an_object_in_minio(instant: int, name: str) -> None:
    listed = S3Object(key=name, size=3, etag=ETAG, modified=instant / 1000)
    event = from_listing("inbox", listed).event(source="uploads", kind="minio")
    modified = datetime.fromtimestamp(instant / 1000, UTC)
    for etag in (ETAG, f'"{ETAG}"'):
        assert minio_object("uploads", "inbox", name, etag=etag, modified=modified).key == event.key
    wanted = Wanted(subject=f"inbox/{name}", etag=f'"{ETAG}"')
    assert wanted.is_meant(_told(event))
    assert not msgspec.structs.replace(wanted, etag=OTHER).is_meant(_told(event))
    assert msgspec.structs.replace(wanted, etag="").is_meant(_told(event))


def test_an_object_that_minio_s_webhook_told_of() -> None:
    place = {
        "bucket": {"name": "inbox"},
        "object": {"key": "a+b.csv", "eTag": ETAG, "sequencer": "17AF5E3B0E1B2A00"},
    }
    record = {
        "eventSource": "minio:s3",
        "eventName": "s3:ObjectCreated:Put",
        "eventTime": "2024-01-01T00:00:00.000Z",
        "s3": place,
    }
    (happening,) = read_notification(msgspec.json.encode({"Records": [record]}))
    event = happening.event(source="uploads", kind="minio")
    modified = datetime.fromtimestamp(int("17AF5E3B0E1B2A00", 16) // 1_000_000 / 1000, UTC)
    assert minio_object("uploads", "inbox", "a b.csv", etag=ETAG, modified=modified).key == event.key
    assert Wanted(subject="inbox/a b.csv", etag=ETAG).is_meant(_told(event))


def test_an_instant_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        minio_object("uploads", "inbox", "a", etag=ETAG, modified=datetime(2026, 3, 1))  # noqa: DTZ001 - the case


class Record(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = b"{}"
    headers: tuple[tuple[str, bytes | None], ...] = ()


@given(st.text(min_size=1), st.integers(0, 10_000), st.integers(0, 2**60), st.integers(-1, 2**50))
def test_a_kafka_record(topic: str, partition: int, offset: int, timestamp: int) -> None:
    reader = Reader(source="frames", instance="i", clock=SystemClock())
    event = reader.event(Record(topic, partition, offset, timestamp))
    assert kafka_record("frames", topic, partition, offset, timestamp).key == event.key


def test_a_cloudevent() -> None:
    body = b'{"specversion":"1.0","id":"7","source":"/me","type":"t"}'
    headers = {"content-type": "application/cloudevents+json"}
    (event,) = read_request(headers, body, source="hooks", now=1.0).events
    assert cloudevent("hooks", "/me", "7").key == event.key


def test_a_file_in_dcache() -> None:
    place = Place(path="/data", watch="raw")
    check = Check(place=place, path="/data/a", due=0, until=0, data=b"{}")
    entry = Entry(file_type="REGULAR", pnfsid="0000C0FFEE", size=3, created=1000)
    event = Facts(source="det", clock=SystemClock()).created(check, entry)
    assert dcache_file("det", "/data/a", pnfsid="0000C0FFEE").key == event.key
