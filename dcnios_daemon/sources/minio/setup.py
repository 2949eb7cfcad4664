"""Has a source's buckets tell us: adds a rule to each bucket's notification, and touches no other."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from dcnios_daemon.core.errors import ConfigError, StoreError
from dcnios_daemon.sources.minio.filters import wanted_of
from dcnios_daemon.sources.minio.notification import (
    Notification,
    Rule,
    is_same,
    overlapping,
    rule_for,
    untold,
)
from dcnios_daemon.sources.minio.queue_client import QueueClient
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.staging.s3 import S3Client
from dcnios_daemon.staging.s3_answers import Refused

_QUERY = [("notification", "")]
_INFO = "minio/admin/v3/info"
_WEBHOOK = ":webhook"
_TOLD = {"webhook", "sqs"}
"""Ways to receive for which the store must have been set up."""


class _Info(msgspec.Struct):
    targets: list[str] | None = msgspec.field(name="sqsARN", default=None)


async def setup(*, name: str, settings: MinioSettings, arn: str | None, dry_run: bool) -> AsyncIterator[str]:
    """See :class:`~dcnios_daemon.sources.registry.SourceKind`."""
    if not _TOLD & set(settings.receive):
        raise ConfigError(f"sources.{name}.receive has neither webhook nor sqs: there is nobody to tell")
    async with _client(settings) as client:
        target = arn or settings.notification_arn or await _find_target(client, settings, name=name)
        for bucket in settings.buckets:
            yield await _bucket(client, bucket, rule_for(name, target, wanted_of(settings)), dry_run=dry_run)


@asynccontextmanager
async def _client(settings: MinioSettings) -> AsyncIterator[S3Client]:
    client = S3Client(settings)
    try:
        yield client
    finally:
        await client.aclose()


async def _bucket(client: S3Client, bucket: str, rule: Rule, *, dry_run: bool) -> str:
    """Have it tell. Returns what was, or would be, done."""
    before = await read(client, bucket)
    if not untold(before.rules(), rule.wanted, is_us=lambda other: is_same(other, rule.arn)):
        return f"{bucket}: tells {rule.arn} already"
    others = overlapping(before.rules(), rule.wanted)
    known = "".join(f"\n  overlaps with {other.id!r}: {other}" for other in others)
    if dry_run:
        return f"{bucket}: would add {rule.id!r}: {rule}{known}"
    try:
        await client.put(bucket, _QUERY, before.with_rule(rule))
    except Refused as error:
        raise _refused(error, bucket, rule, others) from error
    await _look_again(client, bucket, [*before.rules(), rule])
    return f"{bucket}: added {rule.id!r}: {rule}{known}"


async def read(client: S3Client, bucket: str) -> Notification:
    """Whom the bucket tells of what.

    Raises:
        StoreError: It is not to be known; says why.
    """
    try:
        return Notification(await client.read(bucket, _QUERY))
    except Refused as error:
        if error.code == "AccessDenied":
            raise Refused(
                f"no right to read whom bucket {bucket!r} tells (s3:GetBucketNotification)", code=error.code
            ) from error
        raise


def _refused(error: Refused, bucket: str, rule: Rule, others: Sequence[Rule]) -> StoreError:
    if error.code == "AccessDenied":
        return StoreError(
            f"no right to set whom bucket {bucket!r} tells (s3:PutBucketNotification); to add: {rule}"
        )
    said = f"bucket {bucket!r} cannot be made to tell {rule.arn}: {error}"
    if "overlap" in str(error).lower() and others:
        known = "; ".join(f"{other.id!r}: {other}" for other in others)
        return StoreError(f"{said}\nnarrow the source's events, prefix or suffix, or remove {known}")
    return StoreError(said)


async def _look_again(client: S3Client, bucket: str, expected: Sequence[Rule]) -> None:
    """Whoever set it at the same time may have undone our change, or we theirs: S3 has no lock for it."""
    found = (await read(client, bucket)).rules()
    for rule in expected:
        if untold(found, rule.wanted, is_us=lambda other, arn=rule.arn: is_same(other, arn)):  # type: ignore[misc]
            raise StoreError(f"bucket {bucket!r} was changed by others at the same time: {rule} is not there")


async def _find_target(client: S3Client, settings: MinioSettings, *, name: str) -> str:
    if settings.queue_url is not None:
        queue = QueueClient(settings, settings.queue_url)
        try:
            return await queue.arn()
        finally:
            await queue.aclose()
    targets = await _webhooks(client, settings)
    named = [arn for arn in targets if arn.split(":")[4].lower() == name]
    if len(named or targets) != 1:
        known = ", ".join(targets) or "none: set MINIO_NOTIFY_WEBHOOK_ENDPOINT_<ID> there first"
        raise StoreError(f"which of MinIO's webhooks is this daemon? Say it with --arn. It has {known}")
    return (named or targets)[0]


async def _webhooks(client: S3Client, settings: MinioSettings) -> list[str]:
    """Asked of MinIO's own interface: S3 has no question for it."""
    try:
        answer = await client.read(_INFO)
        info = await asyncio.to_thread(msgspec.json.decode, answer, type=_Info)
    except (Refused, msgspec.DecodeError) as error:
        raise StoreError(
            f"{settings.base} does not tell which webhooks it has ({error}): give --arn, for MinIO "
            "arn:minio:sqs::<ID>:webhook, where MINIO_NOTIFY_WEBHOOK_ENDPOINT_<ID> is this daemon's address"
        ) from error
    return [arn for arn in info.targets or () if arn.endswith(_WEBHOOK)]


async def missing(client: S3Client, settings: MinioSettings, bucket: str, *, name: str) -> str | None:
    """What ``check`` says of a bucket that does not tell us all that is wanted. None also where we have no
    right to know: the daemon itself needs none."""
    if not _TOLD & set(settings.receive):
        return None
    try:
        rules = (await read(client, bucket)).rules()
    except Refused as error:
        if error.code == "AccessDenied":
            return None
        raise
    wanted = wanted_of(settings)
    absent = untold(rules, wanted, is_us=lambda arn: _may_be_us(arn, settings))
    if not absent:
        return None
    ours = [rule for rule in rules if _may_be_us(rule.arn, settings)]
    remedy = f"dcnios sources setup {name}"
    if not ours:
        return f"bucket {bucket!r} tells nobody here of its objects: {remedy}"
    known = "; ".join(map(str, ours))
    return (
        f"bucket {bucket!r} does not tell of all {', '.join(absent)} that are wanted, only {known}: {remedy}"
    )


def _may_be_us(arn: str, settings: MinioSettings) -> bool:
    """Whether the target leads here, as far as its name tells."""
    if settings.notification_arn is not None:
        return is_same(arn, settings.notification_arn)
    if ":sns:" in arn:
        return True
    if settings.queue_url is not None and arn.rpartition(":")[2] == settings.queue_url.rpartition("/")[2]:
        return True
    return "webhook" in settings.receive and arn.endswith(_WEBHOOK)
