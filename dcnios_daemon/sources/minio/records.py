"""What S3 stores say of their objects: the records of their notifications, and entries of a listing made
into the same. Pure.

One happening is one key, whichever way it is heard of. For that a created object is known by bucket, key,
ETag and the instant of its creation in milliseconds. MinIO tells that instant in its records (``sequencer``
is the object's ModTime in hex nanoseconds: ``cmd/event-notification.go``, ``ToEvent``) and, cut to
milliseconds, in its listings (``LastModified``). Writing the same bytes again gives a new instant, redelivery
does not. The version id is no part of it: plain listings do not tell it, and each version has its own
instant. A delete marker is known by its version, whoever made it and however often MinIO tells of it; where
that is ``null`` by its instant, which is asked for: what MinIO tells is not always it.

What else MinIO tells it makes twice, once for webhooks and once for those who listen (``sendEvent``): the
times differ and the key is quoted for webhooks only, but the request is the same.
"""

from datetime import datetime
from typing import Annotated
from urllib.parse import quote_plus, unquote_plus

import msgspec

from dcnios_daemon.core.clock import iso
from dcnios_daemon.core.errors import Malformed
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.staging.s3_answers import S3Object

CREATED = "s3:ObjectCreated:"
MARKED = "s3:ObjectRemoved:DeleteMarkerCreated"
_MARKER = "DeleteMarkerCreated"
_NULL = "null"
"""The one version that is made anew, not added to, where a bucket no longer keeps versions."""
_ACTIONS = {
    CREATED: Action.CREATED,
    "s3:ObjectRemoved:": Action.REMOVED,
    "s3:LifecycleExpiration:": Action.REMOVED,
    "s3:LifecycleDelMarkerExpiration:": Action.REMOVED,
    "s3:ObjectLifecycle:Expiration:": Action.REMOVED,
    "s3:ObjectRestore:Completed": Action.STAGED,
}


class _Object(msgspec.Struct, rename="camel"):
    key: str
    size: int | None = None
    e_tag: str | None = None
    old_e_tag: str | None = msgspec.field(name="etag", default=None)
    """Ceph's name for it before Octopus."""
    version_id: str | None = None
    sequencer: str | None = None


class _Bucket(msgspec.Struct):
    name: str


class _Place(msgspec.Struct):
    bucket: _Bucket
    object: _Object


class _Answer(msgspec.Struct):
    request: str | None = msgspec.field(name="x-amz-request-id", default=None)


class _Record(msgspec.Struct, rename="camel"):
    event_name: str
    event_time: Annotated[datetime, msgspec.Meta(tz=True)]
    s3: _Place
    event_source: str = ""
    response_elements: _Answer | None = None


class _Body(msgspec.Struct):
    records: list[msgspec.Raw] | None = msgspec.field(name="Records", default=None)
    event: str | None = msgspec.field(name="Event", default=None)


_BODY = msgspec.json.Decoder(_Body)
_RECORD = msgspec.json.Decoder(_Record, strict=False)  # Ceph writes the size as text


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to an object, in whichever way it was heard of."""

    name: str
    """``s3:ObjectCreated:Put`` and the like."""
    bucket: str
    key: str
    """As the uploader wrote it, not quoted."""
    size: int | None
    etag: str
    version: str
    """Empty in a bucket without versions."""
    modified: int | None
    """The creation of the object or delete marker, milliseconds since the epoch; None where the store does
    not tell."""
    time: float
    """When it happened, seconds since the epoch."""
    occasion: tuple[str, ...]
    """What else tells this happening from others of the same name to the same object."""
    via: str
    """``webhook``, ``listen``, ``sqs`` or ``listing``."""
    data: bytes
    """The notification's document with this one record."""

    @property
    def is_creation(self) -> bool:
        """Whether there is now an object that was not there before."""
        return self.name.startswith(CREATED)

    @property
    def is_marker(self) -> bool:
        """Whether a version was added that says that the object is deleted."""
        return self.name.endswith(f":{_MARKER}")

    @property
    def lacks_instant(self) -> bool:
        """Whether it would be known by another key when it is listed."""
        return self.modified is None and (self.is_creation or (self.is_marker and self.version == _NULL))

    @property
    def is_folder_marker(self) -> bool:
        """Whether it is only what consoles make to show an empty folder."""
        return self.key.endswith("/") and not self.size and not self.is_marker

    def _identity(self) -> tuple[str, ...]:
        instant = () if self.modified is None else (str(self.modified),)
        if self.is_creation and instant:
            return (self.etag, *instant)
        if self.is_marker and self.version != _NULL:
            return (_MARKER, self.version)
        if self.is_marker and instant:
            return (_MARKER, *instant)
        return (self.name, self.version, *self.occasion)

    def event(self, *, source: str, kind: str) -> Event:
        """The event that it is."""
        facts = {
            "bucket": self.bucket,
            "object": self.key,
            "etag": self.etag,
            "version_id": self.version,
            "event_name": self.name,
            "via": self.via,
        }
        return Event(
            key=event_key(source, self.bucket, self.key, *self._identity()),
            source=source,
            kind=kind,
            subject=f"{self.bucket}/{self.key}",
            action=next(
                (act for start, act in _ACTIONS.items() if self.name.startswith(start)), Action.MESSAGE
            ),
            time=self.time,
            size=self.size,
            data=self.data,
            attributes={name: value for name, value in facts.items() if value},
        )


def read_line(line: bytes) -> list[Happening]:
    """The happenings in a line of MinIO's stream, as if the webhook had told of them; none in a ping.

    Raises:
        Malformed: It is no notification; says where.
    """
    return [
        _read_record(_quoted(bytes(raw), index), index, None, via="listen")
        for index, raw in enumerate(_document_in(line).records or ())
    ]


def _quoted(raw: bytes, index: int) -> bytes:
    """The record with its object's key quoted, as scripts know it from webhooks."""
    try:
        record = msgspec.json.decode(raw)
        thing = record["s3"]["object"]
        thing["key"] = quote_plus(thing["key"])
    except (msgspec.DecodeError, RecursionError, LookupError, TypeError, UnicodeEncodeError) as error:
        raise Malformed(f"Records[{index}]: {error}") from error
    return msgspec.json.encode(record)


def _document_in(body: bytes) -> _Body:
    try:
        return _BODY.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(f"the body is no S3 notification: {error}") from error


def read_notification(body: bytes, *, via: str = "webhook") -> list[Happening]:
    """The happenings in a notification, in MinIO's dialect or AWS's; none in a store's test message.

    Raises:
        Malformed: It is no notification; says where.
    """
    document = _document_in(body)
    if document.records is None:
        if document.event == "s3:TestEvent":
            return []
        raise Malformed("the body is no S3 notification: it has no Records")
    alone = len(document.records) == 1
    return [
        _read_record(bytes(raw), index, body if alone else None, via=via)
        for index, raw in enumerate(document.records)
    ]


def _read_record(raw: bytes, index: int, body: bytes | None, *, via: str) -> Happening:
    try:
        record = _RECORD.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(f"Records[{index}]: {error}") from error
    thing = record.s3.object
    name = record.event_name if record.event_name.startswith("s3:") else f"s3:{record.event_name}"
    key = _plain_key(record)
    is_creation = name.startswith(CREATED)
    modified = _instant(thing.sequencer) if is_creation and record.event_source.startswith("minio:") else None
    happened = record.event_time.timestamp()
    return Happening(
        name=name,
        bucket=record.s3.bucket.name,
        key=key,
        size=(thing.size or 0) if is_creation else thing.size,  # MinIO leaves a size of 0 out
        etag=(thing.e_tag or thing.old_e_tag or "").strip('"'),
        version=thing.version_id or (_NULL if name.endswith(f":{_MARKER}") else ""),  # MinIO may leave it out
        modified=modified,
        time=happened if modified is None else modified / 1000,
        occasion=_occasion(record, name),
        via=via,
        data=body if body is not None else _document(name, record.s3.bucket.name, key, raw),
    )


def _plain_key(record: _Record) -> str:
    """Ceph writes the key as it is (``rgw_pubsub.cc``), all others as in a form. Bytes that are no UTF-8 are
    kept here and spelled out when the event is admitted."""
    key = record.s3.object.key
    return key if record.event_source.startswith("ceph:") else unquote_plus(key, errors="surrogateescape")


def _occasion(record: _Record, name: str) -> tuple[str, ...]:
    """Not by the instants where there is something better: MinIO takes them anew for each way of telling."""
    answer, sequencer = record.response_elements, record.s3.object.sequencer or ""
    request = (answer and answer.request) or ""
    happened = iso(record.event_time.timestamp())
    if not record.event_source.startswith("minio:"):
        return (sequencer, happened, request)
    if request:
        return (request,)
    return (sequencer,) if name.startswith("s3:ObjectRemoved:") else (sequencer, happened)


def _instant(sequencer: str | None) -> int | None:
    try:
        return int(sequencer or "", 16) // 1_000_000
    except ValueError:
        return None


def from_listing(bucket: str, found: S3Object) -> Happening:
    """The creation of an object or delete marker that a listing shows, in the words that a notification has
    for it."""
    modified = round(found.modified * 1000)
    name = (
        MARKED if found.is_marker else CREATED + ("CompleteMultipartUpload" if "-" in found.etag else "Put")
    )
    thing = {} if found.is_marker else {"size": found.size, "eTag": found.etag}
    version = {"versionId": found.version} if found.version else {}
    record = {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "eventTime": iso(modified / 1000),
        "eventName": name,
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "listing",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": quote_plus(found.key)}
            | thing
            | version
            | {"sequencer": f"{modified * 1_000_000:X}"},
        },
    }
    return Happening(
        name=name,
        bucket=bucket,
        key=found.key,
        size=None if found.is_marker else found.size,
        etag=found.etag,
        version=found.version,
        modified=modified,
        time=modified / 1000,
        occasion=(),
        via="listing",
        data=_document(name, bucket, found.key, msgspec.json.encode(record)),
    )


def _document(name: str, bucket: str, key: str, record: bytes) -> bytes:
    path = f"{bucket}/{key}".encode("utf-8", "replace").decode()
    head = msgspec.json.encode({"EventName": name, "Key": path})
    return head[:-1] + b',"Records":[' + record + b"]}"
