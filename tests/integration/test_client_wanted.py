"""What a store, a broker and a door acknowledge is enough to find the event: against the real ones."""

import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from dcnios_daemon.client import (
    AsyncClient,
    Delivery,
    NotYet,
    Wanted,
    cloudevent,
    dcache_file,
    kafka_record,
    minio_object,
)
from tests.daemon import DaemonProcess, daemon
from tests.e2e.stores import make_topic, minio_source, s3_client
from tests.fakes.dcache import FakeDcache
from tests.servers.fixtures import KafkaAccess
from tests.servers.minio import S3Access

WITHIN = 120.0


@contextlib.asynccontextmanager
async def _asked(folder: Path, **source: Any) -> AsyncIterator[tuple[DaemonProcess, AsyncClient]]:
    """A daemon with one source, all of whose events succeed, and a client of it."""
    route = {"from": ["it"], "run": {"kind": "process", "script": "true"}}
    async with daemon(folder, {"sources": {"it": source}, "routes": {"any": route}}) as process:
        yield process, AsyncClient(process.url)


def _is_one(deliveries: list[Delivery], subject: str) -> bool:
    return [(one.subject, one.state) for one in deliveries] == [(subject, "succeeded")]


@pytest.mark.timeout(300)
async def test_an_object_by_its_content_and_by_its_listing(tmp_path: Path, minio: S3Access) -> None:
    bucket = f"asked-{secrets.token_hex(4)}"
    async with s3_client(minio) as s3:
        await s3.create_bucket(Bucket=bucket)
        source = minio_source(minio, bucket, reconcile="1s", receive=["listen"])
        async with _asked(tmp_path / "daemon", **source) as (_, client):
            etag = hashlib.md5(b"second").hexdigest()
            upload = await client.expect(f"{bucket}/a b.csv", etag=etag)
            found: list[Delivery] = []
            for content in (b"first", b"second", b"third"):
                wanted = await client.expect(f"{bucket}/a b.csv")
                await s3.put_object(Bucket=bucket, Key="a b.csv", Body=content)
                (listed,) = (await s3.list_objects_v2(Bucket=bucket))["Contents"]
                found += await client.wait(wanted, timeout=WITHIN)
                exactly = minio_object(
                    "it", bucket, "a b.csv", etag=listed["ETag"], modified=listed["LastModified"]
                )
                assert await client.wait(exactly, timeout=WITHIN) == found[-1:]
            assert await client.wait(upload, timeout=WITHIN) == found[1:2]
            other = Wanted(subject=f"{bucket}/a b.csv", etag="0" * 32)  # of all that there ever was
            with pytest.raises(NotYet, match="only 3 of that name with another content"):
                await client.wait(other, timeout=0)


@pytest.mark.timeout(300)
async def test_a_record_by_its_acknowledgement(tmp_path: Path, kafka: KafkaAccess) -> None:
    topic = f"asked-{secrets.token_hex(4)}"
    await make_topic(kafka.bootstrap, topic, 3)
    async with _asked(tmp_path / "daemon", kind="kafka", bootstrap=[kafka.bootstrap], topics=[topic]) as (
        _,
        client,
    ):
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
            told = [await producer.send_and_wait(topic, b"{}", partition=number % 3) for number in range(6)]
        for one in told:
            wanted = kafka_record("it", topic, one.partition, one.offset, one.timestamp)
            assert _is_one(await client.wait(wanted, timeout=WITHIN), topic)


@pytest.mark.timeout(300)
async def test_a_cloudevent_by_its_own_words(tmp_path: Path) -> None:
    async with _asked(tmp_path / "daemon", kind="cloudevents") as (process, client):
        headers = {
            "ce-specversion": "1.0",
            "ce-id": "7",
            "ce-source": "/me",
            "ce-type": "t",
            "ce-subject": "s",
        }
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{process.url}/sources/it", headers=headers) as reply,
        ):
            assert reply.ok
        assert _is_one(await client.wait(cloudevent("it", "/me", "7"), timeout=WITHIN), "s")


@pytest.mark.timeout(300)
async def test_a_file_in_dcache_by_its_path_and_its_id(tmp_path: Path) -> None:
    async with FakeDcache() as dcache:
        await dcache.mkdir("/data")
        login = {"username": "admin", "password": "dickerelch"}
        watch = {"data": {"path": "/data", "recursive": True}}
        async with _asked(tmp_path / "daemon", kind="dcache", url=dcache.url, watch=watch, **login) as (
            _,
            client,
        ):
            upload = await client.expect("/data/f")
            await dcache.upload("/data/g", b"x")
            uploaded = await dcache.upload("/data/f", b"y")
            found = await client.wait(upload, timeout=WITHIN)
            assert _is_one(found, "/data/f")
            wanted = dcache_file("it", "/data/f", pnfsid=uploaded.pnfsid)
            assert await client.wait(wanted, timeout=WITHIN) == found
