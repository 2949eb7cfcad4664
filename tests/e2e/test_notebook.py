"""A notebook server over a real store, worked in a real browser: what is saved there is an object here."""

import asyncio
import datetime as dt
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from dcnios_daemon.exposed.scaling import why_busy
from tests.e2e.chromium import CHROMIUM, Page, browser
from tests.e2e.stores import s3_client
from tests.integration.services_rig import Site, until
from tests.servers import versions
from tests.servers.access import ClusterAccess
from tests.servers.commands import MissingPartError
from tests.servers.fixtures import ClusterNode
from tests.servers.minio import S3Access
from tests.servers.notebook import Notebook, environment
from tests.servers.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TOKEN = secrets.token_urlsafe(24)
ENTER, END, SAVE = 13, 35, 83
_STARTED = "!document.querySelector('#jupyterlab-splash') && !!document.querySelector('.jp-Launcher')"
_TREE = "tree-finder-panel"
_SHOWN = f"[...document.querySelectorAll('{_TREE}')].some(tree => tree.getClientRects().length)"


@pytest.fixture
def bucket_name() -> str:
    return f"notebook-{secrets.token_hex(4)}"


@pytest_asyncio.fixture
async def store(minio: S3Access, bucket_name: str) -> AsyncIterator[Any]:
    async with s3_client(minio) as client:
        await client.create_bucket(Bucket=bucket_name)
        await client.put_object(Bucket=bucket_name, Key="results/one.txt", Body=b"from the cluster\n")
        yield client


@pytest.fixture
def notebook(minio: S3Access, bucket_name: str, workspace: Workspace) -> Iterator[Notebook]:
    if CHROMIUM is None:
        raise MissingPartError("chromium")
    with Notebook(
        workspace,
        endpoint=minio.endpoint,
        access_key=minio.access_key,
        secret_key=minio.secret_key,
        buckets=[bucket_name],
        token=TOKEN,
    ) as started:
        yield started


async def test_a_bucket_is_seen_a_file_opened_and_saved_and_the_object_is_there(
    store: Any, notebook: Notebook, bucket_name: str, tmp_path: Path
) -> None:
    await _nobody_gets_in_without_the_token(notebook)
    async with browser(tmp_path / "profile") as page:
        await page.open(f"{notebook.url}/lab")
        await page.until("!!document.querySelector('input[type=password]')")
        await page.open(f"{notebook.url}/lab?token={TOKEN}")
        await _open(page, bucket_name)
        await page.click(".cm-content", "from the cluster")
        await page.press("End", code=END, control=True)
        await page.type("and from the notebook")
        await page.until("document.querySelector('.cm-content').innerText.includes('and from the notebook')")
        await page.press("s", code=SAVE, control=True)
        saved = await _object(store, bucket_name, "results/one.txt", like=b"and from the notebook")
        assert saved == b"from the cluster\nand from the notebook"
        page_text = await page.value("document.documentElement.outerHTML")
    assert notebook_secret(notebook) not in page_text
    log = notebook.log.read_text()
    assert TOKEN not in log
    assert notebook_secret(notebook) not in log


def notebook_secret(notebook: Notebook) -> str:
    return str(notebook._settings["secret_key"])


async def _nobody_gets_in_without_the_token(notebook: Notebook) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("/api/contents", "/jupyterfs/resources", "/api/kernels"):
            for headers in ({}, {"Authorization": "token guessed"}):
                async with session.get(notebook.url + path, headers=headers) as answer:
                    assert answer.status == 403, path


async def _open(page: Page, bucket: str) -> None:
    """By the tree of the bucket in the side bar, as people do it."""
    await page.until(_STARTED)
    await page.work(lambda: page.click(f"li.lm-TabBar-tab[title='{bucket}']"), until=_SHOWN)
    one = _listed("one.txt")
    # The sign before a folder opens it; another click would close it again.
    await page.until(_listed("results/"))
    await page.work(lambda: page.click(f"{_TREE} .rt-row-header-icon"), until=one)
    await page.work(
        lambda: page.click(f"{_TREE} .rt-group-name", "one.txt", times=2),
        until="!!document.querySelector('.cm-content')?.innerText.includes('from the cluster')",
    )


def _listed(name: str) -> str:
    return f"[...document.querySelectorAll('{_TREE} .rt-group-name')].some(row => row.innerText == '{name}')"


async def _object(client: Any, bucket: str, key: str, *, like: bytes) -> bytes:
    """The object when it has been written; what it is at last if it never is."""
    body = b""
    try:
        async with asyncio.timeout(60):
            while like not in body:
                answer = await client.get_object(Bucket=bucket, Key=key)
                body = await answer["Body"].read()
                await asyncio.sleep(0.1)
    except TimeoutError:
        pass
    return body


@pytest.fixture
def site(kubernetes: ClusterAccess, namespace: str, tmp_path: Path) -> Site:
    return Site(kubernetes, namespace, tmp_path)


@pytest.mark.skipif(
    f"{sys.version_info.major}.{sys.version_info.minor}" != versions.IMAGE_PYTHON,
    reason="the packages are for this Python, and the image has another",
)
async def test_the_same_in_a_pod_of_a_real_node(
    store: Any, minio: S3Access, bucket_name: str, site: Site, cluster_node: ClusterNode, workspace: Workspace
) -> None:
    """The node is this machine: the packages come from its disk, and the store is on its loopback."""
    packages = environment(workspace.cache)
    port = workspace.port()
    folder = workspace.new_directory("jupyter-lab-in-image")
    (folder / "jupyter-lab").write_text('#!/bin/sh\nexec python3 -m jupyterlab --allow-root "$@"\n')
    (folder / "jupyter-lab").chmod(0o755)
    lab = {
        "kind": "notebook",
        "image": cluster_node.image,
        "endpoint": minio.endpoint,
        "access_key": minio.access_key,
        "secret_key": minio.secret_key,
        "buckets": [bucket_name],
        "port": port,
        "resources": {"cpu": "1", "memory": "1Gi"},
        "expose": {"host": "lab.example.org", "path": "/lab-of-one"},
        "volumes": {
            "packages": {"mount": str(packages), "host_path": str(packages), "read_only": True},
            "program": {"mount": "/opt/lab", "host_path": str(folder), "read_only": True},
        },
        "env": {
            "PATH": "/opt/lab:/usr/bin:/bin",
            "PYTHONPATH": str(next(packages.glob("lib/python3*/site-packages"))),
            "JUPYTERLAB_DIR": str(packages / "share/jupyter/lab"),
            "HOME": "/tmp",
        },
        "pod": {
            "hostNetwork": True,
            "securityContext": {"runAsUser": 0},
            "containers": [{"name": "service", "imagePullPolicy": "IfNotPresent"}],
        },
    }
    await asyncio.to_thread(site.services, "apply", lab=lab)
    await asyncio.to_thread(until, site, "lab", "serving")
    token = (await asyncio.to_thread(site.services, "token", "lab")).strip()
    page = f"http://127.0.0.1:{port}/lab-of-one"
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{page}/jupyterfs/resources") as answer:
            assert answer.status == 403
        session.headers["Authorization"] = f"token {token}"
        async with session.get(f"{page}/jupyterfs/resources") as answer:
            [tree] = await answer.json()
        assert (tree["name"], tree["init"]) == (bucket_name, True), tree
        async with session.get(f"{page}/api/contents/{tree['drive']}:results/one.txt") as answer:
            assert (await answer.json())["content"] == "from the cluster\n"
        async with session.get(f"{page}/api/contents/{tree['drive']}:") as answer:
            assert [entry["name"] for entry in (await answer.json())["content"]] == ["results"]
        await store.put_object(Bucket=bucket_name, Key="later/two.txt", Body=b"of a Job")
        async with session.get(f"{page}/api/contents/{tree['drive']}:later") as answer:
            later = await answer.json()
        assert [entry["name"] for entry in later["content"]] == ["two.txt"], "what others write later is seen"
        now = dt.datetime.now(dt.UTC)
        assert await why_busy(f"{page}/api", token, idle_for=0, now=now) is None
        assert "used" in str(await why_busy(f"{page}/api", token, idle_for=3600, now=now))
    assert token not in await asyncio.to_thread(site.services, "logs", "lab")
    await asyncio.to_thread(site.services, "delete", "lab")
