"""OSCAR services, imported as they are, do in real pods what OSCAR promises."""

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dcnios_daemon import cli
from tests.daemon import DaemonProcess, daemon
from tests.e2e.stores import objects, s3_client
from tests.servers.fixtures import ClusterNode
from tests.servers.minio import S3Access

SPLIT = """#!/bin/bash
name=`basename "$INPUT_FILE_PATH" .txt`
mkdir -p "$TMP_OUTPUT_DIR/parts"
while read -r word; do echo "$word" > "$TMP_OUTPUT_DIR/parts/$name-$word.part"; done < "$INPUT_FILE_PATH"
echo log > "$TMP_OUTPUT_DIR/$name.log"
"""
TELL = """#!/bin/sh
out="$TMP_OUTPUT_DIR/`basename "$INPUT_FILE_PATH"`"
printf '%s\\n' "$STORAGE_OBJECT_KEY" "$EVENT_TIME" "$GREETING" "$(cat "$INPUT_FILE_PATH")" > "$out.told"
printf '%s' "$EVENT" > "$out.event"
cp "$out.told" "$TMP_OUTPUT_DIR/kept-back.told"
"""


def _fdl(bucket: str, store: S3Access, image: str) -> str:
    services = [
        {
            "name": "split",
            "image": image,
            "script": "split.sh",
            "input": [{"storage_provider": "minio.default", "path": f"/{bucket}/in/"}],
            "output": [
                {"storage_provider": "minio.default", "path": f"{bucket}/med", "suffix": [".part"]},
                {"storage_provider": "minio", "path": f"{bucket}/logs/all", "suffix": [".log"]},
            ],
        },
        {
            "name": "tell",
            "image": image,
            "script": "tell.sh",
            "environment": {"Variables": {"GREETING": "{{ 'not' }} a $(template)"}},
            "input": [{"storage_provider": "minio", "path": f"{bucket}/med"}],
            "output": [{"storage_provider": "minio", "path": f"{bucket}/out", "prefix": ["a-", "b-"]}],
        },
    ]
    provider = {"endpoint": store.endpoint, "access_key": store.access_key, "secret_key": store.secret_key}
    return json.dumps(
        {
            "functions": {"oscar": [{"here": service} for service in services]},
            "storage_providers": {"minio": {"default": provider | {"region": "us-east-1", "verify": True}}},
        }
    )


def _imported(folder: Path, node: ClusterNode, fdl: str) -> dict[str, Any]:
    folder.mkdir()
    (folder / "services.json").write_text(fdl)
    (folder / "split.sh").write_text(SPLIT)
    (folder / "tell.sh").write_text(TELL)
    options = ["--secrets", str(folder / "secrets"), "--staging-image", node.image, "--json"]
    result = CliRunner().invoke(cli.main, ["import", "fdl", str(folder / "services.json"), *options])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert [found for found in said["report"] if found["verdict"] in {"cannot be", "to do"}] == []
    settings: dict[str, Any] = said["configuration"]
    return settings


def _on_the_test_bed(settings: dict[str, Any], node: ClusterNode, namespace: str) -> None:
    """What is this machine's, not the services'."""
    settings["kubernetes"] |= {"namespace": namespace, "kubeconfig": str(node.access.kubeconfig)}
    for route in settings["routes"].values():
        route["run"]["pod"] = {"hostNetwork": True}
        route["in_flight"] = 4
    for source in settings["sources"].values():
        source["reconcile"] = "2s"  # this machine's MinIO tells listeners nothing


async def _until_done(process: DaemonProcess, expected: dict[str, int]) -> None:
    counts: dict[str, dict[str, int]] = {}
    try:
        async with asyncio.timeout(150):
            while any(counts.get(route, {}).get("succeeded", 0) < n for route, n in expected.items()):
                counts = {route: await process.counts(route) for route in expected}
                dead = await process.get("/api/v1/dead")
                assert not any(count.get("dead") for count in counts.values()), dead
                await asyncio.sleep(0.3)
    except TimeoutError as error:
        raise AssertionError(f"{counts}\n{process.tail()}") from error


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_two_services_in_a_row_leave_the_tree_that_oscar_would(
    tmp_path: Path, cluster_node: ClusterNode, minio: S3Access, namespace: str
) -> None:
    bucket = f"flow-{secrets.token_hex(4)}"
    fdl = _fdl(bucket, minio, cluster_node.image)
    settings = await asyncio.to_thread(_imported, tmp_path / "fdl", cluster_node, fdl)
    _on_the_test_bed(settings, cluster_node, namespace)
    async with s3_client(minio) as client:
        await client.create_bucket(Bucket=bucket)
        for key in ("in/", "med/"):  # OSCAR makes these folder markers
            await client.put_object(Bucket=bucket, Key=key)
        await client.put_object(Bucket=bucket, Key="in/a.txt", Body=b"one\ntwo\n")
        async with daemon(tmp_path / "daemon", settings) as process:
            await client.put_object(Bucket=bucket, Key="in/deep/b.txt", Body=b"three\n")
            await client.put_object(Bucket=bucket, Key="elsewhere/c.txt", Body=b"four\n")
            await _until_done(process, {"split": 2, "tell": 3})
        made = await objects(client, bucket)
    parts = {"a-one": b"one\n", "a-two": b"two\n", "b-three": b"three\n"}
    given = {"in/", "med/", "in/a.txt", "in/deep/b.txt", "elsewhere/c.txt"}
    made_by_split = {f"med/parts/{name}.part" for name in parts} | {"logs/all/a.log", "logs/all/b.log"}
    made_by_tell = {f"out/{name}.part.{end}" for name in parts for end in ("told", "event")}
    assert made.keys() == given | made_by_split | made_by_tell
    for name, content in parts.items():
        key, time, greeting, words = made[f"out/{name}.part.told"].decode().splitlines()
        assert (key, greeting) == (f"med/parts/{name}.part", "{{ 'not' }} a $(template)")
        assert time.startswith("20")
        assert words.encode() + b"\n" == content
        (record,) = json.loads(made[f"out/{name}.part.event"])["Records"]
        assert record["s3"]["bucket"]["name"] == bucket
        assert record["eventName"].startswith("s3:ObjectCreated:")
