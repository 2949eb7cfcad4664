"""The whole way, on real parts: an event becomes exactly one Job, whatever is killed on the way."""

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import DaemonProcess, free_port
from tests.e2e.stores import make_topic, minio_source, notify, objects, produce, s3_client
from tests.fakes.dcache import FakeDcache
from tests.servers.access import ClusterAccess
from tests.servers.fixtures import ClusterNode, KafkaAccess
from tests.servers.minio import MinIO
from tests.servers.workspace import Workspace

OBJECTS, RECORDS, UPLOADS = 200, 1000, 50
WITH_PODS = 8
"""Of each source so many run in real pods; the others' Jobs stay suspended, since pods cost seconds each."""


def _run(node: ClusterNode, **more: Any) -> dict[str, Any]:
    return {
        "kind": "job",
        "image": node.image,
        "pod": {"hostNetwork": True},
        "keep": "1h",
        "script": 'cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/$DCNIOS_KEY"',
        **more,
    }


def _routes(node: ClusterNode) -> dict[str, Any]:
    out = {"out": {"to": "s3://outbox/", "using": "uploads"}}
    staged = _run(node, stage_in=True, stage_out=out)
    message = _run(node, script='cp "$DCNIOS_EVENT_FILE" "$TMP_OUTPUT_DIR/$DCNIOS_KEY"', stage_out=out)
    asleep = _run(node, script="true", suspend=True)
    return {
        "objects-run": {
            "from": ["uploads"],
            "match": {"subject": "inbox/run/**"},
            "in_flight": 4,
            "run": staged,
        },
        "objects": {"from": ["uploads"], "match": {"subject": "inbox/rest/**"}, "run": asleep},
        "records-run": {
            "from": ["frames"],
            "match": {"where": {"run": "true"}},
            "in_flight": 4,
            "run": message,
        },
        "records": {"from": ["frames"], "match": {"where": {"run": "false"}}, "run": asleep},
        "files-run": {
            "from": ["detector"],
            "match": {"subject": "/data/run/**"},
            "in_flight": 4,
            "run": staged,
        },
        "files": {"from": ["detector"], "match": {"subject": "/data/rest/**"}, "run": asleep},
    }


async def _upload(client: Any, contents: Mapping[str, bytes]) -> None:
    for key, content in contents.items():
        await client.put_object(Bucket="inbox", Key=key, Body=content)
        await asyncio.sleep(0.02)


async def _upload_files(dcache: FakeDcache, contents: Mapping[str, bytes]) -> None:
    for path, content in contents.items():
        await dcache.upload(path, content)
        await asyncio.sleep(0.1)


async def _send(kafka: KafkaAccess, topic: str, values: list[bytes]) -> None:
    for start in range(0, len(values), 50):
        await produce(kafka.bootstrap, topic, values[start : start + 50])
        await asyncio.sleep(0.2)


async def _kill_now_and_then(process: DaemonProcess, times: int, dice: random.Random) -> None:
    for _ in range(times):
        await asyncio.sleep(dice.uniform(0.3, 2.5))
        await process.kill()
        await asyncio.to_thread(process.start)
    await process.until_ready()


def _jobs(access: ClusterAccess, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = access.call("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"]
    return found


async def _until_done(process: DaemonProcess, expected: Mapping[str, tuple[str, int]]) -> None:
    counts: dict[str, dict[str, int]] = {}
    try:
        async with asyncio.timeout(480):
            while True:
                counts = {route: await process.counts(route) for route in expected}
                if all(counts[route].get(state, 0) >= n for route, (state, n) in expected.items()):
                    return
                await asyncio.sleep(0.3)
    except TimeoutError as error:
        raise AssertionError(f"{counts}\n{process.tail()}") from error


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_every_event_becomes_exactly_one_job_through_ten_kills(
    tmp_path: Path, workspace: Workspace, cluster_node: ClusterNode, kafka: KafkaAccess, namespace: str
) -> None:
    dice = random.Random(7)
    topic = f"frames-{secrets.token_hex(4)}"
    contents = {
        f"{'run' if n < WITH_PODS else 'rest'}/file {n}.bin": dice.randbytes(2000) for n in range(OBJECTS)
    }
    files = {
        f"/data/{'run' if n < WITH_PODS else 'rest'}/file {n}.bin": dice.randbytes(2000)
        for n in range(UPLOADS)
    }
    values = [b'{"n":%d,"run":%s}' % (n, b"true" if n < WITH_PODS else b"false") for n in range(RECORDS)]
    await make_topic(kafka.bootstrap, topic, 4)
    port = free_port()
    webhook = {
        "MINIO_NOTIFY_WEBHOOK_ENABLE_DCNIOS": "on",
        "MINIO_NOTIFY_WEBHOOK_ENDPOINT_DCNIOS": f"http://127.0.0.1:{port}/sources/uploads",
        "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_DCNIOS": "hush",
        "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_DCNIOS": str(tmp_path / "minio-queue"),
    }
    store = await asyncio.to_thread(MinIO(workspace, env=webhook).__enter__)
    async with s3_client(store.access) as client, FakeDcache() as dcache:
        for bucket in ("inbox", "outbox"):
            await client.create_bucket(Bucket=bucket)
        await dcache.mkdir("/data")
        settings = {
            "daemon": {"http": {"port": port}},
            "kubernetes": {
                "namespace": namespace,
                "kubeconfig": str(cluster_node.access.kubeconfig),
                "staging_image": cluster_node.image,
            },
            "limits": {"rate": None, "in_flight": None},
            "sources": {
                "uploads": minio_source(store.access, "inbox", webhook_token="hush", reconcile="5s"),
                "frames": {"kind": "kafka", "bootstrap": [kafka.bootstrap], "topics": [topic]},
                "detector": {
                    "kind": "dcache",
                    "url": dcache.url,
                    "door": dcache.dav,
                    "watch": {"data": {"path": "/data", "recursive": True}},
                    "username": "admin",
                    "password": "dickerelch",
                    "reconcile": "5s",
                },
            },
            "routes": _routes(cluster_node),
        }
        process = DaemonProcess(tmp_path / "daemon", settings)
        await asyncio.to_thread(process.start)
        await process.until_ready()
        await notify(client, "inbox", "DCNIOS")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_upload(client, contents))
                group.create_task(_upload_files(dcache, files))
                group.create_task(_send(kafka, topic, values))
                group.create_task(_kill_now_and_then(process, 10, dice))
            expected = {
                "objects": ("running", OBJECTS - WITH_PODS),
                "records": ("running", RECORDS - WITH_PODS),
                "files": ("running", UPLOADS - WITH_PODS),
                **dict.fromkeys(("objects-run", "records-run", "files-run"), ("succeeded", WITH_PODS)),
            }
            await _until_done(process, expected)
            assert process.lives == 11
            jobs = await asyncio.to_thread(_jobs, cluster_node.access, namespace)
            keys = Counter(job["metadata"]["labels"]["dcnios-daemon/key"] for job in jobs)
            assert len(jobs) == OBJECTS + RECORDS + UPLOADS
            assert set(keys.values()) == {1}
            results = Counter((await objects(client, "outbox")).values())
            assert results == Counter(
                [*list(contents.values())[:WITH_PODS], *values[:WITH_PODS], *list(files.values())[:WITH_PODS]]
            )
            assert await process.stop() == 0
        finally:
            await process.kill()
            await asyncio.to_thread(store.__exit__, None, None, None)
