"""Uploads whose end is told under a name that is gone, or not at all; and what will never be complete."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from dcnios_daemon.sources import runner
from tests.contract.dcache_rig import QUICK
from tests.integration.dcache_site import Site, until


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.2)


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    """Watched flat and without periodic listings: nothing else would find what is missed."""
    made = Site(watch={"flat": {"path": "/data"}})
    made.timing = msgspec.structs.replace(QUICK, patience=0.2)
    await made.open()
    await made.dcache.mkdir("/out")
    yield made
    await made.close()


def patient(site: Site, **timing: Any) -> None:
    """Seconds of the test's choice."""
    site.timing = msgspec.structs.replace(site.timing, **timing)


async def kept(site: Site) -> None:
    """Wait until an unfinished file has been given up, which the journal knows, and holds nothing up."""
    await site.dcache.upload("/data/other")
    await site.expect("/data/other")
    channel = site.dcache.registrar.all()[0]
    last = next(number for number, event in reversed(channel._ring) if event.startswith(b"event: inotify"))
    await site.bench.journal.until(lambda: site.stored.get("id", 0) >= last and "listed" not in site.stored)


async def test_an_upload_renamed_under_way_is_found_at_once_when_its_end_is_told(site: Site) -> None:
    async with site.bench.running():
        await site.listed()
        upload = site.dcache.storage.begin("/data/f.part")
        await site.dcache.move("/data/f.part", "/data/f")
        await kept(site)
        upload.finish()
        await site.expect("/data/other", "/data/f")
        await site.listed()
    assert site.count("listing") == 1


async def test_one_that_came_from_elsewhere_under_way_is_found_though_nothing_is_told(site: Site) -> None:
    patient(site, unfinished=0.1, longest_unfinished=0.2)
    async with site.bench.running():
        await site.listed()
        upload = site.dcache.storage.begin("/out/f")
        await site.dcache.move("/out/f", "/data/f")
        await kept(site)
        upload.finish()
        await site.expect("/data/other", "/data/f")
        await site.listed()
    assert site.count("listing") == 1


async def test_one_that_ends_while_the_daemon_is_down_is_found_by_the_listing_that_is_owed(
    site: Site,
) -> None:
    async with site.bench.running():
        await site.listed()
        upload = site.dcache.storage.begin("/data/f.part")
        await site.dcache.move("/data/f.part", "/data/f")
        await kept(site)
    upload.finish()
    async with site.bench.running():
        await site.expect("/data/other", "/data/f")
        await site.listed()
    assert site.count("listing") == 2


async def test_what_is_never_complete_is_forgotten_and_a_restart_lists_no_more(site: Site) -> None:
    site.dcache.switches.abort_leaves_entry = True
    patient(site, unfinished=0.1, given_up=2.0)
    async with site.bench.running():
        await site.listed()
        site.dcache.storage.begin("/data/left").abort()
        await kept(site)
        await site.listed()
        asked = site.count("stat")
    async with site.bench.running():
        await site.dcache.upload("/data/new")
        await site.expect("/data/other", "/data/new")
    assert site.count("listing") == 1
    assert site.count("stat") <= asked + 2


async def test_a_file_deleted_while_it_is_unfinished_is_forgotten(site: Site) -> None:
    patient(site, unfinished=0.1)
    async with site.bench.running():
        await site.listed()
        site.dcache.storage.touch_nfs("/data/empty.part")
        await site.dcache.move("/data/empty.part", "/data/empty")
        await kept(site)
        site.dcache.storage.delete(site.dcache.namespace.find("/data/empty"))
        await site.listed()
        await until(lambda: not site.source._ledger.unfinished)
