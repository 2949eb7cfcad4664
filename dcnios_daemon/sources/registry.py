"""Which kinds of source there are. A new one is a module beside this and one line here."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

from dcnios_daemon.core.ports import Source, Store
from dcnios_daemon.core.settings import Secret, Settings
from dcnios_daemon.sources.cloudevents import source as cloudevents
from dcnios_daemon.sources.cloudevents.settings import CloudEventsSettings
from dcnios_daemon.sources.dcache import check as dcache_check
from dcnios_daemon.sources.dcache import door
from dcnios_daemon.sources.dcache.settings import DcacheSettings
from dcnios_daemon.sources.dcache.source import DcacheSource
from dcnios_daemon.sources.directory import check as directory_check
from dcnios_daemon.sources.directory import source as directory
from dcnios_daemon.sources.directory.settings import DirectorySettings
from dcnios_daemon.sources.kafka import check as kafka_check
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.sources.kafka.source import KafkaSource
from dcnios_daemon.sources.minio import check as minio_check
from dcnios_daemon.sources.minio import setup as minio_setup
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.sources.minio.source import MinioSource
from dcnios_daemon.staging.files import FileStore
from dcnios_daemon.staging.s3 import S3Store


class SourceKind(msgspec.Struct, frozen=True, kw_only=True):
    """All that the daemon knows of a kind of source."""

    settings: type[Settings]
    """Its block in the configuration, without ``kind``."""
    build: Callable[..., Source]
    """``build(name=…, settings=…, instance=…)`` makes one; called again for each connection."""
    store: Callable[[Any], Store] | None = None
    """From its settings: the store behind it, where staging can read and write."""
    receives: bool = False
    """Whether it is a ``Receiver``, told of events at ``/sources/<name>``."""
    check: Callable[..., Awaitable[Sequence[str]]] | None = None
    """``check(name=…, settings=…, instance=…, targets=…)`` goes to the server and says what is missing there
    and what would help, a sentence each; it changes nothing and raises any of our errors where it gets no
    further. ``targets`` is where results are put by way of it: place in the configuration to what it says.
    None: there is nobody to go to."""
    setup: Callable[..., AsyncIterator[str]] | None = None
    """``setup(name=…, settings=…, arn=…, dry_run=…)`` has the server tell the daemon (``arn``: by which of
    its targets; None: found out), and yields what it did, or would do, line by line. It takes away nothing
    that is there, and does nothing the second time. None: there is nothing to do."""
    reads: Callable[[Any, str], bool] = lambda *_: False
    """From its settings and an address (``sinks.registry.SinkKind.writes_to``): whether it reads that."""
    any_payload: bool = False
    """Whether its events may hold what is no text, or more than an annotation takes."""
    again_for: Callable[[Any], float] = lambda _: 0.0
    """From its settings: seconds after which it may still meet an event anew in the course of its work, which
    its key must outlive."""
    token: Callable[[Any], Secret | None] = lambda _: None
    """From its settings: what callers there must present; None: anyone who reaches the port may."""


KINDS: dict[str, SourceKind] = {
    "cloudevents": SourceKind(
        settings=CloudEventsSettings,
        build=cloudevents.build,
        receives=True,
        any_payload=True,
        token=lambda settings: settings.token,
    ),
    "dcache": SourceKind(
        settings=DcacheSettings, build=DcacheSource, store=door.store, check=dcache_check.check
    ),
    "directory": SourceKind(
        settings=DirectorySettings,
        build=directory.build,
        store=lambda settings: FileStore(settings.path),
        check=directory_check.check,
    ),
    "kafka": SourceKind(
        settings=KafkaSettings,
        build=KafkaSource,
        check=kafka_check.check,
        reads=KafkaSettings.reads,
        any_payload=True,
    ),
    "minio": SourceKind(
        settings=MinioSettings,
        build=MinioSource,
        store=S3Store,
        check=minio_check.check,
        setup=minio_setup.setup,
        receives=True,
        again_for=lambda settings: settings.again_for,
        token=lambda settings: settings.webhook_token,
    ),
}
