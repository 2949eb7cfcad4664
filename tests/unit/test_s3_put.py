"""Uploads under keys of one's own: signatures, parts, and what the keys' folder may hold."""

import asyncio
import datetime as dt
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.staging.s3_put import PART, PARTS, pieces, read_keys
from dcnios_daemon.staging.s3_signing import Keys, Request, signed_headers


@pytest.mark.parametrize("token", ["", "a-token"])
@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("PUT", "http://store:9000/outbox/gray/a%20b%2B%25~.txt", b"content"),
        ("POST", "https://s3.eu-1.example/outbox/k?uploads=", b""),
        ("PUT", "https://s3.eu-1.example/outbox/k?partNumber=7&uploadId=x%3D%2F", b"p"),
        ("DELETE", "http://store/outbox/deep//%F0%9F%94%AC?uploadId=1", b""),
    ],
)
def test_signatures_are_those_of_botocore(method: str, url: str, body: bytes, token: str) -> None:
    theirs: Any = AWSRequest(method=method, url=url, data=body, headers={"Host": urlsplit(url).netloc})
    theirs.headers["x-amz-content-sha256"] = "to be replaced"
    S3SigV4Auth(Credentials("AKIA", "hush/+", token or None), "s3", "eu-1").add_auth(theirs)
    now = dt.datetime.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    request = Request(method=method, url=url, digest=hashlib.sha256(body).hexdigest())
    ours = signed_headers(request, Keys("AKIA", "hush/+", token), region="eu-1", now=now)
    assert ours["Authorization"] == theirs.headers["Authorization"]
    assert "hush" not in repr((request, Keys("AKIA", "hush", token)))


@given(st.integers(1, 6 * 1024**4))
def test_parts_cover_the_file_and_stay_within_the_limits(size: int) -> None:
    found = pieces(size)
    assert len(found) <= PARTS
    assert found[0][0] == 0
    assert all(length >= PART for _, length in found[:-1])
    ends = [start + length for start, length in found]
    assert [start for start, _ in found[1:]] == ends[:-1]
    assert ends[-1] == size


async def test_keys_are_read_without_the_newline_that_editors_leave(tmp_path: Path) -> None:
    def written() -> Keys:
        (tmp_path / "access_key").write_text("AKIA\n")
        (tmp_path / "secret_key").write_text("hush\n")
        return read_keys(tmp_path)

    keys = await asyncio.to_thread(written)
    assert (keys.access_key, keys.secret_key, keys.token) == ("AKIA", "hush", "")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"access_key": b"AKIA"},
        {"access_key": b"AKIA", "secret_key": b""},
        {"access_key": b"AKIA", "secret_key": b"hush\nhush"},
        {"access_key": b"AKIA", "secret_key": b"hush\xff"},
    ],
)
def test_a_secret_without_usable_keys_is_named_but_not_shown(tmp_path: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match=str(tmp_path)) as caught:
        read_keys(tmp_path)
    assert "hush" not in str(caught.value)
    assert not caught.value.retryable
