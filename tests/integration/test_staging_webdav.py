"""Staging through a dCache door, by macaroons."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.core.ports import Download, Upload
from dcnios_daemon.staging.run import stage_in, stage_out
from dcnios_daemon.staging.webdav import DavStore
from tests.fakes.dcache import Directory, FakeDcache, Switches, tls
from tests.integration.staging_rig import (
    HASTY,
    ODD_NAMES,
    content_of,
    download_plan,
    make_output,
    read_input,
    scripted,
    upload_plan,
)

LOGIN = {"Authorization": "Basic bWU6cHc="}


@pytest_asyncio.fixture
async def dcache() -> AsyncIterator[FakeDcache]:
    directory = Directory()
    directory.add_user("me:pw:1000")
    async with FakeDcache(directory=directory) as running:
        yield running


@pytest_asyncio.fixture
async def store(dcache: FakeDcache) -> AsyncIterator[DavStore]:
    made = DavStore(dcache.dav, authorize=lambda: LOGIN)
    yield made
    await made.aclose()


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_file_of_any_name_comes_in_byte_exact(
    dcache: FakeDcache, store: DavStore, tmp_path: Path, name: str
) -> None:
    await dcache.upload(f"/data/{name}", content_of(name))
    leave = await store.download(f"/data/{name}", valid_for=60)
    await stage_in(download_plan(leave), tmp_path)
    assert read_input(tmp_path) == {"in": content_of(name)}


async def test_a_tree_of_results_goes_out_and_replaces_what_was_there(
    dcache: FakeDcache, store: DavStore, tmp_path: Path
) -> None:
    await dcache.upload("/out/é +/plain.txt", b"of an earlier attempt")
    files = {name: content_of(name) for name in ODD_NAMES} | {"a/b/empty": b"", "big": bytes(20_000_000)}
    await make_output(tmp_path, files)
    leave = await store.upload("dav:/out/é +/", valid_for=60)
    assert await stage_out(upload_plan(leave), tmp_path) == len(files)
    assert dcache.files() == {f"/out/é +/{name}": body for name, body in files.items()}


async def _status(leave: Download | Upload, method: str, url: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=leave.headers, data=b"x" if method == "PUT" else None) as answer,
    ):
        return answer.status


async def test_leave_to_read_one_file_is_nothing_more(dcache: FakeDcache, store: DavStore) -> None:
    await dcache.upload("/data/mine", b"1")
    await dcache.upload("/data/other", b"2")
    leave = await store.download("/data/mine", valid_for=60)
    assert await _status(leave, "GET", leave.url) == 200
    assert await _status(leave, "GET", f"{dcache.dav}/data/other") == 403
    assert await _status(leave, "PUT", leave.url) == 403
    assert await _status(leave, "DELETE", leave.url) == 403


async def test_leave_to_write_below_a_folder_is_nothing_more(dcache: FakeDcache, store: DavStore) -> None:
    await dcache.upload("/data/mine", b"1")
    leave = await store.upload("dav:/out", valid_for=60)
    assert await _status(leave, "PUT", f"{leave.url}new") == 201
    assert await _status(leave, "GET", f"{leave.url}new") == 403
    assert await _status(leave, "PUT", f"{dcache.dav}/data/theirs") == 403
    assert await _status(leave, "GET", f"{dcache.dav}/data/mine") == 403


async def test_leave_ends(dcache: FakeDcache, store: DavStore, tmp_path: Path) -> None:
    await dcache.upload("/data/f", b"1")
    leave = await store.download("/data/f", valid_for=1)
    await asyncio.sleep(1.1)
    with pytest.raises(StoreUnavailable, match="401") as caught:
        await stage_in(download_plan(leave), tmp_path)
    assert leave.headers["Authorization"].split()[1] not in str(caught.value)


async def test_a_very_long_validity_is_cut_to_what_the_door_gives(
    dcache: FakeDcache, store: DavStore
) -> None:
    await dcache.upload("/data/f", b"1")
    leave = await store.download("/data/f", valid_for=1e9)
    assert await _status(leave, "GET", leave.url) == 200


async def test_a_file_that_shows_late_is_waited_for_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    async with FakeDcache(switches=Switches(early_404=2)) as dcache:
        store = DavStore(dcache.dav, authorize=lambda: LOGIN)
        await dcache.upload("/data/f", b"1")
        await stage_in(download_plan(await store.download("/data/f", valid_for=60)), tmp_path, patience=HASTY)
        assert read_input(tmp_path) == {"in": b"1"}
        leave = await store.download("/data/gone", valid_for=60)
        with pytest.raises(StoreError, match="/data/gone: 404") as caught:
            await stage_in(download_plan(leave), tmp_path, patience=HASTY)
        assert not caught.value.retryable
        await store.aclose()


async def test_a_door_without_tls_says_why_there_is_no_macaroon() -> None:
    async with FakeDcache(switches=Switches(bearer_needs_tls=True)) as dcache:
        store = DavStore(dcache.dav, authorize=lambda: LOGIN)
        with pytest.raises(StoreError, match="no macaroon: 400 Not secure transport"):
            await store.download("/data/f", valid_for=60)
        await store.aclose()


async def test_a_wrong_login_and_an_absent_door_may_come_right(dcache: FakeDcache) -> None:
    for door, login in ((dcache.dav, "Basic bWU6bm8="), ("http://127.0.0.1:9", "Basic bWU6cHc=")):
        store = DavStore(door, authorize=lambda login=login: {"Authorization": login})  # type: ignore[misc]
        with pytest.raises(StoreUnavailable) as caught:
            await store.upload("dav:/out/", valid_for=60)
        assert "Basic" not in str(caught.value)
        await store.aclose()


@pytest.mark.parametrize("target", ["", "dav:", "dav:out", "dav://host/out", "s3://b/p", "dav:/out/../data/"])
async def test_what_is_no_target_is_refused(store: DavStore, target: str) -> None:
    with pytest.raises(StoreError):
        await store.upload(target, valid_for=60)


async def test_paths_that_climb_are_refused(store: DavStore) -> None:
    with pytest.raises(StoreError, match=r"\.\."):
        await store.download("/data/../secret", valid_for=60)


class _Door:
    """Answers as told, and keeps what it was asked."""

    def __init__(self, *answers: tuple[int, str, str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, str, dict[str, object]]] = []

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        kind = request.headers["Content-Type"]
        self.asked.append((request.method, request.raw_path, kind, json.loads(await request.read())))
        status, reason, body = self.answers.pop(0)
        return web.Response(status=status, reason=reason, text=body)


async def _ask(door: _Door, *, valid_for: float = 90) -> Upload:
    async with scripted(door) as url:
        store = DavStore(f"{url}/door", authorize=lambda: LOGIN)
        try:
            return await store.upload("dav:/out/a b+/", valid_for=valid_for)
        finally:
            await store.aclose()


async def test_the_door_is_asked_as_dcache_wants_it() -> None:
    """The content type is compared whole, and the path is that of the request (MacaroonRequestHandler)."""
    door = _Door((200, "OK", '{"macaroon": "m"}'))
    leave = await _ask(door)
    wanted = {"caveats": ["activity:UPLOAD,MANAGE,DELETE"], "validity": "PT90S"}
    assert door.asked == [("POST", "/door/out/a%20b%2B", "application/macaroon-request", wanted)]
    assert leave.headers == {"Authorization": "Bearer m"}
    assert leave.url.endswith("/door/out/a%20b%2B/")


@pytest.mark.parametrize(
    ("words", "second"),
    [
        ("Bad requested caveat: before: requested duration beyond maximum allowed (PT24H)", "PT86395S"),
        ("Bad requested caveat: before: requested duration beyond maximum allowed (PT1H30M)", "PT5395S"),
        ("Bad requested caveat: before: cannot extend session lifetime", None),
    ],
)
async def test_a_door_that_gives_less_is_asked_for_less(words: str, second: str | None) -> None:
    door = _Door((400, words, ""), (200, "OK", '{"macaroon": "m"}'))
    await _ask(door, valid_for=1e6)
    assert [asked[3].get("validity") for asked in door.asked] == ["PT604740S", second]


@pytest.mark.parametrize(
    ("answer", "retryable"),
    [
        ((200, "OK", "<html>a folder</html>"), False),
        ((200, "OK", "[]"), False),
        ((200, "OK", '{"macaroon": ""}'), False),
        ((405, "Method Not Allowed", ""), False),
        ((400, "Bad request path", ""), False),
        ((429, "Too Many Requests", ""), True),
        ((500, "Internal Server Error", ""), True),
    ],
)
async def test_a_door_that_gives_none_is_told_so(answer: tuple[int, str, str], retryable: bool) -> None:
    with pytest.raises(StoreError, match="gives no macaroon") as caught:
        await _ask(_Door(answer))
    assert caught.value.retryable is retryable


async def test_leave_from_a_site_with_its_own_authority_is_usable(tmp_path: Path) -> None:
    authority = await asyncio.to_thread(tls.make, tmp_path)
    server = await asyncio.to_thread(authority.server_context, "127.0.0.1")
    async with FakeDcache(switches=Switches(bearer_needs_tls=True), tls=server) as dcache:
        store = DavStore(
            dcache.dav, authorize=lambda: LOGIN, tls=authority.client_context, ca_file=authority.ca_file
        )
        await dcache.upload("/data/f", b"1")
        leave = await store.download("/data/f", valid_for=60)
        await stage_in(download_plan(leave), tmp_path)
        assert read_input(tmp_path) == {"in": b"1"}
        await make_output(tmp_path, {"x": b"2"})
        await stage_out(upload_plan(await store.upload("dav:/out/", valid_for=60)), tmp_path)
        assert dcache.files()["/out/x"] == b"2"
        stranger = Download(url=leave.url, headers=leave.headers)
        with pytest.raises(StoreUnavailable, match=r"[Cc]ertificate"):
            await stage_in(download_plan(stranger), tmp_path, patience=HASTY)
        await store.aclose()
