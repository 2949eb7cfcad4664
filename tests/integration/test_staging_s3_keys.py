"""Outputs under keys from a folder, against a real MinIO, as in a pod that has a Secret."""

import asyncio
import hashlib
import io
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession, web

from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.core.ports import Upload
from dcnios_daemon.staging.run import main_out, stage_out
from dcnios_daemon.staging.s3 import S3Settings, S3Store
from tests.e2e.stores import objects, s3_client
from tests.integration.staging_rig import HASTY, ODD_NAMES, content_of, make_output, scripted, upload_plan
from tests.servers.minio import S3Access

MEBI = 1024 * 1024
BIG = 150 * MEBI + 7

MEASURED = """
import sys
from pathlib import Path
from dcnios_daemon.staging.run import main_out
code = main_out(Path(sys.argv[1]), Path(sys.argv[2]))
status = Path("/proc/self/status").read_text()
print("peak", next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
sys.exit(code)
"""


@pytest_asyncio.fixture
async def client(minio: S3Access) -> AsyncIterator[Any]:
    async with s3_client(minio) as made:
        yield made


@pytest_asyncio.fixture
async def bucket(client: Any) -> str:
    name = f"keyed-{secrets.token_hex(4)}"
    await client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def keys(minio: S3Access, tmp_path: Path) -> Path:
    return write_keys(tmp_path / "keys", minio.access_key, minio.secret_key)


def write_keys(folder: Path, access_key: str, secret_key: str) -> Path:
    folder.mkdir()
    (folder / "access_key").write_text(access_key + "\n")
    (folder / "secret_key").write_text(secret_key)
    return folder


async def place(endpoint: str, bucket: str, keys: Path, prefix: str = "done") -> Upload:
    """As the daemon writes it, which has keys of its own that reach nothing."""
    settings = {"endpoint": endpoint, "access_key": "other", "secret_key": "daemon-own-hush"}
    store = S3Store(S3Settings.model_validate(settings))
    return await store.keyed_upload(f"s3://{bucket}/{prefix}", keys=str(keys))


def big_file(path: Path, size: int) -> str:
    path.parent.mkdir(parents=True)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        while size:
            block = os.urandom(min(MEBI, size))
            digest.update(block)
            file.write(block)
            size -= len(block)
    return digest.hexdigest()


async def test_a_big_file_goes_in_parts_with_little_memory(
    minio: S3Access, client: Any, bucket: str, keys: Path, tmp_path: Path
) -> None:
    digest = await asyncio.to_thread(big_file, tmp_path / "output/big é.bin", BIG)
    plan = upload_plan(await place(minio.endpoint, bucket, keys)).encode()
    assert minio.secret_key.encode() not in plan
    assert b"daemon-own-hush" not in plan
    await asyncio.to_thread((tmp_path / "plan.json").write_bytes, plan)
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "plan.json"), str(tmp_path)]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert int(ended.stdout.split("peak ")[1]) < 120 * 1024
    answer = await client.get_object(Bucket=bucket, Key="done/big é.bin")
    got = hashlib.sha256()
    async for block in answer["Body"].iter_chunks(MEBI):
        got.update(block)
    assert got.hexdigest() == digest
    assert answer["ETag"].strip('"').endswith("-10")


async def test_small_files_of_any_name_go_and_replace_what_was_there(
    minio: S3Access, client: Any, bucket: str, keys: Path, tmp_path: Path
) -> None:
    await client.put_object(
        Bucket=bucket, Key="gray é+/plain.txt", Body=b"old and longer than the new one is"
    )
    files = {name: content_of(name) for name in ODD_NAMES} | {"a/b/empty": b""}
    await make_output(tmp_path, files)
    upload = await place(minio.endpoint, bucket, keys, "gray é+/")
    assert await stage_out(upload_plan(upload), tmp_path, patience=HASTY) == len(files)
    assert await objects(client, bucket) == {f"gray é+/{name}": body for name, body in files.items()}


@pytest.mark.parametrize("size", [10, 20 * MEBI, 65 * MEBI])
async def test_a_wrong_key_is_refused_at_once_and_not_shown(
    minio: S3Access,
    bucket: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    size: int,
) -> None:
    wrong = await asyncio.to_thread(write_keys, tmp_path / "wrong", minio.access_key, "hush-hush")
    await make_output(tmp_path, {"x": bytes(size)})
    plan = upload_plan(await place(minio.endpoint, bucket, wrong)).encode()
    await asyncio.to_thread((tmp_path / "plan.json").write_bytes, plan)
    assert await asyncio.to_thread(main_out, tmp_path / "plan.json", tmp_path) == 1
    said = capsys.readouterr().err
    assert f"x to {minio.endpoint}/{bucket}/done/: 403 SignatureDoesNotMatch" in said
    assert "hush" not in said
    assert "Signature=" not in said


async def test_a_missing_bucket_is_final(minio: S3Access, keys: Path, tmp_path: Path) -> None:
    await make_output(tmp_path, {"x": b"1"})
    upload = await place(minio.endpoint, "no-such-bucket-here", keys)
    with pytest.raises(StoreError, match=r"x to .*404 NoSuchBucket") as caught:
        await stage_out(upload_plan(upload), tmp_path, patience=HASTY)
    assert not caught.value.retryable


@pytest.mark.parametrize("size", [10, 65 * MEBI])
async def test_a_store_that_is_away_is_worth_another_attempt(keys: Path, tmp_path: Path, size: int) -> None:
    await make_output(tmp_path, {"x": bytes(size)})
    upload = await place("http://127.0.0.1:9", "b", keys)
    with pytest.raises(StoreError, match=r"x to http://127\.0\.0\.1:9/b/done/") as caught:
        await stage_out(upload_plan(upload), tmp_path, patience=HASTY)
    assert caught.value.retryable


Meddle = Callable[[web.BaseRequest, int], Awaitable[web.StreamResponse | None]]


def between(minio: S3Access, meddle: Meddle) -> Any:
    """A proxy that passes everything on, Host header and all, unless meddled with before or after."""
    count = 0

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal count
        count += 1
        instead = await meddle(request, count)
        if instead is not None:
            return instead
        answer = await pass_on(minio, request)
        lost = await meddle(request, -count)
        return lost or answer

    return scripted(handle)


async def pass_on(minio: S3Access, request: web.BaseRequest) -> web.Response:
    url = minio.endpoint + request.raw_path
    body = io.BytesIO(await request.content.read())
    async with (
        ClientSession() as session,
        session.request(request.method, url, data=body, headers=request.headers) as answer,
    ):
        kept = {name: answer.headers[name] for name in ("ETag", "Content-Length") if name in answer.headers}
        return web.Response(status=answer.status, body=await answer.read() or None, headers=kept)


async def test_a_part_and_a_lost_answer_are_tried_again(
    minio: S3Access, client: Any, bucket: str, keys: Path, tmp_path: Path
) -> None:
    """The second part is refused once; the answer to the completion is lost, so that the store, asked again,
    knows no such upload."""
    refused: list[int] = []
    lost: list[int] = []

    async def meddle(request: web.BaseRequest, count: int) -> web.StreamResponse | None:
        if count > 0 and "partNumber=2&" in request.raw_path and not refused:
            refused.append(count)
            await request.content.read()
            return web.Response(status=503, body=b"<Error><Code>SlowDown</Code></Error>")
        if count < 0 and request.method == "POST" and "uploadId" in request.raw_path and not lost:
            lost.append(count)
            return web.Response(status=502)
        return None

    digest = await asyncio.to_thread(big_file, tmp_path / "output/x", 65 * MEBI)
    async with between(minio, meddle) as url:
        assert await stage_out(upload_plan(await place(url, bucket, keys)), tmp_path, patience=HASTY) == 1
    assert (len(refused), len(lost)) == (1, 1)
    found = await objects(client, bucket)
    assert {key: hashlib.sha256(body).hexdigest() for key, body in found.items()} == {"done/x": digest}


async def test_an_upload_that_fails_in_the_middle_leaves_nothing(
    minio: S3Access, client: Any, bucket: str, keys: Path, tmp_path: Path
) -> None:
    async def meddle(request: web.BaseRequest, count: int) -> web.StreamResponse | None:
        if count > 0 and "partNumber=3&" in request.raw_path:
            await request.content.read()
            body = b"<Error><Code>EntityTooLarge</Code><Message>no</Message></Error>"
            return web.Response(status=400, body=body)
        return None

    await make_output(tmp_path, {"x": bytes(65 * MEBI)})
    async with between(minio, meddle) as url:
        with pytest.raises(StoreError, match="400 EntityTooLarge no"):
            await stage_out(upload_plan(await place(url, bucket, keys)), tmp_path, patience=HASTY)
    assert await objects(client, bucket) == {}
    left = await client.list_multipart_uploads(Bucket=bucket, Prefix="done/x")
    assert left.get("Uploads", []) == []
