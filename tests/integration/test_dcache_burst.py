"""Thousands of uploads at once: all of them events, few calls, and nothing held up by what is unfinished."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from dcnios_daemon.sources import runner
from dcnios_daemon.sources.dcache import looker
from tests.contract.dcache_rig import QUICK
from tests.integration.dcache_site import Site, relists


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.2)


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    made = Site(watch={"flat": {"path": "/data"}})
    await made.open()
    yield made
    await made.close()


async def put(site: Site, count: int, *, directory: str = "/data") -> list[str]:
    """Uploads as fast as they come, at one go where the queue is to overflow."""
    paths = [f"{directory}/f{number}" for number in range(count)]
    for number, path in enumerate(paths):
        site.dcache.storage.put(path, b"")
        if number % 100 == 99:
            await asyncio.sleep(0)
    return paths


@pytest.mark.parametrize("overflows", [False, True])
async def test_ten_thousand_uploads_take_few_calls(site: Site, *, overflows: bool) -> None:
    site.dcache.switches.subscription_queue = 1000 if overflows else 100_000
    async with site.bench.running():
        await site.listed()
        before = relists("overflow")
        paths = [f"/data/f{number}" for number in range(10_000)]
        for number, path in enumerate(paths):
            site.dcache.storage.put(path, b"")
            if not overflows and number % 100 == 99:
                await asyncio.sleep(0)
        await site.expect(*paths)
        assert (relists("overflow") > before) is overflows
        assert site.count("stat") < 300
        assert site.count("listing") < 100


async def test_what_a_listing_shows_unfinished_is_looked_at_again(site: Site) -> None:
    site.dcache.switches.stale_stats = 2
    async with site.bench.running():
        await site.listed()
        halves = [site.dcache.storage.begin(f"/data/half{number}") for number in range(50)]
        paths = await put(site, 200)
        for half in halves[:25]:
            half.abort()
        await site.expect(*paths)
        for half in halves[25:]:
            half.finish()
        await site.expect(*paths, *(f"/data/half{number}" for number in range(25, 50)))
        assert site.count("stat") < 50


async def test_a_directory_that_is_much_larger_is_not_listed_for_a_few(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looker, "_WORTH", 2)
    site.more["on"] = ["created", "removed"]
    old = [f"/data/old{number}" for number in range(500)]
    for path in old:
        site.dcache.storage.put(path, b"")
    async with site.bench.running():
        await site.bench.journal.until(lambda: len(site.bench.journal.events) == 500)
        await site.listed()
        site.dcache.requests.clear()
        for round_ in range(5):
            for number in range(20):
                site.dcache.storage.put(f"/data/new{round_}-{number}", b"")
            await site.expect(*old, *(f"/data/new{r}-{n}" for r in range(round_ + 1) for n in range(20)))
        assert site.count("listing") == 1  # of forty entries, which said that there are more
        assert 60 <= site.count("stat") <= 100


async def test_a_directory_that_went_away_is_asked_for_once_not_for_each_file(site: Site) -> None:
    site.more = {}
    site.timing = msgspec.structs.replace(QUICK, grace=0.2, patience=0.5)
    async with site.bench.running():
        await site.listed()
        await site.dcache.mkdir("/data/d")
        await site.bench.journal.until(lambda: site.dcache.requests.listed["/data/d"] > 0)
        await put(site, 200, directory="/data/d")
        await site.dcache.move("/data/d", "/gone")
        await site.dcache.upload("/data/f")
        await site.expect("/data/f")
        assert site.count("stat") < 20
