"""Staging when servers break off, lie, redirect, refuse and come back."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.core.ports import Download, Upload
from dcnios_daemon.staging.run import stage_in, stage_out
from tests.integration.staging_rig import (
    HASTY,
    download_plan,
    make_output,
    read_input,
    scripted,
    upload_plan,
)

BODY = os.urandom(3_000_000)


class _Store:
    """Gives BODY, and breaks off each answer but the last after ``cut`` bytes."""

    def __init__(self, *, cuts: list[int], etag: str | None = '"v1"', ranges: bool = True) -> None:
        self.cuts = cuts
        self.etag = etag
        self.ranges = ranges
        self.asked: list[str | None] = []
        self.body = BODY

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        first = 0
        if wanted and self.ranges and request.headers.get("If-Range", self.etag) == self.etag:
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
        response = web.StreamResponse(status=206 if first else 200)
        response.content_length = len(self.body) - first
        if self.etag:
            response.headers["ETag"] = self.etag
        if first:
            response.headers["Content-Range"] = f"bytes {first}-{len(self.body) - 1}/{len(self.body)}"
        await response.prepare(request)
        if not self.cuts:
            await response.write(self.body[first:])
            return response
        await response.write(self.body[first : first + self.cuts.pop(0)])
        await asyncio.sleep(0.05)  # lets the bytes out before the reset
        assert request.transport
        request.transport.abort()
        return response


async def _fetch(store: _Store, tmp_path: Path) -> None:
    async with scripted(store) as url:
        plan = download_plan(Download(url=f"{url}/o?X-Amz-Signature=hush"))
        assert await stage_in(plan, tmp_path, patience=HASTY) == len(store.body)
    assert read_input(tmp_path) == {"in": store.body}


async def test_a_broken_transfer_goes_on_where_it_broke(tmp_path: Path) -> None:
    store = _Store(cuts=[1_000_000, 1_000_000])
    await _fetch(store, tmp_path)
    assert store.asked[0] is None
    assert len(store.asked) == 3
    assert all(asked and asked != "bytes=0-" for asked in store.asked[1:])


@pytest.mark.parametrize(("etag", "ranges"), [(None, True), ('W/"weak"', True), ('"v1"', False)])
async def test_it_begins_anew_where_it_cannot_go_on(tmp_path: Path, etag: str | None, ranges: bool) -> None:
    await _fetch(_Store(cuts=[1_000_000], etag=etag, ranges=ranges), tmp_path)


async def test_an_object_that_changed_on_the_way_is_never_mixed(tmp_path: Path) -> None:
    class Changing(_Store):
        async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
            if self.asked:
                self.body, self.etag = bytes(len(BODY)), '"v2"'
            return await super().__call__(request)

    await _fetch(Changing(cuts=[1_000_000]), tmp_path)


async def test_what_never_comes_whole_is_not_there(tmp_path: Path) -> None:
    async with scripted(_Store(cuts=[10] * 99, etag=None)) as url:
        with pytest.raises(StoreUnavailable) as caught:
            await stage_in(download_plan(Download(url=f"{url}/o?sig=hush")), tmp_path, patience=HASTY)
    assert "hush" not in str(caught.value)
    assert f"{url}/o" in str(caught.value)
    assert not (tmp_path / "input/in").exists()


async def test_a_store_that_is_away_is_asked_so_often_and_no_more(tmp_path: Path) -> None:
    asked = []

    async def away(request: web.BaseRequest) -> web.Response:
        asked.append(request.method)
        await request.read()
        return web.Response(status=503, text="SlowDown")

    await make_output(tmp_path, {"x": b"1"})
    async with scripted(away) as url:
        with pytest.raises(StoreUnavailable, match="503 SlowDown"):
            await stage_in(download_plan(Download(url=url)), tmp_path, patience=HASTY)
        with pytest.raises(StoreUnavailable, match="x to "):
            await stage_out(upload_plan(Upload(method="PUT", url=f"{url}/")), tmp_path, patience=HASTY)
    assert asked == ["GET"] * HASTY.tries + ["PUT"] * HASTY.tries


async def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:9/o?sig=hush", "http://no-such-host.invalid/o?sig=hush"):
        with pytest.raises(StoreUnavailable) as caught:
            await stage_in(download_plan(Download(url=url)), tmp_path, patience=HASTY)
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 5_000_000])
async def test_the_whole_body_goes_again_after_a_failure(tmp_path: Path, size: int) -> None:
    bodies = []

    async def failing(request: web.BaseRequest) -> web.Response:
        bodies.append(b"".join([block async for block in request.content.iter_any()]))
        assert request.headers["Content-Length"] == str(size)
        return web.Response(status=500 if len(bodies) < 3 else 201)

    body = os.urandom(size)
    await make_output(tmp_path, {"x": body})
    async with scripted(failing) as url:
        await stage_out(upload_plan(Upload(method="PUT", url=f"{url}/")), tmp_path, patience=HASTY)
    assert bodies == [body] * 3


async def test_missing_folders_are_made_from_the_top(tmp_path: Path) -> None:
    there = {"/dav"}
    asked: list[tuple[str, str]] = []

    async def strict(request: web.BaseRequest) -> web.Response:
        path = request.raw_path.rstrip("/")
        asked.append((request.method, request.raw_path))
        await request.read()
        if path.rpartition("/")[0] not in there:
            return web.Response(status=409)
        if path in there and request.method == "MKCOL":
            return web.Response(status=405)
        there.add(path)
        return web.Response(status=201)

    await make_output(tmp_path, {"a b/x": b"1", "a b/y": b"2"})
    async with scripted(strict) as url:
        plan = upload_plan(Upload(method="PUT", url=f"{url}/dav/out/new/"))
        assert await stage_out(plan, tmp_path, patience=HASTY) == 2
    assert {"/dav/out/new/a%20b/x", "/dav/out/new/a%20b/y"} <= there
    assert asked[-1] == ("PUT", "/dav/out/new/a%20b/y")


async def test_a_redirect_is_followed_and_the_login_stays_behind(tmp_path: Path) -> None:
    seen: list[tuple[str, str | None, bytes]] = []

    async def pool(request: web.BaseRequest) -> web.Response:
        seen.append((request.raw_path, request.headers.get("Authorization"), await request.read()))
        return web.Response(status=200, body=b"from the pool")

    async with scripted(pool) as pool_url:

        async def door(request: web.BaseRequest) -> web.Response:
            await request.read()
            assert request.headers["Authorization"] == "Bearer hush"
            return web.Response(status=307, headers={"Location": f"{pool_url}/p%2Fq%20%c3?id=1%2F2"})

        headers = {"Authorization": "Bearer hush"}
        await make_output(tmp_path, {"x": b"result"})
        async with scripted(door) as url:
            await stage_in(download_plan(Download(url=f"{url}/f", headers=headers)), tmp_path)
            await stage_out(upload_plan(Upload(method="PUT", url=f"{url}/", headers=headers)), tmp_path)
    assert seen == [("/p%2Fq%20%c3?id=1%2F2", None, b""), ("/p%2Fq%20%c3?id=1%2F2", None, b"result")]
    assert read_input(tmp_path) == {"in": b"from the pool"}


async def test_going_round_in_circles_ends(tmp_path: Path) -> None:
    async def circle(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(status=307, headers={"Location": "/round?sig=hush"})

    await make_output(tmp_path, {"x": b"1"})
    async with scripted(circle) as url:
        for staging in (
            stage_in(download_plan(Download(url=f"{url}/?sig=hush")), tmp_path, patience=HASTY),
            stage_out(upload_plan(Upload(method="PUT", url=f"{url}/")), tmp_path, patience=HASTY),
        ):
            with pytest.raises(StoreError) as caught:
                await staging
            assert "hush" not in str(caught.value)


async def test_a_refusal_names_file_and_store_and_is_final(tmp_path: Path) -> None:
    asked = []

    async def refusing(request: web.BaseRequest) -> web.Response:
        asked.append(request.method)
        await request.read()
        return web.Response(status=403, text="no right to write here")

    await make_output(tmp_path, {"a/b.txt": b"1"})
    async with scripted(refusing) as url:
        plan = upload_plan(Upload(method="PUT", url=f"{url}/out/", headers={"Authorization": "Bearer hush"}))
        with pytest.raises(
            StoreError, match=r"a/b.txt to .*/out/a/b.txt: 403 no right to write here"
        ) as caught:
            await stage_out(plan, tmp_path, patience=HASTY)
    assert not caught.value.retryable
    assert asked == ["PUT"]


_MEASURED = """
import pathlib, sys
from dcnios_daemon.core.ports import Download, Upload
from dcnios_daemon.staging.document import Outlet, StagingPlan
from dcnios_daemon.staging.run import main_in, main_out
url, work = sys.argv[1], pathlib.Path(sys.argv[2])
put = Upload(method="POST", url=url, fields={"policy": "p"}, prefix="p/")
plan = StagingPlan(
    download=Download(url=url), local_name="in", uploads=(Outlet(name="o", upload=put),)
)
path = work / "plan"
path.write_bytes(plan.encode())
code = main_in(path, work)
(work / "input/in").rename(work / "output/out")
code = code or main_out(path, work)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) // 1024)
sys.exit(code)
"""


async def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    size = 300 * 2**20
    received = []

    async def store(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST":
            total = 0
            async for block in request.content.iter_any():
                total += len(block)
            received.append(total)
            return web.Response(status=204)
        response = web.StreamResponse()
        response.content_length = size
        await response.prepare(request)
        for _ in range(size // 2**20):
            await response.write(bytes(2**20))
        return response

    async with scripted(store) as url:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", _MEASURED, url, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert received[0] > size
    assert int(done.stdout.split()[-1]) < 90
