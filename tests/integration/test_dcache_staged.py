"""``on: [staged]``: files that come back from tape, and nothing else that says IN_ATTRIB."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.sources import runner
from dcnios_daemon.sources.dcache import source
from dcnios_daemon.sources.dcache.tape import Tape
from tests.fakes.dcache.notifier import Source
from tests.integration.dcache_site import Site, relists, until


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.2)


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    made = Site(on=["created", "staged"])
    await made.open()
    yield made
    await made.close()


def staged(site: Site) -> list[Event]:
    """The stagings in the journal."""
    return [event for event in site.bench.journal.events if event.action is Action.STAGED]


async def told(site: Site) -> None:
    """Wait until all that has happened so far has been looked at."""
    channel = site.dcache.registrar.all()[0]
    last = channel._next_id
    await site.bench.journal.until(lambda: (site.stored.get("id") or 0) >= last)


async def test_a_file_from_tape_is_staged_once(site: Site) -> None:
    inode = await site.dcache.upload("/data/f", b"12345")
    await site.dcache.flush("/data/f")
    async with site.bench.running():
        await site.listed()
        await site.dcache.stage("/data/f")
        await site.bench.journal.until(lambda: bool(staged(site)))
        inode.locations = ("pool_a", "pool_b")
        site.dcache.storage.tell(Source.PNFSMANAGER, inode, "IN_ATTRIB")
        await told(site)
    (event,) = staged(site)
    assert (event.subject, event.size) == ("/data/f", 5)
    assert event.attributes == {
        "pnfsid": inode.pnfsid,
        "size": "5",
        "locality": "ONLINE_AND_NEARLINE",
        "via": "stream",
        "watch": "data",
    }
    assert b"IN_ATTRIB" in event.data
    assert site.created() == ["/data/f"]


async def test_uploads_flushes_and_changes_of_rights_are_no_stagings(site: Site) -> None:
    async with site.bench.running():
        await site.listed()
        inode = await site.dcache.upload("/data/f")
        await site.dcache.flush("/data/f", keep_replica=True)
        site.dcache.storage.tell(Source.PNFSMANAGER, inode, "IN_ATTRIB")  # chmod
        await site.dcache.upload_srm("/data/srm")
        await site.dcache.touch_nfs("/data/touched")
        await told(site)
        assert staged(site) == []
        for _ in range(2):
            await site.dcache.flush("/data/f")
            await told(site)
            before = len(staged(site))
            await site.dcache.stage("/data/f")
            await site.bench.journal.until(lambda before=before: len(staged(site)) > before)  # type: ignore[misc]
        await told(site)
        assert len(staged(site)) == 2
    assert sorted(site.created()) == ["/data/f", "/data/srm"]


async def test_a_staging_that_nobody_told_of_is_found_by_the_next_listing(site: Site) -> None:
    await site.dcache.upload("/data/there/f")
    await site.dcache.flush("/data/there/f")
    async with site.bench.running():
        await site.listed()
        site.dcache.switches.delay_pnfsmanager = 10.0
        await site.dcache.stage("/data/there/f")
        site.dcache.drop_unsent_events()
        site.dcache.overflow()
        await site.bench.journal.until(lambda: bool(staged(site)))
        site.dcache.overflow()
        await site.dcache.upload("/data/last")
        await site.expect("/data/there/f", "/data/last")
    (event,) = staged(site)
    assert event.attributes["via"] == "listing"


async def test_files_on_tape_are_known_again_after_a_restart(site: Site) -> None:
    site.more |= {"watch": {"flat": {"path": "/data"}}, "on": ["staged"]}
    for name in ("f", "g"):
        await site.dcache.upload(f"/data/{name}")
        await site.dcache.flush(f"/data/{name}")
    async with site.bench.running():
        await site.listed()
    await site.dcache.stage("/data/g")  # while nobody remembered it
    passes = relists("start")
    async with site.bench.running():
        await until(lambda: relists("start") > passes)
        await site.dcache.stage("/data/f")
        await site.bench.journal.until(lambda: bool(staged(site)))
        await told(site)
    assert [event.subject for event in site.bench.journal.events] == ["/data/f"]


async def test_attributes_are_not_asked_for_where_they_are_not_wanted(site: Site) -> None:
    site.more["on"] = ["created", "moved", "removed"]
    async with site.bench.running():
        await site.listed()
        await site.dcache.upload("/data/f")
        await site.dcache.flush("/data/f")
        await site.dcache.stage("/data/f")
        await site.expect("/data/f")
    masks = [watch.selector.flags for watch in site.dcache.inotify._by_key.values()]
    assert masks
    assert not any("IN_ATTRIB" in mask for mask in masks)


async def test_more_files_on_tape_than_are_remembered_are_said(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "Tape", lambda name: Tape(name, most=3))
    for number in range(10):
        await site.dcache.upload(f"/data/f{number}")
        await site.dcache.flush(f"/data/f{number}")
    async with site.bench.running():
        await site.listed()
        for number in range(10):
            await site.dcache.stage(f"/data/f{number}")
        await site.bench.journal.until(lambda: len(staged(site)) == 3)
        await told(site)
    assert len(staged(site)) == 3
