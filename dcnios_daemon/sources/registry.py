"""Which kinds of source there are. A new one is a module beside this and one line here."""

from collections.abc import Callable
from typing import Any

import msgspec

from dcnios_daemon.core.ports import Source, Store
from dcnios_daemon.core.settings import Secret, Settings
from dcnios_daemon.sources import cloudevents, directory
from dcnios_daemon.sources.dcache import door
from dcnios_daemon.sources.dcache.settings import DcacheSettings
from dcnios_daemon.sources.dcache.source import DcacheSource
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.sources.kafka.source import KafkaSource
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
    token: Callable[[Any], Secret | None] = lambda _: None
    """From its settings: what callers there must present; None: anyone who reaches the port may."""


KINDS: dict[str, SourceKind] = {
    "cloudevents": SourceKind(
        settings=cloudevents.CloudEventsSettings,
        build=cloudevents.build,
        receives=True,
        token=lambda settings: settings.token,
    ),
    "dcache": SourceKind(settings=DcacheSettings, build=DcacheSource, store=door.store),
    "directory": SourceKind(
        settings=directory.DirectorySettings,
        build=directory.build,
        store=lambda settings: FileStore(settings.path),
    ),
    "kafka": SourceKind(settings=KafkaSettings, build=KafkaSource),
    "minio": SourceKind(
        settings=MinioSettings,
        build=MinioSource,
        store=S3Store,
        receives=True,
        token=lambda settings: settings.webhook_token,
    ),
}
