"""A notebook server over a real store, worked in a real browser: what is saved there is an object here."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.e2e.chromium import CHROMIUM, Page, browser
from tests.e2e.stores import s3_client
from tests.servers.commands import MissingPartError
from tests.servers.minio import S3Access
from tests.servers.notebook import Notebook
from tests.servers.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TOKEN = secrets.token_urlsafe(24)
ENTER, END, SAVE = 13, 35, 83
_STARTED = "!document.querySelector('#jupyterlab-splash') && !!document.querySelector('.jp-Launcher')"
_TREE = "tree-finder-panel"
_SHOWN = f"[...document.querySelectorAll('{_TREE}')].some(tree => tree.getClientRects().length)"


@pytest.fixture(scope="module")
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
