"""The faulty TCP proxy that tests put before servers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.fakes.proxy import FaultyProxy


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(100):
            writer.write(piece)
            await writer.drain()
    await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[FaultyProxy]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with server, FaultyProxy(server.sockets[0].getsockname()[1]) as made:
        yield made


async def _connected(proxy: FaultyProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"ping"
    return reader, writer


async def test_it_carries_both_ways_and_ends_when_either_side_does(proxy: FaultyProxy) -> None:
    reader, writer = await _connected(proxy)
    writer.write_eof()
    assert await reader.read() == b""
    await _close(writer)
    assert proxy.connections == 1


async def test_a_cut_is_a_reset_and_new_connections_are_taken(proxy: FaultyProxy) -> None:
    reader, writer = await _connected(proxy)
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    await _close(writer)
    (_, again) = await _connected(proxy)
    await _close(again)


async def test_it_may_be_cut_again_before_it_has_noticed_what_the_first_cut_did(proxy: FaultyProxy) -> None:
    reader, writer = await _connected(proxy)
    with proxy.frozen():
        writer.write(b"held")
        await writer.drain()
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        proxy.cut()
    proxy.cut()
    await _close(writer)
    (_, again) = await _connected(proxy)
    await _close(again)


async def test_while_it_refuses_nobody_listens(proxy: FaultyProxy) -> None:
    reader, writer = await _connected(proxy)
    async with proxy.refusing():
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
    await _close(writer)
    (_, again) = await _connected(proxy)
    await _close(again)


async def test_while_it_is_frozen_bytes_wait_and_none_is_lost(proxy: FaultyProxy) -> None:
    reader, writer = await _connected(proxy)
    with proxy.frozen():
        writer.write(b"late")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.1)
    assert await reader.readexactly(4) == b"late"
    await _close(writer)


async def test_a_server_that_is_away_looks_away(proxy: FaultyProxy) -> None:
    proxy.target = 1
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await reader.read() == b""
    await _close(writer)


async def test_an_answer_is_lost_after_the_request_was_done(proxy: FaultyProxy) -> None:
    reader, writer = await _connected(proxy)
    with proxy.losing_answers():
        writer.write(b"create")
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
    await _close(writer)
    (_, again) = await _connected(proxy)
    await _close(again)


async def test_an_answer_is_cut_short_or_is_other_bytes(proxy: FaultyProxy) -> None:
    reader, writer = await _connected(proxy)
    with proxy.truncating():
        writer.write(b"whole")
        assert await reader.read() == b"wh"
    await _close(writer)
    reader, writer = await _connected(proxy)
    with proxy.garbling():
        writer.write(b"one two three four")
        assert (await reader.read(100))[:18] != b"one two three four"
    await _close(writer)


async def test_it_answers_itself_and_the_server_sees_nothing(proxy: FaultyProxy) -> None:
    reader, writer = await _connected(proxy)
    with proxy.answering(b"HTTP/1.1 503 No\r\n\r\n"):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() == b"HTTP/1.1 503 No\r\n\r\n"
    await _close(writer)


async def test_a_half_open_connection_stays_dead_and_a_new_one_lives(proxy: FaultyProxy) -> None:
    reader, writer = await _connected(proxy)
    with proxy.half_opening():
        writer.write(b"gone")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.1)
    writer.write(b"gone too")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(1), 0.1)
    (_, again) = await _connected(proxy)
    await _close(again)
    await _close(writer)


async def test_slow_is_late_and_whole(proxy: FaultyProxy) -> None:
    reader, writer = await _connected(proxy)
    with proxy.slow(0.01):
        writer.write(b"slow")
        assert await reader.readexactly(4) == b"slow"
    await _close(writer)
