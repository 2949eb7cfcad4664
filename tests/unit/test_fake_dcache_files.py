"""The namespace API and the WebDAV door of the fake dCache are those of the fact sheet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakes.dcache import Chaos, FakeDcache, Switches
from tests.fakes.dcache.by_hand import ALICE, Client, serving


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving(FakeDcache()) as running:
        yield running


# Files


async def test_namespace_attributes(client: Client) -> None:
    await client.dcache.upload("/d/f 1.txt", b"12345")
    reply = await client.stat(
        "/d", "?children=true&locality=true&locations=true&checksum=true&xattr=true&optional=true"
    )
    assert (reply["fileType"], reply["fileMimeType"]) == ("DIR", "application/vnd.dcache.folder")
    child = reply["children"][0]
    assert child["fileName"] == "f 1.txt"
    assert (child["fileType"], child["size"], child["fileLocality"]) == ("REGULAR", 5, "ONLINE")
    assert child["locations"]
    assert child["checksums"][0]["type"] == "ADLER32"
    assert len(child["pnfsId"]) == 36
    assert child["mtime"] > 1e12
    plain = await client.stat("/d/f%201.txt")
    assert not {"fileName", "fileLocality", "locations", "checksums", "owner"} & plain.keys()


@pytest.mark.parametrize("query", ["limit=-1", "offset=-1", "limit=x"])
async def test_bad_pages(client: Client, query: str) -> None:
    response = await client.call("GET", f"{client.dcache.api}/namespace/?children=true&{query}")
    assert response.status == 400


async def test_pages_scan_anew_and_skip_what_moved(client: Client) -> None:
    for name in "abcd":
        await client.dcache.upload(f"/d/{name}")
    first = await client.stat("/d", "?children=true&limit=2")
    await client.dcache.delete("/d/a")
    second = await client.stat("/d", "?children=true&limit=2&offset=2")
    names = [child["fileName"] for child in first["children"] + second["children"]]
    assert names == ["a", "b", "d"]


async def test_namespace_errors_and_actions(client: Client) -> None:
    api = f"{client.dcache.api}/namespace"
    assert (await client.call("GET", f"{api}/none")).status == 404
    assert (await client.call("GET", f"{api}/", headers={"Authorization": "Basic !"})).status == 401
    assert (await client.call("POST", f"{api}/", json={"action": "mkdir", "name": "d"})).status == 201
    await client.dcache.upload("/d/f", b"x")
    response = await client.call("POST", f"{api}/d/f", json={"action": "mv", "destination": "g"})
    assert response.status == 201
    assert client.dcache.files() == {"/d/g": b"x"}
    assert (await client.call("DELETE", f"{api}/d")).status == 500
    assert (await client.call("DELETE", f"{api}/d/g")).status == 200
    assert (await client.call("POST", f"{api}/d", json={"action": "fly"})).status == 400


async def test_stats_and_gets_may_be_late(client: Client) -> None:
    client.dcache.switches.stale_stats = 1
    client.dcache.switches.early_404 = 1
    await client.dcache.upload("/d/f", b"x")
    query = "?locality=true&locations=true"
    first, second = await client.stat("/d/f", query), await client.stat("/d/f", query)
    assert (first.get("size"), first["fileLocality"], first["locations"]) == (None, "NONE", [])
    assert (second["size"], second["fileLocality"]) == (1, "ONLINE")
    assert [(await client.dav("GET", "/d/f")).status for _ in range(2)] == [404, 200]


async def test_shuffled_listings_are_complete(client: Client) -> None:
    client.dcache.switches.shuffle_pages = True
    for number in range(50):
        await client.dcache.upload(f"/d/{number}")
    orders = [
        [c["fileName"] for c in (await client.stat("/d", "?children=true"))["children"]] for _ in range(2)
    ]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


# The door


async def test_door_methods(client: Client) -> None:
    data = bytes(range(256)) * 4096
    assert (await client.dav("MKCOL", "/d")).status == 201
    assert (await client.dav("MKCOL", "/d")).status == 405
    assert (await client.dav("MKCOL", "/none/d")).status == 409

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 50_000):
            yield data[start : start + 50_000]

    assert (await client.dav("PUT", "/new/x", data=chunks())).status == 201, "parents are made"
    head = await client.dav("HEAD", "/new/x")
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(data)))
    assert await (await client.dav("GET", "/new/x")).read() == data
    part = await client.dav("GET", "/new/x", headers={"Range": "bytes=10-19"})
    assert (part.status, await part.read()) == (206, data[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(data)}"
    tail = await client.dav("GET", "/new/x", headers={"Range": "bytes=-5"})
    assert await tail.read() == data[-5:]
    assert (await client.dav("GET", "/new/x", headers={"Range": f"bytes={len(data)}-"})).status == 416
    assert (await client.dav("OPTIONS", "/")).headers["DAV"] == "1"
    assert (await client.dav("LOCK", "/new/x")).status == 405


async def test_reads_may_be_redirected_to_a_pool_that_needs_no_login(client: Client) -> None:
    client.dcache.switches.redirect_reads = True
    await client.dcache.upload("/d/f g", b"0123456789")
    redirect = await client.dav("GET", "/d/f%20g")
    assert redirect.status == 302
    client.headers = {"Range": "bytes=2-3"}
    assert await (await client.call("GET", redirect.headers["Location"])).read() == b"23"
    assert (await client.call("GET", f"{client.dcache.url}/pool/d/f")).status == 400


async def test_door_moves_and_deletes(client: Client) -> None:
    await client.dcache.upload("/d/a", b"a")
    await client.dcache.upload("/d/b", b"b")
    to_b = {"Destination": client.dcache.dav + "/d/b"}
    assert (await client.dav("MOVE", "/d/a", headers={**to_b, "Overwrite": "F"})).status == 412
    assert (await client.dav("MOVE", "/d/a", headers=to_b)).status == 204
    assert (await client.dav("MOVE", "/d/b", headers={"Destination": "/dav/d/c"})).status == 201
    assert (await client.dav("MOVE", "/d/c", headers={"Destination": "/dav/none/c"})).status == 409
    assert (await client.dav("DELETE", "/d")).status == 204
    assert (await client.dav("DELETE", "/d")).status == 404
    assert client.dcache.files() == {}


async def test_propfind(client: Client) -> None:
    await client.dcache.upload("/d/a &b", b"12")
    alone = await client.dav("PROPFIND", "/d", headers={"Depth": "0"})
    both = await client.dav("PROPFIND", "/d", headers={"Depth": "1"})
    assert (alone.status, both.status) == (207, 207)
    assert (await alone.text()).count("<d:response>") == 1
    text = await both.text()
    assert "<d:href>/dav/d/a%20%26b</d:href>" in text
    assert "<d:getcontentlength>2</d:getcontentlength>" in text
    assert (await client.dav("PROPFIND", "/d")).status == 403


async def test_expect_continue_is_answered_before_the_body(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.dcache.port)
    writer.write(
        b"PUT /dav/f HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n"
        b"Authorization: " + ALICE["Authorization"].encode() + b"\r\n\r\n"
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"1234")
    assert (await reader.readline()).startswith(b"HTTP/1.1 201")
    assert client.dcache.files() == {"/f": b"1234"}
    writer.close()


# Chaos and size


async def mishaps(seed: int) -> tuple[dict[str, int], Switches]:
    chaos = Chaos(seed, rate=0.5)
    async with FakeDcache(chaos=chaos) as dcache:
        for number in range(60):
            await dcache.upload(f"/d/{number}")
        assert len(dcache.files()) == 60
        chaos.calm(dcache)
        before = dict(chaos.done)
        await dcache.upload("/d/last")
        assert chaos.done == before
        return before, dcache.switches


async def test_chaos_is_deterministic_by_its_seed() -> None:
    assert await mishaps(1) == await mishaps(1)
    assert (await mishaps(1))[0] != (await mishaps(2))[0]


async def test_chaos_answers_some_requests_with_429() -> None:
    async with serving(FakeDcache(chaos=Chaos(0, rate=0.0, busy=0.5))) as client:
        statuses = {(await client.call("GET", f"{client.dcache.api}/events")).status for _ in range(30)}
    assert statuses == {200, 429}


async def test_chaos_also_comes_with_changes_through_the_door() -> None:
    chaos = Chaos(3, rate=1.0)
    async with serving(FakeDcache(chaos=chaos)) as client:
        for number in range(20):
            assert (await client.dav("PUT", f"/d/{number}", data=b"")).status == 201
    assert chaos.done.total() == 20


async def test_many_files_are_cheap(client: Client) -> None:
    for number in range(1000):
        client.dcache.storage.mkdir(f"/d/{number}", parents=True)
        for name in range(20):
            client.dcache.storage.put(f"/d/{number}/{name}", b"")
    assert len((await client.stat("/d", "?children=true"))["children"]) == 1000
    assert len(client.dcache.files()) == 20_000


@pytest.mark.parametrize("seed", range(5))
async def test_chaos_breaks_clients_but_not_the_server(seed: int) -> None:
    chaos = Chaos(seed, rate=0.4, slow=0.001)
    async with serving(FakeDcache(chaos=chaos)) as client:
        for number in range(100):
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, AssertionError):
                channel, _ = await client.watching(f"/d{number % 3}")
                await client.connect(channel, number)
                await client.call("DELETE", channel)
            await client.dcache.upload(f"/d{number % 3}/{number}")
            await client.dcache.move(f"/d{number % 3}/{number}", f"/e/{number}")
        chaos.calm(client.dcache)
        _, stream = await client.watching("/e", "IN_CLOSE_WRITE")
        await client.dcache.upload("/e/last")
        await stream.until(lambda e: e.id is not None and e.told == ("last", "IN_CLOSE_WRITE"))
        assert len(client.dcache.files()) == 101
