"""What to wait for: the happening that somebody caused, told in the words of where they caused it.

Where those words are the event's whole identity, its key is known before the daemon knows the event
(the sources' modules say what their keys are made of, and may never change it), and finding it is one look.
Where they are not, it is looked for by its subject among what was accepted after a mark.
"""

from datetime import datetime

import msgspec

from dcnios_daemon.client.delivery import Delivery
from dcnios_daemon.core.event import Action
from dcnios_daemon.core.names import event_key


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is waited for: by ``key``, or by ``subject``."""

    key: str = ""
    subject: str = ""
    source: str = ""
    """Only events of this source; empty: of any."""
    etag: str = ""
    """Of an object in MinIO: only the upload that made this content."""
    above: int = 0
    """Only deliveries after this one: the mark."""

    def __str__(self) -> str:
        """As it is named in messages."""
        return self.subject or f"event {self.key}"

    def is_meant(self, delivery: Delivery) -> bool:
        """Whether the delivery is one of the event, of all that bear its subject."""
        if delivery.action == Action.REMOVED:
            return False
        return not self.etag or delivery.key == _object_key(
            delivery.source, self.subject, self.etag, delivery.time
        )


def minio_object(source: str, bucket: str, key: str, *, etag: str, modified: datetime) -> Wanted:
    """An object in MinIO, by its key alone: no mark is needed, however long ago it was.

    Args:
        source: The source's name in the daemon's configuration.
        bucket: The bucket.
        key: The object's key in it.
        etag: As ``PutObject`` answers it or a listing tells it.
        modified: ``LastModified`` of a *listing* (``ListObjectsV2``), to the millisecond: ``HeadObject``
            rounds it to seconds.

    Raises:
        ValueError: ``modified`` does not say of which time zone it is.
    """
    if modified.tzinfo is None:
        raise ValueError("modified must know its time zone")
    subject = f"{bucket}/{key}"
    return Wanted(key=_object_key(source, subject, etag, modified), subject=subject, source=source)


def kafka_record(source: str, topic: str, partition: int, offset: int, timestamp: int) -> Wanted:
    """A record that a Kafka producer has written, in the words of its acknowledgement.

    Args:
        source: The source's name in the daemon's configuration.
        topic: The topic.
        partition: The partition that it went to.
        offset: Its place there.
        timestamp: Milliseconds since the epoch, as acknowledged.
    """
    return Wanted(
        key=event_key(source, topic, partition, offset, timestamp),
        subject=f"{topic}/{partition}@{offset}",
        source=source,
    )


def cloudevent(source: str, event_source: str, event_id: str) -> Wanted:
    """A CloudEvent that was posted to ``/sources/<source>``, by its own ``source`` and ``id``."""
    return Wanted(key=event_key(source, event_source, event_id), source=source)


def dcache_file(source: str, path: str, *, pnfsid: str) -> Wanted:
    """An upload to dCache, by the id that dCache gave the file."""
    return Wanted(key=event_key(source, "created", pnfsid), subject=path, source=source)


def _object_key(source: str, subject: str, etag: str, modified: datetime) -> str:
    bucket, _, name = subject.partition("/")
    instant = round(modified.timestamp() * 1000)
    return event_key(source, bucket, name, etag.strip('"'), str(instant))
