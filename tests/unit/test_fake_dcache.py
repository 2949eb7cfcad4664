"""The fake dCache is believed by many tests: here its events are checked against the fact sheet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakes.dcache import FakeDcache
from tests.fakes.dcache.by_hand import ALICE, STREAM, Client, serving


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving(FakeDcache()) as running:
        yield running


UPLOAD = ["IN_CREATE", "IN_OPEN", "IN_MODIFY", "IN_CLOSE_WRITE", "IN_ATTRIB", "IN_ATTRIB"]


# The stream


async def test_the_stream_is_what_jersey_writes(client: Client) -> None:
    channel, stream = await client.watching("/d")
    location = (await (await client.call("GET", f"{channel}/subscriptions")).json())[0]
    await client.dcache.upload("/d/\u2028 \u0085é", b"x")
    assert (await stream.next()).raw == (
        b'event: SYSTEM\ndata: {"type":"NEW_SUBSCRIPTION","subscription":"' + location.encode() + b'"}\n\n'
    )
    expected = f'{{"event":{{"name":"\u2028 \u0085é","mask":["IN_CREATE"]}},"subscription":"{location}"}}'
    assert (await stream.next()).raw == f"event: inotify\nid: 0\ndata: {expected}\n\n".encode()


async def test_headers_come_before_any_event(client: Client) -> None:
    channel = await client.channel()
    async with asyncio.timeout(5):
        response = await client.session.get(channel, headers={**ALICE, **STREAM})
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Transfer-Encoding"] == "chunked"
    response.close()


async def test_ids_are_dense_and_new_channels_restart_at_zero(client: Client) -> None:
    _, stream = await client.watching("/d")
    for name in "abc":
        await client.dcache.upload(f"/d/{name}")
    assert [(await stream.numbered()).id for _ in range(18)] == list(range(18))
    other = await client.channel()
    second = await client.connect(other)
    await client.subscribe(other, "/d", "IN_CREATE")
    await client.dcache.upload("/d/d")
    assert (await second.numbered()).id == 0


# Who sees what


async def test_door_upload_tells_its_six_events(client: Client) -> None:
    _, stream = await client.watching("/d")
    assert (await client.dav("PUT", "/d/f%20g", data=b"hello")).status == 201
    assert [(await stream.numbered()).told for _ in UPLOAD] == [("f g", flag) for flag in UPLOAD]


async def test_in_process_upload_equals_the_door(client: Client) -> None:
    _, stream = await client.watching("/d")
    await client.dcache.upload("/d/f", b"hello")
    assert [(await stream.numbered()).mask for _ in UPLOAD] == UPLOAD


async def test_srm_upload_is_only_a_moved_to_with_unmatched_cookie(client: Client) -> None:
    _, stream = await client.watching("/d")
    await client.dcache.upload_srm("/d/f", b"hello")
    await client.dcache.mkdir("/d/end")
    first, second = await stream.numbered(), await stream.numbered()
    assert first.told == ("f", "IN_MOVED_TO")
    assert len(first.data["event"]["cookie"]) == 22
    assert second.told == ("end", "IN_CREATE,IN_ISDIR")
    assert client.dcache.files() == {"/d/f": b"hello"}


async def test_rename_has_one_cookie_and_a_self_event_without_path(client: Client) -> None:
    channel, stream = await client.watching("/d")
    await client.dcache.upload("/d/a")
    await client.subscribe(channel, "/d/a", "IN_MOVE_SELF")
    await stream.until(lambda e: e.data.get("type") == "NEW_SUBSCRIPTION" and e.id is None)
    await client.dcache.move("/d/a", "/d/b")
    moves = [e for e in [await stream.numbered() for _ in range(9)] if "MOVE" in e.mask]
    by_mask = {e.mask: e.data["event"] for e in moves}
    assert by_mask["IN_MOVE_SELF"] == {"mask": ["IN_MOVE_SELF"]}
    assert by_mask["IN_MOVED_FROM"]["cookie"] == by_mask["IN_MOVED_TO"]["cookie"]
    assert (by_mask["IN_MOVED_FROM"]["name"], by_mask["IN_MOVED_TO"]["name"]) == ("a", "b")


async def test_rename_over_a_file_has_no_delete(client: Client) -> None:
    await client.dcache.upload("/d/a", b"new")
    await client.dcache.upload("/d/b", b"old")
    _, stream = await client.watching("/d")
    response = await client.dav("MOVE", "/d/a", headers={"Destination": client.dcache.dav + "/d/b"})
    assert response.status == 204
    await client.dcache.mkdir("/d/end")
    seen = await stream.until(lambda e: e.id is not None and "IN_ISDIR" in e.mask)
    assert [e.mask for e in seen if e.id is not None] == [
        "IN_MOVED_FROM",
        "IN_MOVED_TO",
        "IN_CREATE,IN_ISDIR",
    ]
    assert client.dcache.files() == {"/d/b": b"new"}


async def test_overwrite_deletes_first_and_has_a_new_pnfsid(client: Client) -> None:
    before = (await client.dcache.upload("/d/f", b"1")).pnfsid
    _, stream = await client.watching("/d")
    assert (await client.dav("PUT", "/d/f", data=b"1")).status == 204
    assert (await client.stat("/d/f"))["pnfsId"] != before
    assert [(await stream.numbered()).mask for _ in range(2)] == ["IN_DELETE", "IN_CREATE"]


async def test_nfs_touch_has_no_close_write_and_no_size(client: Client) -> None:
    _, stream = await client.watching("/d")
    await client.dcache.touch_nfs("/d/f")
    await client.dcache.mkdir("/d/end")
    masks = [(await stream.numbered()).mask for _ in range(3)]
    assert masks == ["IN_CREATE", "IN_ATTRIB", "IN_CREATE,IN_ISDIR"]
    assert "size" not in await client.stat("/d/f")


async def test_flush_and_stage_are_bare_attribs(client: Client) -> None:
    await client.dcache.upload("/d/f")
    _, stream = await client.watching("/d")
    await client.dcache.flush("/d/f")
    assert (await client.stat("/d/f", "?locality=true"))["fileLocality"] == "NEARLINE"
    await client.dcache.stage("/d/f")
    assert (await client.stat("/d/f", "?locality=true"))["fileLocality"] == "ONLINE_AND_NEARLINE"
    assert [(await stream.numbered()).told for _ in range(2)] == [("f", "IN_ATTRIB")] * 2


async def test_listing_echoes_and_a_stat_does_not(client: Client) -> None:
    _, stream = await client.watching("/d")
    await client.stat("/d")
    await client.stat("/d", "?children=true")
    told = [(await stream.numbered()).told for _ in range(2)]
    assert told == [(None, "IN_OPEN,IN_ISDIR"), (None, "IN_CLOSE_NOWRITE,IN_ISDIR")]
    assert client.dcache.requests.counts["listing"] == 1
    assert client.dcache.requests.listed["/d"] == 1


async def test_aborted_upload_tells_close_write_and_leaves_nothing(client: Client) -> None:
    _, stream = await client.watching("/d")

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        await stream.until(lambda e: e.id is not None and e.mask == "IN_MODIFY")
        raise ConnectionError

    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await client.dav("PUT", "/d/f", data=body())
    seen = await stream.until(lambda e: e.id is not None and e.mask == "IN_DELETE")
    assert [e.mask for e in seen] == ["IN_CLOSE_WRITE", "IN_DELETE"]
    assert client.dcache.files() == {}
    assert (await client.dav("GET", "/d/f")).status == 404


async def test_aborted_upload_may_leave_an_entry_without_size(client: Client) -> None:
    client.dcache.switches.abort_leaves_entry = True
    await client.dcache.abort_upload("/d/f")
    entry = (await client.stat("/d", "?children=true&locality=true&locations=true"))["children"][0]
    assert (entry["fileName"], entry["fileLocality"], entry["locations"]) == ("f", "NONE", [])
    assert "size" not in entry


async def test_upload_under_way_has_no_size_and_keeps_its_old_name(client: Client) -> None:
    _, stream = await client.watching("/d", "IN_CLOSE_WRITE")
    upload = client.dcache.storage.begin("/d/a")
    upload.write(b"x")
    assert "size" not in await client.stat("/d/a")
    await client.dcache.move("/d/a", "/d/b")
    upload.finish()
    assert (await stream.numbered()).told == ("a", "IN_CLOSE_WRITE")
    assert (await client.stat("/d/b"))["size"] == 1


async def test_watches_follow_the_inode(client: Client) -> None:
    channel, stream = await client.watching("/d/sub", "IN_CREATE", "IN_MOVE_SELF")
    url = (await (await client.call("GET", f"{channel}/subscriptions")).json())[0]
    await client.dcache.move("/d", "/e")  # an ancestor: says nothing here
    await client.dcache.upload("/e/sub/f")
    await client.dcache.move("/e/sub", "/e/other")
    assert [(await stream.numbered()).told for _ in range(2)] == [
        ("f", "IN_CREATE"),
        (None, "IN_MOVE_SELF,IN_ISDIR"),
    ]
    assert (await (await client.call("GET", url)).json())["path"] == "/d/sub"


@pytest.mark.parametrize("closed_first", [True, False])
async def test_deleting_the_watched_directory_ends_the_watch(client: Client, closed_first: bool) -> None:
    client.dcache.switches.closed_before_ignored = closed_first
    channel, stream = await client.watching("/d")
    await stream.next()
    await client.dcache.delete("/d")
    seen = [await stream.next() for _ in range(3)]
    assert seen[0].mask == "IN_DELETE_SELF,IN_ISDIR"
    ignored, closed = (seen[2], seen[1]) if closed_first else (seen[1], seen[2])
    assert ignored.data["event"] == {"mask": ["IN_IGNORED"]}
    assert closed.data["type"] == "SUBSCRIPTION_CLOSED"
    assert await (await client.call("GET", f"{channel}/subscriptions")).json() == []
