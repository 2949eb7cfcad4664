"""The event stream of dCache when it is not read, comes too early, or tells of the end of a watch."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from dcnios_daemon.sources import runner
from dcnios_daemon.sources.dcache.client import frontend
from dcnios_daemon.sources.status import SourceState
from tests.integration.dcache_site import Site, relists, until

BUFFER = 16 << 10


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(frontend, "_STREAM_BUFFER", BUFFER)


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    """Whose network holds little, so that whoever does not read soon blocks the server."""
    made = Site()
    made.dcache.switches.socket_buffer = BUFFER
    await made.open()
    yield made
    await made.close()


@pytest.mark.parametrize("breaks", [False, True])
async def test_a_gate_shut_for_longer_than_the_backlog_loses_nothing(site: Site, *, breaks: bool) -> None:
    site.more["watch"] = {"flat": {"path": "/data"}}
    site.dcache.switches.backlog = 1_000
    async with site.bench.running() as running:
        await site.listed()
        lost = relists("overflow") + relists("loss")
        site.bench.gate.set("full")
        await until(lambda: running.status.state is SourceState.PAUSED)
        if breaks:
            site.dcache.drop_streams()
        paths = [f"/data/f{number}" for number in range(20_000)]
        for number, path in enumerate(paths):
            site.dcache.storage.put(path, b"")
            if number % 200 == 199:
                await asyncio.sleep(0)
        ledger, response = site.source._ledger, site.source._response
        assert ledger._open + len(ledger._ready) < 5_000  # what was read before, or while connecting
        assert response is not None
        assert response.content._size < 20 * BUFFER
        assert site.created() == []
        site.bench.gate.set(None)
        await site.expect(*paths)
        await until(lambda: relists("overflow") + relists("loss") > lost)


async def test_events_of_directories_that_are_not_known_yet_do_not_block_the_calls_that_tell(
    site: Site,
) -> None:
    """dCache holds the channel's lock while it writes: who waits with reading until a subscription is
    answered waits for ever."""
    site.more["on"] = ["created", "removed"]
    directories = [f"/data/d{number}" for number in range(40)]
    for directory in directories:
        await site.dcache.upload(f"{directory}/doomed")
    async with site.bench.running():
        await site.listed()
    paths = [f"{directory}/f{number}" for number in range(150) for directory in directories]
    for path in paths:
        await site.dcache.upload(path)
    for directory in directories:
        await site.dcache.delete(f"{directory}/doomed")
    async with site.bench.running():
        await site.expect(*(f"{directory}/doomed" for directory in directories), *paths)
        await site.bench.journal.until(lambda: len(site.bench.journal.events) == len(paths) + 80)
    assert site.count("stream") == 2


async def test_more_events_than_can_be_parked_are_listed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcnios_daemon.sources.dcache.reader._MOST_PARKED", 10)
    await site.dcache.mkdir("/data/d/e")
    async with site.bench.running():
        await site.listed()
    paths = [f"/data/d/e/f{number}" for number in range(300)]
    for path in paths:
        await site.dcache.upload(path)
    async with site.bench.running():
        await site.expect(*paths)


async def test_a_root_that_was_moved_away_and_back_is_watched_again_for_good(site: Site) -> None:
    """What told of its end is told again to each new connection, until it is stored as dealt with."""
    site.more["watch"] = {"flat": {"path": "/data"}}
    async with site.bench.running() as running:
        await site.listed()
        await site.dcache.move("/data", "/elsewhere")
        await until(lambda: running.status.state is SourceState.FAILED)
        assert "watch flat: /data" in running.status.error
        await site.dcache.upload("/elsewhere/meanwhile")
        await site.dcache.move("/elsewhere", "/data")
        await site.expect("/data/meanwhile")
        await until(lambda: running.status.state is SourceState.CONNECTED)
        await site.listed()
        streams = site.count("stream")
        await site.dcache.upload("/data/f")
        await site.expect("/data/meanwhile", "/data/f")
        assert site.bench.journal.events[-1].attributes["via"] == "stream"
        assert site.count("stream") == streams


async def test_a_root_that_was_made_anew_is_watched(site: Site) -> None:
    async with site.bench.running():
        await site.listed()
        await site.dcache.delete("/data")
        await site.dcache.upload("/data/there/f")
        await site.expect("/data/there/f")
        await site.listed()
        await site.dcache.upload("/data/g")
        await site.expect("/data/there/f", "/data/g")
