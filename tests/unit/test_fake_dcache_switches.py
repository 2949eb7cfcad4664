"""Each switch of the fake dCache loses, delays or breaks what the fact sheet says it may."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tests.fakes.dcache import FakeDcache, Switches
from tests.fakes.dcache.by_hand import ALICE, Client, serving
from tests.fakes.dcache.switches import add_flags, from_flags


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving(FakeDcache()) as running:
        yield running


async def test_an_event_may_precede_its_201(client: Client) -> None:
    await client.dcache.mkdir("/d")
    channel = await client.channel()
    stream = await client.connect(channel)
    client.dcache.switches.hold_201 = 60
    async with asyncio.TaskGroup() as tasks:
        pending = tasks.create_task(client.subscribe(channel, "/d", "IN_CREATE"))
        await stream.until(lambda e: e.kind == "SYSTEM")
        assert not pending.done()
        await client.dcache.upload("/d/f")
        assert (await stream.numbered()).mask == "IN_CREATE"
    assert pending.result().status == 201


async def test_arming_delay_gives_create_without_close_write(client: Client) -> None:
    client.dcache.switches.arming_delay_pools = 3600
    _, stream = await client.watching("/d", "IN_CREATE", "IN_CLOSE_WRITE")
    await client.dcache.upload("/d/f")
    await client.dcache.upload("/d/g")
    assert [(await stream.numbered()).told for _ in range(2)] == [("f", "IN_CREATE"), ("g", "IN_CREATE")]


async def test_sources_are_not_ordered(client: Client) -> None:
    _, stream = await client.watching("/d", "IN_CREATE", "IN_CLOSE_WRITE")
    client.dcache.switches.delay_pnfsmanager = 0.01
    await client.dcache.upload("/d/f")
    assert [(await stream.numbered()).mask for _ in range(2)] == ["IN_CLOSE_WRITE", "IN_CREATE"]


async def test_changed_watches_lose_unsent_events_silently(client: Client) -> None:
    channel, stream = await client.watching("/d", "IN_CREATE", "IN_CLOSE_WRITE")
    client.dcache.switches.delay_pools = 3600
    client.dcache.switches.drop_queue_on_change = True
    await client.dcache.upload("/d/f")
    await client.dcache.mkdir("/e")
    await client.subscribe(channel, "/e", "IN_CREATE")
    client.dcache.switches.delay_pools = 0
    await client.dcache.upload("/d/g")
    told = [(await stream.numbered()).told for _ in range(3)]
    assert told == [("f", "IN_CREATE"), ("g", "IN_CREATE"), ("g", "IN_CLOSE_WRITE")]
    assert client.dcache.drop_unsent_events() == 0


async def test_a_full_subscription_queue_overflows_after_the_survivors(client: Client) -> None:
    _, stream = await client.watching("/d", "IN_CREATE")
    client.dcache.switches.subscription_queue = 2
    for name in "abc":
        client.dcache.storage.put(f"/d/{name}", b"")
    seen = [await stream.numbered() for _ in range(3)]
    assert [(e.id, e.mask) for e in seen] == [(0, "IN_CREATE"), (1, "IN_CREATE"), (2, "IN_Q_OVERFLOW")]


async def test_a_full_dispatch_queue_overflows_for_everybody(client: Client) -> None:
    channel, stream = await client.watching("/d", "IN_CREATE")
    await client.dcache.mkdir("/e")
    await client.subscribe(channel, "/e", "IN_CREATE")
    client.dcache.switches.delay_pnfsmanager = 0.01
    client.dcache.switches.dispatch_queue = 1
    await client.dcache.upload("/d/a")
    await client.dcache.upload("/d/b")
    seen = [await stream.numbered() for _ in range(3)]
    assert [e.mask for e in seen] == ["IN_CREATE", "IN_Q_OVERFLOW", "IN_Q_OVERFLOW"]
    assert seen[1].data["subscription"] != seen[2].data["subscription"]


async def test_a_slow_reader_makes_its_queue_overflow() -> None:
    async with FakeDcache(switches=Switches(socket_buffer=4096, subscription_queue=10)) as dcache:
        reader, writer = await asyncio.open_connection("127.0.0.1", dcache.port, limit=4096)
        async with aiohttp.ClientSession() as session:
            client = Client(dcache, session)
            await dcache.mkdir("/d")
            channel = await client.channel()
            path = URL(channel).path
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
            writer.write(f"{head}Authorization: {ALICE['Authorization']}\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            await client.subscribe(channel, "/d", "IN_CREATE")
            selection = next(iter(dcache.inotify._by_key.values()))
            for number in itertools.count():
                await dcache.upload(f"/d/{number:0200}")
                if selection._overflow:
                    break
            async with asyncio.timeout(10):
                while b"IN_Q_OVERFLOW" not in await reader.readline():
                    pass
        writer.close()


async def test_a_half_open_stream_is_silent_and_not_closed(client: Client) -> None:
    channel, stream = await client.watching("/d", "IN_CREATE")
    await stream.next()
    assert client.dcache.freeze_streams() == 1
    await client.dcache.upload("/d/a")
    again = await client.connect(channel)
    await client.dcache.upload("/d/b")
    assert (await again.numbered()).id == 1
    assert client.dcache.streams() == 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await stream.next()
    stream.close()


async def test_half_open_after_some_events(client: Client) -> None:
    client.dcache.switches.half_open_after = 1
    channel, stream = await client.watching("/d", "IN_CREATE")
    await client.dcache.upload("/d/a")
    await client.dcache.upload("/d/b")
    assert (await stream.numbered()).id == 0
    client.dcache.switches.half_open_after = 0
    assert (await (await client.connect(channel, 0)).numbered()).id == 1


async def test_dropped_streams_can_be_resumed(client: Client) -> None:
    client.dcache.switches.drop_after = 1
    channel, stream = await client.watching("/d", "IN_CREATE")
    await client.dcache.upload("/d/a")
    await client.dcache.upload("/d/b")
    assert (await stream.numbered()).id == 0
    with pytest.raises(aiohttp.ClientPayloadError):
        await stream.next()
    client.dcache.switches.drop_after = 0
    again = await client.connect(channel, 0)
    assert (await again.numbered()).id == 1
    assert client.dcache.drop_streams() == 1
    with pytest.raises((aiohttp.ClientError, OSError)):
        await again.next()


async def test_sources_learn_of_a_watch_in_their_own_time(client: Client) -> None:
    client.dcache.switches.arming_delay = 3600
    _, stream = await client.watching("/d", "IN_CREATE", "IN_CLOSE_WRITE")
    await client.dcache.upload("/d/f")
    assert (await stream.numbered()).told == ("f", "IN_CLOSE_WRITE")


async def test_nfs_doors_are_a_source_of_their_own(client: Client) -> None:
    _, stream = await client.watching("/d", "IN_CREATE")
    client.dcache.switches.delay_nfs = 0.01
    await client.dcache.touch_nfs("/d/nfs")
    await client.dcache.upload("/d/f")
    assert [(await stream.numbered()).told[0] for _ in range(2)] == ["f", "nfs"]


async def test_subscriptions_send_in_their_own_time(client: Client) -> None:
    channel, stream = await client.watching("/a", "IN_MOVE")
    await client.dcache.mkdir("/b")
    await client.subscribe(channel, "/b", "IN_MOVE")
    client.dcache.switches.sender_jitter = 0.01
    orders: set[tuple[str, ...]] = set()
    while len(orders) < 2:
        await client.dcache.upload("/a/f")
        await client.dcache.move("/a/f", "/b/f")
        orders.add(tuple([(await stream.numbered()).mask for _ in range(2)]))
        await client.dcache.delete("/b/f")
    assert orders == {("IN_MOVED_FROM", "IN_MOVED_TO"), ("IN_MOVED_TO", "IN_MOVED_FROM")}


def test_every_switch_is_a_flag_with_the_same_default() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    assert from_flags(parser.parse_args([])) == Switches()
    chosen = parser.parse_args(
        ["--legacy-errors", "--no-standard-base64", "--backlog", "5", "--hold-201", "0.5"]
    )
    assert from_flags(chosen) == Switches(legacy_errors=True, standard_base64=False, backlog=5, hold_201=0.5)


async def test_it_runs_by_itself() -> None:
    command = [
        "-m",
        "tests.fakes.dcache",
        "--port",
        "0",
        "--user",
        "alice:secret:7",
        "--mkdir",
        "/a/b",
        "--quota",
        "3",
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        line = (await process.stdout.readline()).decode()
    api = line.split()[3]
    async with aiohttp.ClientSession(headers=ALICE) as session:
        async with session.get(f"{api}/events") as response:
            assert (await response.json())["channels"]["maximumPerUser"] == 3
        async with session.get(f"{api}/namespace/a?children=true") as response:
            assert [child["fileName"] for child in (await response.json())["children"]] == ["b"]
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


async def test_an_event_lost_on_its_way_leaves_a_gap(client: Client) -> None:
    client.dcache.switches.lose_every = 2
    _, stream = await client.watching("/d", "IN_CREATE")
    for name in "abc":
        await client.dcache.upload(f"/d/{name}")
    assert [(await stream.numbered()).id for _ in range(2)] == [0, 2]


async def test_some_logins_are_refused(client: Client) -> None:
    client.dcache.switches.refuse_logins = 2
    statuses = [(await client.call("GET", f"{client.dcache.api}/events")).status for _ in range(3)]
    assert statuses == [401, 401, 200]


async def test_a_listing_may_leave_entries_out_and_a_stat_does_not(client: Client) -> None:
    await client.dcache.upload("/d/f")
    client.dcache.switches.omit_entries = 1.0
    assert (await client.stat("/d", "?children=true"))["children"] == []
    assert (await client.stat("/d/f"))["fileType"] == "REGULAR"


async def test_another_client_may_take_the_channel_and_go(client: Client) -> None:
    channel, stream = await client.watching("/d", "IN_CREATE")
    await client.dcache.upload("/d/a")
    assert (await stream.numbered()).id == 0
    await client.dcache.registrar.all()[0].steal("-1")
    assert await stream.system() == "COMPETING_CLIENT"
    again = await client.connect(channel, 0)
    assert await again.system() == "EVENT_LOSS"


@pytest.mark.dcache(quota=0, legacy_errors=True, chaos=1, seed=5)
async def test_a_marker_sets_what_the_fixture_gives(fake_dcache: FakeDcache) -> None:
    assert (fake_dcache.switches.quota, fake_dcache.switches.legacy_errors) == (0, True)
    assert fake_dcache.chaos is not None
    fake_dcache.chaos.busy = 0.0
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{fake_dcache.url}/fake/requests") as response,
    ):
        assert await response.json() == {"counts": {}, "listed": {}}


async def test_a_crowd_is_listed_in_pages_and_costs_nothing(client: Client) -> None:
    await client.dcache.upload("/d/f")
    await client.dcache.crowd("/d", 1000)
    names: list[str] = []
    for offset in range(0, 1200, 300):
        page = (await client.stat("/d", f"?children=true&limit=300&offset={offset}"))["children"]
        names += [child["fileName"] for child in page]
    assert len(names) == len(set(names)) == 1001
    assert (await client.stat("/d/crowd-999"))["fileType"] == "REGULAR"
