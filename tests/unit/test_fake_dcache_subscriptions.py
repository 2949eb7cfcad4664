"""Subscriptions of the fake dCache, inotify and metronome, are those of the fact sheet."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fakes.dcache import FakeDcache, Switches
from tests.fakes.dcache.by_hand import Client, detail, serving


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving(FakeDcache()) as running:
        yield running


@pytest.mark.parametrize(
    ("body", "status", "prefix"),
    [
        ({"path": "/d/none"}, 400, "Not found: "),
        ({"path": "/d/f", "flags": ["IN_ONLYDIR"]}, 400, "Failed condition: "),
        ({"path": "/d", "flags": ["IN_MOVE_FROM"]}, 400, "Bad selector: "),
        ({"path": "/d", "flags": ["IN_DONT_FOLLOW"]}, 400, "Bad selector: "),
        ({"path": "/d", "flags": ["IN_EXCL_UNLINK"]}, 400, "Bad selector: "),
        ({"path": "/d", "other": 1}, 400, "Bad selector: "),
        ({"flags": ["IN_CREATE"]}, 500, "Internal error: "),
    ],
)
async def test_bad_selectors(client: Client, body: object, status: int, prefix: str) -> None:
    await client.dcache.upload("/d/f")
    channel = await client.channel()
    response = await client.call("POST", f"{channel}/subscriptions/inotify", json=body)
    assert response.status == status
    assert (await detail(response)).startswith(prefix)


async def test_unknown_event_type_and_missing_body(client: Client) -> None:
    channel = await client.channel()
    response = await client.call("POST", f"{channel}/subscriptions/other", json={})
    assert (response.status, await detail(response)) == (400, "Unknown event type: other")
    assert (await client.call("POST", f"{channel}/subscriptions/inotify")).status == 415
    headers = {"Content-Type": "application/json"}
    response = await client.call("POST", f"{channel}/subscriptions/inotify", headers=headers)
    assert (response.status, await detail(response)) == (400, "Missing JSON entity in POST request")


@pytest.mark.parametrize("standard", [True, False])
async def test_subscription_ids_are_opaque_base64(standard: bool) -> None:
    async with serving(FakeDcache(switches=Switches(standard_base64=standard))) as client:
        channel = await client.channel()
        urls = []
        for number in range(20):
            await client.dcache.mkdir(f"/d{number}")
            response = await client.subscribe(channel, f"/d{number}")
            urls.append(response.headers["Location"])
        ids = "".join(url.rpartition("/")[2] for url in urls)
        assert ("%2F" in ids, "+" in ids) == (standard, standard)
        assert ("_" in ids or "-" in ids) == (not standard)
        for number, url in enumerate(urls):
            assert await (await client.call("GET", url)).json() == {"path": f"/d{number}"}
            assert (await client.call("DELETE", url)).status == 204
            assert (await client.call("GET", url)).status == 404


async def test_a_second_watch_of_the_inode_merges_by_303(client: Client) -> None:
    channel, stream = await client.watching("/d", "IN_CREATE")
    first = (await (await client.call("GET", f"{channel}/subscriptions")).json())[0]
    again = await client.subscribe(channel, "/d", "IN_DELETE")
    assert (again.status, again.headers["Location"]) == (303, first)
    client.dcache.switches.merge_answers_303 = False
    assert (await client.subscribe(channel, "/d", "IN_DELETE")).status == 201
    await client.dcache.upload("/d/f")
    await client.dcache.delete("/d/f")
    assert (await stream.numbered()).mask == "IN_DELETE"


@pytest.mark.parametrize(("is_buggy", "mask"), [(True, "IN_DELETE"), (False, "IN_CREATE")])
async def test_mask_add_shows_the_union_but_watches_the_new(
    client: Client, is_buggy: bool, mask: str
) -> None:
    client.dcache.switches.mask_add_bug = is_buggy
    channel, stream = await client.watching("/d", "IN_CREATE")
    again = await client.subscribe(channel, "/d", "IN_DELETE", "IN_MASK_ADD")
    selector = await (await client.call("GET", again.headers["Location"])).json()
    assert selector["flags"] == ["IN_CREATE", "IN_DELETE"]
    await client.dcache.upload("/d/f")
    await client.dcache.delete("/d/f")
    assert (await stream.numbered()).mask == mask


async def test_oneshot_closes_after_the_first_event(client: Client) -> None:
    _, stream = await client.watching("/d", "IN_CREATE", "IN_ONESHOT")
    await client.dcache.upload("/d/f")
    assert [(await stream.numbered()).mask for _ in range(2)] == ["IN_CREATE", "IN_IGNORED"]


async def test_zookeeper_failure_leaves_a_ghost_that_merges(client: Client) -> None:
    client.dcache.switches.zookeeper_fails = 1
    await client.dcache.mkdir("/d")
    channel = await client.channel()
    assert (await client.subscribe(channel, "/d")).status == 500
    assert (await client.subscribe(channel, "/d")).status == 303
    assert await (await client.call("GET", f"{channel}/subscriptions")).json() == []


async def test_watch_limit_is_zookeepers(client: Client) -> None:
    client.dcache.switches.watch_limit = 1
    channel, _ = await client.watching("/a")
    await client.dcache.mkdir("/b")
    assert (await client.subscribe(channel, "/b")).status == 500


async def test_limits_and_the_pace_of_metronomes_can_be_set() -> None:
    switches = Switches(default_timeout=7, maximum_timeout=8, metronome_scale=1e-5)
    async with serving(FakeDcache(switches=switches)) as client:
        channel = await client.channel()
        reply = await client.call("GET", channel, headers={"Accept": "application/json"})
        assert await reply.json() == {"timeout": 7}
        assert (await client.call("PATCH", channel, json={"timeout": 9})).status == 400
        stream = await client.connect(channel)
        await client.call("POST", f"{channel}/subscriptions/metronome", json={"delay": 300})
        assert (await stream.numbered()).data["event"] == "tick"


async def test_metronome_gives_an_anchor_and_ends_by_count(client: Client) -> None:
    channel = await client.channel()
    stream = await client.connect(channel)
    body = {"delay": 0.001, "count": 2, "message": "${username} ${count}"}
    response = await client.call("POST", f"{channel}/subscriptions/metronome", json=body)
    assert response.status == 201
    seen = [await stream.next() for _ in range(4)]
    assert [e.data.get("event") for e in seen if e.id is not None] == ["alice 1", "alice 2"]
    assert [e.data.get("type") for e in seen if e.id is None] == ["NEW_SUBSCRIPTION", "SUBSCRIPTION_CLOSED"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"delay": 1, "frequency": 1},
        {"delay": 301},
        {"frequency": 1e7},
        {"delay": 1, "message": ""},
        {"x": 1},
    ],
)
async def test_bad_metronomes(client: Client, body: object) -> None:
    channel = await client.channel()
    response = await client.call("POST", f"{channel}/subscriptions/metronome", json=body)
    assert response.status == 400
    assert (await detail(response)).startswith("Bad selector")
