"""The dCache source behind a proxy that ends TLS, at older and newer frontends: one story over all of them.

The proxy is a real one: the frontend behind it is spoken to by http, and hands out ``http://`` locations for
what the daemon knows as ``https://``.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dcnios_daemon.sources import runner
from tests.fakes.dcache import FakeDcache, Switches, tls
from tests.integration.dcache_site import Site


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.2)


@contextlib.asynccontextmanager
async def _ending_tls(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port of a proxy before a plain one."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        with contextlib.suppress(ConnectionError):
            inner, outer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.TaskGroup() as group:
                group.create_task(_relay(reader, outer))
                group.create_task(_relay(inner, writer))
        running.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()


@pytest.mark.parametrize("fronted", [False, True], ids=["direct", "proxy"])
@pytest.mark.parametrize("legacy_errors", [False, True], ids=["rfc7807", "legacy"])
@pytest.mark.parametrize("standard_base64", [False, True], ids=["url-safe", "standard"])
async def test_a_whole_story_at_every_kind_of_frontend(
    tmp_path: Path, *, fronted: bool, legacy_errors: bool, standard_base64: bool
) -> None:
    switches = Switches(legacy_errors=legacy_errors, standard_base64=standard_base64, metronome_scale=0.1)
    site = Site(FakeDcache(switches=switches))
    await site.open()
    async with contextlib.AsyncExitStack() as stack:
        if fronted:
            authority = await asyncio.to_thread(tls.make, tmp_path / "ca")
            context = await asyncio.to_thread(authority.server_context, "127.0.0.1")
            port = await stack.enter_async_context(_ending_tls(site.dcache.port, context))
            site.more = {"url": f"https://127.0.0.1:{port}", "ca_file": str(authority.ca_file)}
        await _story(site)
    await site.close()


async def _story(site: Site) -> None:
    """Many directories, so that ids with every letter of the alphabet occur."""
    paths = [f"/data/d{number}/f" for number in range(24)]
    async with site.bench.running():
        await site.listed()
        for path in paths:
            await site.dcache.upload(path)
        await site.expect(*paths)
        await site.dcache.upload("/data/d0/g.part")
        await site.dcache.move("/data/d0/g.part", "/data/d0/g")
        await site.dcache.move("/data/d1", "/data/moved")
        await site.dcache.upload("/data/moved/h")
        await site.expect(*paths, "/data/d0/g", "/data/moved/h")
        await site.dcache.restart()
        await site.dcache.upload("/data/moved/i")
        await site.expect(*paths, "/data/d0/g", "/data/moved/h", "/data/moved/i")
        await site.listed()
    await site.dcache.delete("/data/d2")  # a listing meets its 404
    await site.dcache.upload("/data/d3/while-away")
    async with site.bench.running():
        await site.expect(*paths, "/data/d0/g", "/data/moved/h", "/data/moved/i", "/data/d3/while-away")
        await site.listed()
        await site.dcache.upload("/data/d3/last")
        await site.bench.journal.until(lambda: "/data/d3/last" in site.created())
        assert site.bench.journal.events[-1].attributes["via"] == "stream"
