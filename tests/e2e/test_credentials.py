"""A route whose pod gets a store's keys from a Kubernetes Secret, on real parts."""

import asyncio
import secrets
from pathlib import Path

import pytest

from tests.daemon import daemon
from tests.e2e.stores import minio_source, s3_client
from tests.servers.fixtures import ClusterNode
from tests.servers.minio import S3Access

SIZE = 70 * 1024 * 1024


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_stage_out_has_the_secret_and_the_run_has_not(
    tmp_path: Path, cluster_node: ClusterNode, minio: S3Access, namespace: str
) -> None:
    """The output is larger than one PUT, so that it can only have come in parts, which leave cannot do."""
    tag = secrets.token_hex(4)
    inbox, outbox = f"in-{tag}", f"out-{tag}"
    out = {"to": f"s3://{outbox}/kept/", "using": "uploads", "credentials": "secret", "secret": "outbox.keys"}
    script = f"""set -e
        test ! -e /dcnios-credentials
        head -c {SIZE} /dev/zero > "$TMP_OUTPUT_DIR/big file"
        """
    settings = {
        "kubernetes": {
            "namespace": namespace,
            "kubeconfig": str(cluster_node.access.kubeconfig),
            "staging_image": cluster_node.image,
        },
        "sources": {"uploads": minio_source(minio, inbox, reconcile="1s")},
        "routes": {
            "keep": {
                "from": ["uploads"],
                "run": {
                    "kind": "job",
                    "image": cluster_node.image,
                    "pod": {"hostNetwork": True},
                    "script": script,
                    "stage_out": {"out": out},
                },
            }
        },
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "outbox.keys"},
        "stringData": {"access_key": minio.access_key, "secret_key": minio.secret_key},
    }
    path = f"/api/v1/namespaces/{namespace}/secrets"
    await asyncio.to_thread(cluster_node.access.call, "POST", path, secret)
    async with s3_client(minio) as client:
        for bucket in (inbox, outbox):
            await client.create_bucket(Bucket=bucket)
        await client.put_object(Bucket=inbox, Key="x", Body=b"")
        async with asyncio.timeout(200), daemon(tmp_path / "daemon", settings) as process:
            counts: dict[str, int] = {}
            while not counts.get("succeeded"):
                counts = await process.counts("keep")
                assert not counts.get("dead"), await process.get("/api/v1/dead")
                await asyncio.sleep(0.3)
        made = await client.head_object(Bucket=outbox, Key="kept/big file")
    assert (made["ContentLength"], made["ETag"].strip('"')[-2:]) == (SIZE, "-5")
