"""Channels, resuming and subscriptions of the fake dCache are those of the fact sheet."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.fakes.dcache import FakeDcache, Switches
from tests.fakes.dcache.by_hand import ALICE, BOB, STREAM, Client, Event, detail, serving


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving(FakeDcache()) as running:
        yield running


# Channels


async def test_metadata_and_event_types(client: Client) -> None:
    api = client.dcache.api
    assert await (await client.call("GET", f"{api}/events")).json() == {
        "channels": {
            "lifetimeWhenDisconnected": {"minimum": 1, "maximum": 86400, "default": 300},
            "maximumPerUser": 128,
        }
    }
    assert await (await client.call("GET", f"{api}/events/eventTypes")).json() == ["inotify", "metronome"]
    assert (await client.call("GET", f"{api}/events/eventTypes/SYSTEM")).status == 404
    for kind, part in itertools.product(["inotify", "metronome"], ["", "/selector", "/event"]):
        assert (await client.call("GET", f"{api}/events/eventTypes/{kind}{part}")).status == 200


async def test_channels_are_found_by_client_id_and_bound_to_the_uid(client: Client) -> None:
    api = client.dcache.api
    named, unnamed = await client.channel({"client-id": "x" * 300}), await client.channel()
    assert len(named.rpartition("/")[2]) == 22

    async def listed(query: str = "", **options: Any) -> Any:
        return await (await client.call("GET", f"{api}/events/channels{query}", **options)).json()

    assert await listed() == [named, unnamed]
    assert await listed("?client-id=" + "x" * 256) == [named]
    assert await listed("?client-id=") == [unnamed]
    assert await listed(headers=BOB) == []
    assert (await client.call("GET", named, headers={**BOB, "Accept": "application/json"})).status == 403
    assert (await client.call("POST", f"{api}/events/channels", json={"a": 1})).status == 400
    assert (await client.call("POST", f"{api}/events/channels", data=b"x")).status == 415


async def test_accept_decides_between_metadata_and_stream(client: Client) -> None:
    channel = await client.channel()
    json_reply = await client.call("GET", channel, headers={"Accept": "application/json"})
    assert await json_reply.json() == {"timeout": 300}
    assert (await client.call("GET", channel, headers={"Accept": "image/png"})).status == 406
    client.dcache.switches.ambiguous_is_stream = True
    response = await client.session.get(channel, headers={**ALICE, "Accept": "*/*"})
    assert response.content_type == "text/event-stream"
    response.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [({"timeout": 86400}, 204), ({"timeout": 86401}, 400), ({"timeout": 0}, 400), ({}, 400), (None, 500)],
)
async def test_patch_of_the_timeout(client: Client, body: object, status: int) -> None:
    channel = await client.channel()
    options: dict[str, Any] = {} if body is None else {"json": body}
    headers = {"Content-Type": "application/json"}
    assert (await client.call("PATCH", channel, headers=headers, **options)).status == status


async def test_deleted_channel_ends_its_stream_and_is_404(client: Client) -> None:
    channel, stream = await client.watching("/d")
    assert (await client.call("DELETE", channel)).status == 204
    assert [await stream.system() for _ in range(2)] == ["NEW_SUBSCRIPTION", "SUBSCRIPTION_CLOSED"]
    with pytest.raises(EOFError):
        await stream.next()
    response = await client.call("GET", channel, headers=STREAM)
    assert (response.status, response.content_type) == (404, "text/event-stream")
    assert json.loads(await response.text()) == {
        "status": "404",
        "title": "Not Found",
        "detail": "No such channel",
    }


async def test_both_error_formats(client: Client) -> None:
    client.dcache.switches.legacy_errors = True
    response = await client.call("GET", f"{client.dcache.api}/events/channels/nothing")
    assert await response.json() == {"errors": [{"message": "No such channel", "status": "404"}]}


async def test_quota_is_a_json_429_and_the_limiter_a_plain_one(client: Client) -> None:
    client.dcache.switches.quota = 1
    await client.channel()
    quota = await client.call("POST", f"{client.dcache.api}/events/channels", json={})
    assert (quota.status, await detail(quota)) == (429, "Too Many Requests")
    client.dcache.switches.limit_rate = 1.0
    first, second = [await client.call("GET", f"{client.dcache.api}/events") for _ in range(2)]
    assert (first.status, second.status, second.content_type) == (200, 429, "text/plain")
    assert second.headers["Retry-After"] == "1"


async def test_three_401s_block_the_address(client: Client) -> None:
    client.dcache.switches.limit_errors = 3
    client.dcache.switches.limit_block = 3600
    client.dcache.switches.limit_retry_after = False
    client.headers = {}
    statuses = [(await client.call("GET", f"{client.dcache.api}/events/channels")).status for _ in range(4)]
    assert statuses == [401, 401, 401, 429]


async def test_channels_expire_while_nobody_is_connected(client: Client) -> None:
    channel = await client.channel()
    assert client.dcache.expire_channels() == 1
    assert (await client.call("GET", channel, headers={"Accept": "application/json"})).status == 404
    channel, stream = await client.watching("/d")
    assert client.dcache.expire_channels() == 0
    stream.close()
    assert client.dcache.expire_channels() == 0, "a quiet dead channel is not noticed"
    while client.dcache.streams():
        await client.dcache.upload("/d/f")  # a write notices
    assert client.dcache.expire_channels() == 1


async def test_expiry_can_be_made_fast() -> None:
    async with serving(FakeDcache(switches=Switches(expiry_scale=1e-5))) as client:
        channel = await client.channel()
        async with asyncio.timeout(10):
            while (await client.call("GET", channel, headers={"Accept": "application/json"})).status != 404:
                pass


# Resuming


async def resumed(client: Client, last: object, count: int) -> list[Event]:
    channel, stream = await client.watching("/d", "IN_CREATE")
    for number in range(3):
        await client.dcache.upload(f"/d/{number}")
        await stream.numbered()
    stream.close()
    again = await client.connect(channel, last)
    await client.dcache.upload("/d/live")
    return [await again.next() for _ in range(count)]


async def test_without_a_last_id_the_missed_are_skipped_silently(client: Client) -> None:
    assert [e.id for e in await resumed(client, None, 1)] == [3]


async def test_a_known_last_id_replays_what_came_later(client: Client) -> None:
    assert [e.id for e in await resumed(client, 0, 3)] == [1, 2, 3]


@pytest.mark.parametrize("last", [-1, 99])
async def test_an_unknown_last_id_loses_the_whole_buffer(client: Client, last: int) -> None:
    loss, live = await resumed(client, last, 2)
    assert loss.data == {"type": "EVENT_LOSS"}
    assert live.id == 3


async def test_a_last_id_that_is_no_int_is_ignored(client: Client) -> None:
    assert [e.id for e in await resumed(client, "x1", 1)] == [3]


async def test_resume_is_repeatable_and_older_ids_destroy(client: Client) -> None:
    channel, stream = await client.watching("/d", "IN_CREATE")
    for number in range(4):
        await client.dcache.upload(f"/d/{number}")
    await stream.numbered()
    for _ in range(2):
        again = await client.connect(channel, 1)
        assert [(await again.numbered()).id for _ in range(2)] == [2, 3]
    older = await client.connect(channel, 0)
    assert await older.system() == "EVENT_LOSS"


async def test_the_ring_buffer_is_bounded_and_needs_its_anchor() -> None:
    async with serving(FakeDcache(switches=Switches(backlog=3))) as client:
        channel, stream = await client.watching("/d", "IN_CREATE")
        for number in range(5):
            await client.dcache.upload(f"/d/{number}")
        assert [(await stream.numbered()).id for _ in range(5)] == list(range(5))
        assert [(await (await client.connect(channel, 2)).numbered()).id] == [3]
        assert await (await client.connect(channel, 1)).system() == "EVENT_LOSS"


async def test_a_second_client_throws_out_the_first(client: Client) -> None:
    channel, first = await client.watching("/d", "IN_CREATE")
    second = await client.connect(channel)
    assert [await first.system() for _ in range(2)] == ["NEW_SUBSCRIPTION", "COMPETING_CLIENT"]
    with pytest.raises(EOFError):
        await first.next()
    await client.dcache.upload("/d/f")
    assert (await second.numbered()).told == ("f", "IN_CREATE")


async def test_restart_says_shutdown_and_loses_channels_but_not_files(client: Client) -> None:
    channel, stream = await client.watching("/d", "IN_DELETE")
    await client.dcache.upload("/d/f", b"kept")
    client.dcache.switches.shutdown_grace = 0.001
    await client.dcache.restart()
    assert [await stream.system() for _ in range(3)] == [
        "NEW_SUBSCRIPTION",
        "SHUTDOWN",
        "SUBSCRIPTION_CLOSED",
    ]
    assert (await client.call("GET", channel, headers={"Accept": "application/json"})).status == 404
    assert await (await client.dav("GET", "/d/f")).read() == b"kept"


async def test_stop_and_start_keep_port_and_files(client: Client) -> None:
    await client.dcache.upload("/d/f", b"kept")
    url = client.dcache.url
    await client.dcache.stop(crash=True)
    with pytest.raises(aiohttp.ClientError):
        await client.dav("GET", "/d/f")
    await client.dcache.start()
    assert client.dcache.url == url
    assert await (await client.dav("GET", "/d/f")).read() == b"kept"


async def test_a_restart_of_the_frontend_spares_an_upload_through_the_door(client: Client) -> None:
    _, stream = await client.watching("/d", "IN_MODIFY")

    async def body() -> AsyncIterator[bytes]:
        yield b"1"
        await stream.numbered()
        await client.dcache.restart(crash=True)
        yield b"2"

    assert (await client.dav("PUT", "/d/f", data=body())).status == 201
    assert client.dcache.files() == {"/d/f": b"12"}


async def test_a_stop_breaks_an_upload_off(client: Client) -> None:
    _, stream = await client.watching("/d", "IN_MODIFY")

    async def body() -> AsyncIterator[bytes]:
        yield b"1"
        await stream.numbered()
        await client.dcache.stop()
        yield b"2"

    with pytest.raises(aiohttp.ClientError):
        await client.dav("PUT", "/d/f", data=body())
    assert client.dcache.files() == {}
