"""Looks whether a ``minio`` source could work, changing nothing."""

import asyncio
from collections.abc import Mapping, Sequence

from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.sources.minio import setup
from dcnios_daemon.sources.minio.listen import HELD_BACK, open_stream
from dcnios_daemon.sources.minio.queue_client import QueueClient
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.staging.s3 import S3Client
from dcnios_daemon.staging.s3_answers import Refused

LISTEN_WITHIN = 5.0
"""Seconds for a stream's head, which comes with the first ping."""
_LOGIN = {
    "InvalidAccessKeyId": "does not know the access key: correct sources.{name}.access_key",
    "SignatureDoesNotMatch": "says that the secret key is wrong: correct sources.{name}.secret_key",
}


async def check(
    *,
    name: str,
    settings: MinioSettings,
    instance: str,  # noqa: ARG001 - all kinds are asked alike
    targets: Mapping[str, str],
) -> Sequence[str]:
    """What is missing. See :class:`~dcnios_daemon.sources.registry.SourceKind`."""
    client = S3Client(settings, connections=0)
    findings: list[str | None] = []
    try:
        for bucket in settings.buckets:
            where = f"sources.{name}.buckets"
            findings.append(await _bucket(client, settings, bucket, name=name, where=where))
        for where, to in targets.items():
            bucket = to.removeprefix("s3://").partition("/")[0]
            if "{" not in bucket:
                findings.append(await _target(client, settings, bucket, name=name, where=where))
        if not any(findings):
            findings += [await _versions(client, settings, bucket) for bucket in settings.buckets]
            findings += [await setup.missing(client, settings, one, name=name) for one in settings.buckets]
            findings.append(await _queue(settings, name=name))
        if "listen" in settings.receive and not any(findings):
            findings += await _listen(client, settings)
    finally:
        await client.aclose()
    return list(dict.fromkeys(finding for finding in findings if finding))


async def _list(client: S3Client, bucket: str, prefix: str = "") -> None:
    query = [("list-type", "2"), ("max-keys", "1")] + ([("prefix", prefix)] if prefix else [])
    async with client.get(bucket, query) as answer:
        await answer.read()


async def _bucket(
    client: S3Client, settings: MinioSettings, bucket: str, *, name: str, where: str
) -> str | None:
    try:
        await _list(client, bucket, settings.prefix)
    except Refused as error:
        if error.code != "AccessDenied":
            return _words(error, settings, bucket, name=name, where=where)
        if not settings.reconcile:
            return None  # never listed: no right is needed
        return f"no right to list bucket {bucket!r} at {settings.base} (s3:ListBucket), or no such bucket"
    return None


async def _versions(client: S3Client, settings: MinioSettings, bucket: str) -> str | None:
    """Whether versions can be listed where there are some. None also where we have no right to know."""
    if not settings.lists:
        return None
    try:
        if not await client.keeps_versions(bucket):
            return None
    except Refused:
        return None
    try:
        async with client.get(bucket, [("versions", ""), ("max-keys", "1")]) as answer:
            await answer.read()
    except Refused as error:
        return (
            f"bucket {bucket!r} keeps versions but does not show them: grant s3:ListBucketVersions, else "
            f"only the latest of each object is found that nobody told of ({error})"
        )
    return None


async def _target(
    client: S3Client, settings: MinioSettings, bucket: str, *, name: str, where: str
) -> str | None:
    try:
        await _list(client, bucket)
    except Refused as error:
        if error.code == "AccessDenied":
            return None  # writing needs no right to list
        return _words(error, settings, bucket, name=name, where=where)
    return None


def _words(error: Refused, settings: MinioSettings, bucket: str, *, name: str, where: str) -> str:
    if error.code in _LOGIN:
        return f"{settings.base} {_LOGIN[error.code].format(name=name)}"
    if error.code == "NoSuchBucket":
        return f"bucket {bucket!r} does not exist at {settings.base}: create it, or correct {where}"
    return str(error)


async def _queue(settings: MinioSettings, *, name: str) -> str | None:
    """Whether the queue can be read: asked by taking nothing from it."""
    if settings.queue_url is None:
        return None
    queue = QueueClient(settings, settings.queue_url)
    try:
        await queue.arn()
    except Refused as error:
        if "AccessDenied" in error.code:
            return None  # reading needs no right to ask
        return f"{error}: correct sources.{name}.queue_url"
    finally:
        await queue.aclose()
    return None


async def _listen(client: S3Client, settings: MinioSettings) -> list[str | None]:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(_open(client, settings, bucket)) for bucket in settings.buckets]
    return [task.result() for task in asked]


async def _open(client: S3Client, settings: MinioSettings, bucket: str) -> str | None:
    try:
        async with asyncio.timeout(LISTEN_WITHIN), open_stream(client, bucket, settings):
            return None
    except TimeoutError:
        return f"cannot listen to {bucket!r}: nothing came in {LISTEN_WITHIN:g} s: {HELD_BACK}"
    except Refused as error:
        if error.code == "AccessDenied":
            return f"no right to listen to bucket {bucket!r} (s3:ListenBucketNotification)"
        return f"cannot listen to {bucket!r}: {error}"
    except StoreError as error:
        return f"cannot listen to {bucket!r}: {error}"
