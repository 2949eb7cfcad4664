"""Versions and delete markers, as stores list them, and what ``check`` says where they are hidden."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.sources.minio import check
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.staging.s3 import S3Client, S3Settings
from dcnios_daemon.staging.s3_answers import S3Object, keeps_versions, parse_versions

ENABLED = "<VersioningConfiguration xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Status>{}</Status></VersioningConfiguration>"


def _page(*entries: str, more: str = "") -> str:
    return (
        '<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>'
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
        f"{''.join(entries)}</ListVersionsResult>"
    )


def _version(key: str, version: str, *, latest: bool = False, tag: str = "Version") -> str:
    made = "<ETag>&quot;e&quot;</ETag><Size>3</Size>" if tag == "Version" else ""
    return (
        f"<{tag}><Key>{key}</Key><VersionId>{version}</VersionId><IsLatest>{str(latest).lower()}</IsLatest>"
        f"<LastModified>2026-01-02T03:04:05.678Z</LastModified>{made}</{tag}>"
    )


ONWARD = "<NextKeyMarker>a+b%5Bx%5D</NextKeyMarker><NextVersionIdMarker>v1</NextVersionIdMarker>"


def test_versions_and_delete_markers_are_told_apart() -> None:
    marker, version = _version("a+b%2B", "v2", latest=True, tag="DeleteMarker"), _version("a+b%2B", "v1")
    found, onward = parse_versions(_page(marker, version, more=ONWARD).encode())
    assert found == [
        S3Object("a b+", 0, "", 1767323045.678, "v2", is_latest=True, is_marker=True),
        S3Object("a b+", 3, "e", 1767323045.678, "v1", is_latest=False),
    ]
    assert onward == ("a b[x]", "v1")
    assert parse_versions(_page().encode()) == ([], None)


@pytest.mark.parametrize("body", [b"", b"<html>", _page(more="<Other/>").encode()])
def test_a_listing_of_versions_that_cannot_be_read_is_told(body: bytes) -> None:
    with pytest.raises(StoreError, match="listing"):
        parse_versions(body)


@pytest.mark.parametrize(
    ("body", "keeps"),
    [
        (ENABLED.format("Enabled"), True),
        (ENABLED.format("Suspended"), True),
        ("<VersioningConfiguration/>", False),
    ],
)
def test_a_bucket_that_ever_kept_versions_may_still_have_some(body: str, keeps: bool) -> None:
    assert keeps_versions(body.encode()) is keeps


class Store:
    """Two pages of versions, for those who may see them."""

    def __init__(self) -> None:
        self.shows = True
        self.asked: list[dict[str, str]] = []

    async def handle(self, request: web.Request) -> web.Response:
        """By S3's interface."""
        self.asked.append(dict(request.query))
        if "versioning" in request.query:
            return web.Response(text=ENABLED.format("Enabled"))
        if "versions" not in request.query:
            return web.Response(text="<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        if not self.shows:
            refusal = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
            return web.Response(status=403, text=refusal)
        if "version-id-marker" in request.query:
            return web.Response(text=_page(_version("c", "v3", latest=True)))
        return web.Response(text=_page(_version("b", "v1"), more=ONWARD))


@asynccontextmanager
async def serving(store: Store) -> AsyncIterator[dict[str, str]]:
    """The settings of its client."""
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", store.handle)
    async with TestServer(application) as server:
        endpoint = str(server.make_url("")).rstrip("/")
        yield {"endpoint": endpoint, "access_key": "a", "secret_key": "b"}


async def test_pages_of_versions_follow_each_other() -> None:
    store = Store()
    async with serving(store) as settings:
        made = S3Client(S3Settings.model_validate(settings))
        try:
            pages = [page async for page in made.versions("inbox", prefix="p", after="a")]
        finally:
            await made.aclose()
    assert [[each.key for each in page] for page in pages] == [["b"], ["c"]]
    first, second = store.asked
    assert (first["prefix"], first["key-marker"]) == ("p", "a")
    assert (second["key-marker"], second["version-id-marker"]) == ("a b[x]", "v1")


async def test_check_says_that_versions_are_hidden() -> None:
    """Not tried with MinIO: there, whoever may list objects may list versions."""
    store = Store()
    async with serving(store) as given:
        settings = MinioSettings.model_validate(given | {"buckets": ["inbox"], "receive": []})
        assert await check.check(name="it", settings=settings, instance="i", targets={}) == []
        store.shows = False
        (said,) = await check.check(name="it", settings=settings, instance="i", targets={})
    assert said.startswith(
        "bucket 'inbox' keeps versions but does not show them: grant s3:ListBucketVersions"
    )
