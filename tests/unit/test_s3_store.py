"""S3 without a server: settings, addresses, what its answers mean, what is imported when."""

import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.staging.s3 import S3Settings, S3Store
from dcnios_daemon.staging.s3_answers import parse_page, refusal


def _store(**more: object) -> S3Store:
    fields = {"endpoint": "http://s3.test:9000", "access_key": "who", "secret_key": "hush"} | more
    return S3Store(S3Settings.model_validate(fields))


@pytest.mark.parametrize("key", ["a b+c%20#?&'\".png", "deep/er//x", "🔬" * 225, "~-_.!*()"])
async def test_a_download_is_a_signed_url_of_exactly_that_object(key: str) -> None:
    download = await _store().download(f"inbox/{key}", valid_for=600)
    parts = urlsplit(download.url)
    assert unquote(parts.path) == f"/inbox/{key}"
    assert parse_qs(parts.query)["X-Amz-Expires"] == ["600"]
    assert "hush" not in download.url


async def test_leave_never_lasts_longer_than_s3_takes() -> None:
    download = await _store().download("b/k", valid_for=1e9)
    assert "X-Amz-Expires=604800&" in download.url


async def test_rotated_keys_are_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "key"
    secret.write_text("old")
    fields = {"endpoint": "http://s3.test", "access_key_file": str(secret), "secret_key": "hush"}
    store = S3Store(S3Settings.model_validate(fields))
    assert "Credential=old%2F" in (await store.download("b/k", valid_for=60)).url
    secret.write_text("new")
    now = time.monotonic()
    monkeypatch.setattr("dcnios_daemon.staging.s3_identity.time.monotonic", lambda: now + 60)
    assert "Credential=new%2F" in (await store.download("b/k", valid_for=60)).url
    secret.unlink()
    monkeypatch.setattr("dcnios_daemon.staging.s3_identity.time.monotonic", lambda: now + 120)
    with pytest.raises(StoreUnavailable, match="credentials"):
        await store.download("b/k", valid_for=60)


async def test_the_aws_chain_is_used_when_no_keys_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "chain", "SECRET_ACCESS_KEY": "x", "SESSION_TOKEN": "tok"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    store = S3Store(S3Settings(region="eu-south-2"))
    download = await store.download("b/k", valid_for=60)
    assert download.url.startswith("https://s3.eu-south-2.amazonaws.com/b/k?")
    assert "Credential=chain%2F" in download.url
    assert "X-Amz-Security-Token=tok" in download.url
    upload = await store.upload("s3://b/p/", valid_for=60)
    assert upload.fields["x-amz-security-token"] == "tok"


@pytest.mark.parametrize("subject", ["", "bucket", "bucket/", "/key", "b/\udcff"])
async def test_what_is_no_object_is_refused(subject: str) -> None:
    with pytest.raises(StoreError):
        await _store().download(subject, valid_for=60)


@pytest.mark.parametrize("target", ["", "s3:/b/p", "dav:/p", "s3://", "s3:///p", "s3://b/\udcff"])
async def test_what_is_no_target_is_refused(target: str) -> None:
    with pytest.raises(StoreError):
        await _store().upload(target, valid_for=60)


@pytest.mark.parametrize(("target", "prefix"), [("s3://b", ""), ("s3://b/", ""), ("s3://b/p/q", "p/q/")])
async def test_a_target_is_a_folder(target: str, prefix: str) -> None:
    upload = await _store().upload(target, valid_for=60)
    assert (upload.method, upload.url, upload.prefix) == ("POST", "http://s3.test:9000/b", prefix)


@pytest.mark.parametrize(
    "fields",
    [
        {"access_key": "a"},
        {"secret_key": "a"},
        {"endpoint": "minio:9000"},
        {"endpoint": "ftp://minio"},
        {"endpoint": "http://minio/path"},
    ],
)
def test_settings_that_cannot_work_are_told(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"access_key|endpoint"):
        S3Settings.model_validate(fields)


@pytest.mark.parametrize("kind", ["download", "upload"])
async def test_signing_is_cheap(kind: str) -> None:
    """A presigned URL for every Job: half a millisecond of it would cost a tenth of the machine."""
    store = _store()
    sign: dict[str, Callable[[], Awaitable[object]]] = {
        "download": lambda: store.download("inbox/a/b.png", valid_for=60),
        "upload": lambda: store.upload("s3://outbox/a/", valid_for=60),
    }
    await sign[kind]()
    best = 1.0
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(10):
            await sign[kind]()
        best = min(best, (time.perf_counter() - began) / 10)
    assert best < 300e-6


def _page(*entries: str, more: str = "") -> bytes:
    return (
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>'
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
        f"{''.join(entries)}</ListBucketResult>"
    ).encode()


def _entry(key: str, size: str = "3", modified: str = "2026-01-02T03:04:05.678Z") -> str:
    return (
        f"<Contents><Key>{key}</Key><LastModified>{modified}</LastModified>"
        f'<ETag>"e"</ETag><Size>{size}</Size></Contents>'
    )


def test_a_page_of_a_listing() -> None:
    objects, token = parse_page(
        _page(_entry("a+b%2B%25%0A%F0%9F%94%AC"), more="<NextContinuationToken>t</NextContinuationToken>")
    )
    assert [(o.key, o.size, o.etag, o.modified) for o in objects] == [("a b+%\n🔬", 3, "e", 1767323045.678)]
    assert token == "t"
    assert parse_page(_page()) == ([], "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        _page(_entry("k", size="many")),
        _page(_entry("k", modified="yesterday")),
        _page(_entry("%FF")),
        _page(more="<Other/>"),
    ],
)
def test_a_listing_that_cannot_be_read_is_told(body: bytes) -> None:
    with pytest.raises(StoreError, match=r"listing"):
        parse_page(body)


def test_refusals_have_the_stores_words() -> None:
    body = b"<Error><Code>NoSuchBucket</Code><Message>no such</Message></Error>"
    error = refusal("http://x/b", 404, body)
    assert str(error) == "http://x/b: 404 NoSuchBucket: no such"
    assert not error.retryable
    assert refusal("http://x/b", 503, b"slow down").retryable


def test_no_client_library_is_loaded_before_it_is_needed() -> None:
    program = (
        "import sys, dcnios_daemon.staging.s3, dcnios_daemon.staging.run, dcnios_daemon.staging.plan; "
        "sys.exit(bool({'botocore', 'aiobotocore', 'kubernetes_asyncio'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_staging_in_a_pod_loads_little() -> None:
    program = (
        "import sys, dcnios_daemon.staging.run; "
        "print(*{'botocore', 'jinja2', 'pydantic', 'structlog', 'prometheus_client'} & sys.modules.keys())"
    )
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert loaded.stdout.split() == []
