"""Staging and listing against a real MinIO."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.staging.run import main_in, main_out, stage_in, stage_out
from dcnios_daemon.staging.s3 import S3Client, S3Settings, S3Store
from tests.e2e.stores import objects, s3_client
from tests.integration.staging_rig import (
    HASTY,
    ODD_NAMES,
    content_of,
    download_plan,
    make_output,
    read_input,
    upload_plan,
)
from tests.servers.minio import S3Access

BIG = 50 * 1024 * 1024 + 7


@pytest.fixture
def settings(minio: S3Access) -> S3Settings:
    return S3Settings.model_validate(
        {"endpoint": minio.endpoint, "access_key": minio.access_key, "secret_key": minio.secret_key}
    )


@pytest_asyncio.fixture
async def client(minio: S3Access) -> AsyncIterator[Any]:
    async with s3_client(minio) as made:
        yield made


@pytest_asyncio.fixture
async def bucket(client: Any) -> str:
    name = f"staging-{secrets.token_hex(4)}"
    await client.create_bucket(Bucket=name)
    return name


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_an_object_of_any_name_comes_in_byte_exact(
    settings: S3Settings, client: Any, bucket: str, tmp_path: Path, name: str
) -> None:
    await client.put_object(Bucket=bucket, Key=name, Body=content_of(name), ContentEncoding="gzip")
    leave = await S3Store(settings).download(f"{bucket}/{name}", valid_for=60)
    assert await stage_in(download_plan(leave), tmp_path) == len(content_of(name))
    assert read_input(tmp_path) == {"in": content_of(name)}


@pytest.mark.parametrize("size", [0, BIG])
async def test_empty_and_big_objects_come_in_and_go_out(
    settings: S3Settings, client: Any, bucket: str, tmp_path: Path, size: int
) -> None:
    body = bytes(size)
    await client.put_object(Bucket=bucket, Key="in.bin", Body=body)
    store = S3Store(settings)
    plan = download_plan(await store.download(f"{bucket}/in.bin", valid_for=60), "in.bin")
    assert await stage_in(plan, tmp_path) == size
    await asyncio.to_thread((tmp_path / "input/in.bin").rename, tmp_path / "output/out.bin")
    assert (
        await stage_out(upload_plan(await store.upload(f"s3://{bucket}/done/", valid_for=60)), tmp_path) == 1
    )
    assert await objects(client, bucket, "done/") == {"done/out.bin": body}


async def test_a_tree_of_results_goes_out_under_its_names(
    settings: S3Settings, client: Any, bucket: str, tmp_path: Path
) -> None:
    files = {name: content_of(name) for name in ODD_NAMES} | {"a/b/empty": b""}
    await make_output(tmp_path, files)
    leave = await S3Store(settings).upload(f"s3://{bucket}/gray é+/", valid_for=60)
    assert await stage_out(upload_plan(leave), tmp_path) == len(files)
    assert await objects(client, bucket) == {f"gray é+/{name}": body for name, body in files.items()}


async def test_results_replace_what_an_earlier_attempt_left(
    settings: S3Settings, client: Any, bucket: str, tmp_path: Path
) -> None:
    await client.put_object(Bucket=bucket, Key="done/x", Body=b"old and longer")
    await make_output(tmp_path, {"x": b"new"})
    leave = await S3Store(settings).upload(f"s3://{bucket}/done/", valid_for=60)
    await stage_out(upload_plan(leave), tmp_path)
    assert await objects(client, bucket) == {"done/x": b"new"}


async def test_leave_reaches_no_other_object_and_no_other_prefix(
    settings: S3Settings, client: Any, bucket: str, tmp_path: Path
) -> None:
    await client.put_object(Bucket=bucket, Key="mine", Body=b"1")
    await client.put_object(Bucket=bucket, Key="other", Body=b"2")
    store = S3Store(settings)
    got = await store.download(f"{bucket}/mine", valid_for=60)
    with pytest.raises(StoreError, match="403 SignatureDoesNotMatch") as caught:
        await stage_in(download_plan(type(got)(url=got.url.replace("/mine?", "/other?"))), tmp_path)
    assert not caught.value.retryable
    await make_output(tmp_path, {"x": b"1"})
    leave = await store.upload(f"s3://{bucket}/mine/", valid_for=60)
    stolen = type(leave)(method="POST", url=leave.url, fields=leave.fields, prefix="theirs/")
    with pytest.raises(StoreError, match="403 AccessDenied"):
        await stage_out(upload_plan(stolen), tmp_path, patience=HASTY)
    assert set(await objects(client, bucket)) == {"mine", "other"}


async def test_expired_leave_is_refused_as_something_that_a_later_attempt_may_mend(
    settings: S3Settings, client: Any, bucket: str, tmp_path: Path
) -> None:
    await client.put_object(Bucket=bucket, Key="k", Body=b"1")
    await make_output(tmp_path, {"x": b"1"})
    store = S3Store(settings)
    got = await store.download(f"{bucket}/k", valid_for=1)
    leave = await store.upload(f"s3://{bucket}/p/", valid_for=1)
    await asyncio.sleep(2.1)  # S3 counts whole seconds
    for staging in (stage_in(download_plan(got), tmp_path), stage_out(upload_plan(leave), tmp_path)):
        with pytest.raises(StoreUnavailable, match="403") as caught:
            await staging
        assert "ignature=" not in str(caught.value)


async def test_a_missing_object_or_bucket_is_final(settings: S3Settings, bucket: str, tmp_path: Path) -> None:
    store = S3Store(settings)
    await make_output(tmp_path, {"x": b"1"})
    got = await store.download(f"{bucket}/gone", valid_for=60)
    with pytest.raises(StoreError, match="404 NoSuchKey") as caught:
        await stage_in(download_plan(got), tmp_path, patience=HASTY)
    assert not caught.value.retryable
    leave = await store.upload("s3://no-such-bucket-here/p/", valid_for=60)
    with pytest.raises(StoreError, match=r"x to .*404 NoSuchBucket") as caught:
        await stage_out(upload_plan(leave), tmp_path, patience=HASTY)
    assert not caught.value.retryable


async def test_the_commands_end_with_codes_that_say_whether_to_try_again(
    settings: S3Settings, client: Any, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await client.put_object(Bucket=bucket, Key="k", Body=b"1")
    store = S3Store(settings)

    async def ends(main: Any, plan: Any) -> int:
        path = tmp_path / "plan.json"
        await asyncio.to_thread(path.write_bytes, plan if isinstance(plan, bytes) else plan.encode())
        code: int = await asyncio.to_thread(main, path, tmp_path / "work")
        return code

    assert await ends(main_in, download_plan(await store.download(f"{bucket}/k", valid_for=60))) == 0
    await make_output(tmp_path / "work", {"x": b"1"})
    leave = await store.upload(f"s3://{bucket}/p/", valid_for=60)
    assert await ends(main_out, upload_plan(leave)) == 0
    assert await ends(main_out, upload_plan(type(leave)(method="POST", url=leave.url, prefix="p/"))) == 1
    assert await ends(main_in, b"no plan") == 1
    assert await asyncio.to_thread(main_in, tmp_path / "none", tmp_path) == 75
    said = capsys.readouterr().err
    assert "x to " in said
    assert "Traceback" not in said


async def test_a_listing_has_every_key_once_and_in_order(
    settings: S3Settings, client: Any, bucket: str
) -> None:
    keys = sorted([*(f"many/{n:04}" for n in range(1003)), *ODD_NAMES[:-1], "new\nline"], key=str.encode)
    gate = asyncio.Semaphore(20)

    async def put(key: str) -> None:
        async with gate:
            await client.put_object(Bucket=bucket, Key=key, Body=key.encode())

    async with asyncio.TaskGroup() as group:
        for key in keys:
            group.create_task(put(key))
    s3 = S3Client(settings)
    try:
        pages = [page async for page in s3.pages(bucket)]
        assert [len(page) for page in pages] == [1000, len(keys) - 1000]
        found = [item for page in pages for item in page]
        assert [item.key for item in found] == keys
        assert [item.size for item in found] == [len(key.encode()) for key in keys]
        head = await client.head_object(Bucket=bucket, Key=keys[0])
        assert (f'"{found[0].etag}"', int(found[0].modified)) == (
            head["ETag"],
            head["LastModified"].timestamp(),
        )
        part = [
            item.key async for page in s3.pages(bucket, prefix="many/", after="many/0999") for item in page
        ]
        assert part == ["many/1000", "many/1001", "many/1002"]
        assert [page async for page in s3.pages(bucket, prefix="none")] == []
        with pytest.raises(StoreError, match="NoSuchBucket"):
            await anext(s3.pages("no-such-bucket-here"))
    finally:
        await s3.aclose()


async def test_a_wrong_key_is_refused_and_a_missing_server_is_unavailable(
    minio: S3Access, bucket: str
) -> None:
    for fields, error in (
        ({"endpoint": minio.endpoint, "secret_key": "wrong"}, StoreError),
        ({"endpoint": "http://127.0.0.1:9", "secret_key": "x"}, StoreUnavailable),
    ):
        s3 = S3Client(S3Settings.model_validate({"access_key": minio.access_key, **fields}))
        try:
            with pytest.raises(error) as caught:
                await anext(s3.pages(bucket))
            assert caught.value.retryable is (error is StoreUnavailable)
        finally:
            await s3.aclose()
