"""What can be said of a ``minio`` source in the configuration."""

from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dcnios_daemon.core.settings import Secret
from dcnios_daemon.core.units import Duration
from dcnios_daemon.sources.minio.records import CREATED, Happening
from dcnios_daemon.staging.s3 import S3Settings

EventGlob = Annotated[str, Field(pattern=r"^(s3:|\*)")]


class MinioSettings(S3Settings):
    """Objects in MinIO or any other S3 store."""

    buckets: Annotated[tuple[str, ...], Field(min_length=1)]
    """Their names. Records of other buckets are ignored."""
    prefix: str = ""
    """Only objects whose key begins so."""
    suffix: str = ""
    """Only objects whose key ends so."""
    events: tuple[EventGlob, ...] = ("s3:ObjectCreated:*",)
    """Which of S3's event names, as globs."""
    receive: tuple[Literal["webhook", "listen"], ...] = ("webhook",)
    """``webhook``: told at ``POST /sources/<name>``. ``listen``: by a connection to each bucket that is held
    open; only MinIO does that. Both, either, or, if empty, only found by listing."""
    webhook_token: Secret | None = None
    """What the store must present (MinIO's ``AUTH_TOKEN``)."""
    reconcile: Duration = 300.0
    """List the buckets this often, and after every gap; 0: never."""

    @model_validator(mode="after")
    def _hears_something(self) -> Self:
        if not self.receive and not self.reconcile:
            raise ValueError("receive is empty and reconcile is 0: it would never see anything")
        return self

    def wants(self, happening: Happening) -> bool:
        """Whether it passes all filters."""
        return (
            happening.bucket in self.buckets
            and happening.key.startswith(self.prefix)
            and happening.key.endswith(self.suffix)
            and not happening.is_folder_marker
            and any(fnmatchcase(happening.name, glob) for glob in self.events)
        )

    @property
    def lists(self) -> bool:
        """Whether listings find anything that it wants."""
        names = (f"{CREATED}Put", f"{CREATED}CompleteMultipartUpload")
        wanted = any(fnmatchcase(name, glob) for name in names for glob in self.events)
        return bool(self.reconcile) and wanted
