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
