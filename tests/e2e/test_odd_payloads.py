"""Names and contents that break lesser chains arrive in the container byte for byte."""

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import DaemonProcess, daemon
from tests.e2e.stores import make_topic, minio_source, objects, produce, s3_client
from tests.servers.fixtures import ClusterNode, KafkaAccess
from tests.servers.minio import S3Access

KEYS = [
    "with space.bin",
    "plus+plus.bin",
    "per%cent%20.bin",
    "hash#tag.bin",
    "quo'te\"s.bin",
    "emoji 🎈/ünï.bin",
    f"{'long/' * 170}{'x' * 46}.bin",
]
VALUES = [
    b"",
    b"\xff\xfe not utf-8 \x00\x01",
    b'{"line": "a\\nb \xe2\x80\xa8 $(HOME) `id` $HOME"}\r\n',
    b"z" * 1_000_000,
]


async def _until_settled(process: DaemonProcess, expected: Mapping[str, int]) -> None:
    counts: dict[str, dict[str, int]] = {}
    try:
        async with asyncio.timeout(300):
            while any(counts.get(route, {}).get("succeeded", 0) < n for route, n in expected.items()):
                counts = {route: await process.counts(route) for route in expected}
                assert not any(count.get("dead") for count in counts.values()), await process.get(
                    "/api/v1/dead"
                )
                await asyncio.sleep(0.3)
    except TimeoutError as error:
        raise AssertionError(f"{counts}\n{process.tail()}") from error


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_odd_names_and_contents_arrive_byte_exact(
    tmp_path: Path, cluster_node: ClusterNode, kafka: KafkaAccess, minio: S3Access, namespace: str
) -> None:
    assert max(len(key) for key in KEYS) == 900
    tag = secrets.token_hex(4)
    inbox, outbox, topic = f"in-{tag}", f"out-{tag}", f"odd-{tag}"
    contents = {key: f"content of {key}".encode() for key in KEYS}
    contents |= {"empty.bin": b"", "big.bin": secrets.token_bytes(50 * 1024 * 1024)}
    await make_topic(kafka.bootstrap, topic, 1)
    run: dict[str, Any] = {
        "kind": "job",
        "image": cluster_node.image,
        "pod": {"hostNetwork": True},
        "stage_out": {"out": {"to": f"s3://{outbox}/{{{{ event.source }}}}/", "using": "uploads"}},
    }
    settings = {
        "kubernetes": {
            "namespace": namespace,
            "kubeconfig": str(cluster_node.access.kubeconfig),
            "staging_image": cluster_node.image,
        },
        "sources": {
            "uploads": minio_source(minio, inbox, reconcile="2s"),
            "frames": {"kind": "kafka", "bootstrap": [kafka.bootstrap], "topics": [topic]},
        },
        "routes": {
            "objects": {
                "from": ["uploads"],
                "in_flight": 3,
                "run": run
                | {"stage_in": True, "script": 'cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/$DCNIOS_KEY"'},
            },
            "records": {
                "from": ["frames"],
                "in_flight": 3,
                "run": run | {"script": 'cp "$DCNIOS_EVENT_FILE" "$TMP_OUTPUT_DIR/$DCNIOS_KEY"'},
            },
        },
    }
    async with s3_client(minio) as client:
        for bucket in (inbox, outbox):
            await client.create_bucket(Bucket=bucket)
        for key, content in contents.items():
            await client.put_object(Bucket=inbox, Key=key, Body=content)
        async with daemon(tmp_path / "daemon", settings) as process:
            await produce(kafka.bootstrap, topic, VALUES)
            await _until_settled(process, {"objects": len(contents), "records": len(VALUES)})
        made = await objects(client, outbox)
    results = {name: _digest(content) for name, content in made.items()}
    staged = sorted(digest for name, digest in results.items() if name.startswith("uploads/"))
    handed = sorted(digest for name, digest in results.items() if name.startswith("frames/"))
    assert staged == sorted(_digest(content) for content in contents.values())
    assert handed == sorted(_digest(value) for value in VALUES)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
