"""What can be said of a ``minio`` source in the configuration."""

import re
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dcnios_daemon.core.settings import Secret
from dcnios_daemon.core.units import Duration
from dcnios_daemon.sources.minio.records import CREATED, MARKED, Happening
from dcnios_daemon.staging.s3_answers import S3Object
from dcnios_daemon.staging.s3_identity import S3Settings

CLOCKS_DIFFER = 30 * 60.0
"""Seconds by which objects' clocks may differ: S3 refuses signatures that are half as much off."""
IN_PARTS = 86400.0
"""Seconds that an upload in parts may take."""
QUEUED = 14 * 86400.0
"""Seconds for which SQS keeps a message, at most, and with it one that could not be deleted."""
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
    receive: tuple[Literal["webhook", "listen", "sqs"], ...] = ("webhook",)
    """``webhook``: told at ``POST /sources/<name>``. ``listen``: by a connection to each bucket that is held
    open; only MinIO does that. ``sqs``: from the queue at ``queue_url``. Any of them; if empty, objects are
    only found by listing."""
    queue_url: str | None = None
    """The SQS queue that the store, or SNS for it, puts its notifications into."""
    notification_arn: str | None = None
    """Whom the buckets tell, for ``dcnios sources setup`` and ``check --connect``; none: MinIO's one webhook,
    or the queue, is asked for its ARN."""
    webhook_token: Secret | None = None
    """What the store must present (MinIO's ``AUTH_TOKEN``)."""
    reconcile: Duration = 300.0
    """List the buckets this often, and after every gap; 0: never."""
    visible_after: Duration = 0.0
    """How much older than the last listing an object may be, by its LastModified, when it first appears:
    replicas keep the instant of their original. All that is so young is offered anew at each listing, and
    known by its key. Objects made of parts are given a day at least: on AWS they have the instant at which
    their upload began."""

    @model_validator(mode="after")
    def _hears_something(self) -> Self:
        if not self.receive and not self.reconcile:
            raise ValueError("receive is empty and reconcile is 0: it would never see anything")
        if ("sqs" in self.receive) != (self.queue_url is not None):
            raise ValueError("queue_url and sqs in receive go together: give both or neither")
        if self.queue_url is not None and not re.match(r"https?://[^/]+/.", self.queue_url):
            raise ValueError("queue_url: write https://sqs.<region>.amazonaws.com/<account>/<queue>")
        return self

    def wants(self, happening: Happening) -> bool:
        """Whether it passes all filters."""
        return (
            happening.bucket in self.buckets
            and happening.key.startswith(self.prefix)
            and happening.key.endswith(self.suffix)
            and not happening.is_folder_marker
            and self._wants_any(happening.name)
        )

    def margin_of(self, listed: S3Object) -> int:
        """Milliseconds by which it may be older than the last whole listing, and yet not have been in it."""
        return round(self._margin(in_parts="-" in listed.etag) * 1000)

    def _margin(self, *, in_parts: bool) -> float:
        return CLOCKS_DIFFER + max(self.visible_after, IN_PARTS if in_parts else 0.0)

    @property
    def again_for(self) -> float:
        """See :class:`~dcnios_daemon.sources.registry.SourceKind`."""
        listed = self._margin(in_parts=True) + self.reconcile if self.lists else 0.0
        return max(listed, QUEUED if self.queue_url is not None else 0.0)

    @property
    def lists(self) -> bool:
        """Whether listings find anything that it wants."""
        return bool(self.reconcile) and (self.wants_creations or self._wants_any(MARKED))

    @property
    def wants_creations(self) -> bool:
        """Whether objects are what it wants of a listing, or only their removals."""
        return self._wants_any(f"{CREATED}Put", f"{CREATED}CompleteMultipartUpload")

    def _wants_any(self, *names: str) -> bool:
        return any(fnmatchcase(name, glob) for name in names for glob in self.events)
