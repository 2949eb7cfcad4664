"""How the dCache source lists: in pages, at its pace, within its number of watches, and not without rest."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
import pytest_asyncio
from aiohttp import ClientSession, web

from dcnios_daemon.sources import runner
from dcnios_daemon.sources.dcache import looker, passes
from dcnios_daemon.telemetry.metrics import REGISTRY
from tests.contract.dcache_rig import QUICK
from tests.contract.source_rig import NAME
from tests.fakes.dcache import Chaos, FakeDcache, Switches
from tests.fakes.dcache.namespace import FileType
from tests.fakes.dcache.notifier import Source
from tests.integration.dcache_site import Site, relists, until

FRONTEND_PAGE = 12_000


class Meddler(Chaos):
    """Does something before each listing is answered."""

    def __init__(self) -> None:
        super().__init__(0, rate=0)
        self.before: Callable[[str], Awaitable[None]] | None = None

    async def step(self, dcache: FakeDcache) -> None:
        """Nothing of its own."""

    async def before_request(self, dcache: FakeDcache, method: str, path: str) -> bool:
        """Listings only."""
        if self.before is not None and "children=true" in path:
            await self.before(unquote(path.partition("?")[0].removeprefix("/api/v1/namespace")))
        return True


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.2)


@pytest.fixture
def meddler() -> Meddler:
    return Meddler()


@pytest_asyncio.fixture
async def site(meddler: Meddler) -> AsyncIterator[Site]:
    made = Site(FakeDcache(switches=Switches(metronome_scale=0.1), chaos=meddler))
    await made.open()
    yield made
    await made.close()


def watches(site: Site) -> list[str]:
    """The directories that the server watches."""
    by_id = {inode.pnfsid: inode.path() for inode in site.dcache.namespace.walk()}
    return sorted(by_id.get(pnfsid, "gone") for _, pnfsid in site.dcache.inotify._by_key)


def gauge(name: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"source": NAME})


# --- large directories --------------------------------------------------------------------------------


async def test_a_directory_of_more_than_a_hundred_thousand_comes_in_pages(
    site: Site, meddler: Meddler
) -> None:
    """While entries come and go, which makes pages skip what stays."""
    count = 10 * FRONTEND_PAGE + 2_000
    for number in range(count):
        site.dcache.storage.put(f"/data/there/{number}", b"")
    calls = 0

    async def come_and_go(path: str) -> None:
        nonlocal calls
        if path == "/data/there":
            calls += 1
            for number in range(300) if calls in {2, 3} else ():
                site.dcache.storage.delete(site.dcache.namespace.find(f"/data/there/{calls * 300 + number}"))
                site.dcache.storage.put(f"/data/there/new {calls} {number}", b"")

    meddler.before = come_and_go
    async with site.bench.running():
        await site.bench.journal.until(lambda: len(site.bench.journal.events) >= count, within=60)
        await site.bench.journal.until(lambda: site.stored.get("listed") is True, within=60)
        await until(lambda: set(site.dcache.files()) <= set(site.created()))
    assert len(set(site.created())) == len(site.created())
    assert relists("new channel") >= 1
    assert site.dcache.requests.listed["/data"] == 1
    assert site.dcache.requests.listed["/data/there"] <= 11 * 5


async def test_pages_in_another_order_each_time_show_everything_in_the_end(site: Site) -> None:
    site.dcache.switches.shuffle_pages = True
    site.timing = msgspec.structs.replace(QUICK, page=1_000)
    site.more = {"reconcile": 0.3}
    paths = [f"/data/there/{number}" for number in range(3_500)]
    for path in paths:
        site.dcache.storage.put(path, b"")
    async with site.bench.running():
        await site.expect(*paths)


async def test_what_was_shown_before_a_listing_broke_off_is_taken(site: Site, meddler: Meddler) -> None:
    """And it keeps the source neither from other directories nor from what the stream tells."""
    site.timing = msgspec.structs.replace(QUICK, page=10)
    is_broken = True
    for number in range(25):
        await site.dcache.upload(f"/data/broken/{number}")
    await site.dcache.upload("/data/later/f")
    asked = 0

    async def break_off(path: str) -> None:
        nonlocal asked
        asked += path == "/data/broken"
        if path == "/data/broken" and is_broken and asked % 2 == 0:
            raise web.HTTPInternalServerError(text="no")

    meddler.before = break_off
    async with site.bench.running():
        await site.bench.journal.until(lambda: len(site.created()) >= 11)
        assert "/data/later/f" in site.created()
        assert sum(path.startswith("/data/broken/") for path in site.created()) == 10
        await site.dcache.upload("/data/broken/told")
        await site.bench.journal.until(lambda: "/data/broken/told" in site.created())
        await until(lambda: relists("incomplete") > 0)
        assert not site.stored.get("listed")
        is_broken = False
        await site.expect(*site.dcache.files())
        await site.listed()
    assert site.count("stream") == 1


# --- many directories ---------------------------------------------------------------------------------


async def test_a_backlog_in_a_thousand_directories_takes_one_listing_of_each(site: Site) -> None:
    paths = [f"/data/{number}/deep/{file}" for number in range(500) for file in range(10)]
    for number in range(500):
        await site.dcache.mkdir(f"/data/{number}/deep")
    for path in paths:
        site.dcache.storage.put(path, b"")
    async with site.bench.running():
        await site.expect(*paths)
        await site.listed()
    assert set(site.dcache.requests.listed.values()) == {1}
    assert len(site.dcache.requests.listed) == 1_002
    assert site.count("stat") == 0
    assert gauge("dcnios_source_watches") == 1_002
    assert gauge("dcnios_source_unwatched_directories") == 0


async def test_all_calls_together_stay_below_what_the_frontend_allows(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looker, "_MANY", 1_000)
    site.dcache.switches.limit_rate = 60.0
    site.timing = msgspec.structs.replace(QUICK, rate=50.0, patience=30.0)
    there = [f"/data/{number}/f" for number in range(50)]
    for path in there:
        await site.dcache.upload(path)
    told = [f"/data/{number}/g" for number in range(50)]  # many of one directory would be listed
    async with site.bench.running():
        await until(lambda: site.count("listing") > 1)
        for path in told:  # to be looked at, while all else is being listed
            await site.dcache.upload(path)
        await site.expect(*there, *told)
    assert site.count("stat") >= 50
    assert sum(site.dcache.requests.counts.values()) > 120
    assert site.count("429") == 0


async def test_a_frontend_that_allows_less_slows_all_down_and_nothing_fails(site: Site) -> None:
    site.dcache.switches.limit_rate = 30.0
    site.timing = msgspec.structs.replace(QUICK, rate=1_000.0, patience=30.0)
    paths = [f"/data/{number}/f" for number in range(40)]
    for path in paths:
        await site.dcache.upload(path)
    async with site.bench.running():
        await site.expect(*paths)
    assert 0 < site.count("429") < 40
    assert site.count("stream") == 1


# --- the number of watches ----------------------------------------------------------------------------


async def test_directories_beyond_max_watches_are_listed_and_it_is_said(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(passes, "_PERIOD_IF_UNWATCHED", 0.3)
    site.more = {"max_watches": 4}  # and reconcile is 0
    first = [f"/data/{name}/f" for name in "abcde"]
    for path in first:
        await site.dcache.upload(path)
    async with site.bench.running():
        await site.expect(*first)
        await until(lambda: gauge("dcnios_source_unwatched_directories") == 3)
        assert gauge("dcnios_source_watches") == 4
        assert len(watches(site)) == 4
        second = [f"/data/{name}/g" for name in "abcdefg"]
        for path in second:
            await site.dcache.upload(path)
        await site.expect(*first, *second)
        assert len(watches(site)) == 4
        for path in [path for path in watches(site) if path != "/data"]:
            await site.dcache.delete(path)
        await until(lambda: gauge("dcnios_source_unwatched_directories") == 2)  # 5 left of 8, 3 + root
        await until(lambda: len(watches(site)) == 4 and "gone" not in watches(site))
    assert site.dcache.requests.counts["POST channels"] == 1


async def test_what_the_configuration_names_is_watched_whatever_max_watches_says(site: Site) -> None:
    await site.dcache.mkdir("/other")
    site.more = {"max_watches": 1, "watch": {"a": {"path": "/data"}, "b": {"path": "/other"}}}
    async with site.bench.running():
        await site.listed()
        await site.dcache.upload("/data/f")
        await site.dcache.upload("/other/f")
        await site.expect("/data/f", "/other/f")


# --- directories that change without a word -----------------------------------------------------------


def put_silently(site: Site, source: str, target: str) -> None:
    """A rename of which nobody tells."""
    site.dcache.namespace.attach(site.dcache.namespace.find(source), target)


async def passed(site: Site) -> None:
    """Wait for a pass that begins now."""
    before = site.stored.get("listed_at", 0.0)
    await site.bench.journal.until(lambda: site.stored.get("listed_at", 0.0) > before + 0.3)


@pytest.mark.parametrize("path", ["/data/a", "/data", "/data/a/b"])
async def test_a_directory_swapped_for_another_between_passes_is_watched_anew(site: Site, path: str) -> None:
    """Or one above it: those below are others then too."""
    site.more = {"reconcile": 0.3}
    await site.dcache.mkdir("/data/a/b/c")
    await site.dcache.mkdir(f"/new{'/data/a/b/c'.removeprefix(path)}")
    async with site.bench.running():
        await site.listed()
        put_silently(site, path, "/old")
        put_silently(site, "/new", path)
        await until(lambda: "/old" not in str(watches(site)))
        await passed(site)
        assert "/data/a/b/c" in watches(site)
        for name in ("/data/f", "/data/a/f", "/data/a/b/f", "/data/a/b/c/f"):
            await site.dcache.upload(name)
        await site.expect("/data/f", "/data/a/f", "/data/a/b/f", "/data/a/b/c/f")
        assert len(watches(site)) == len(set(watches(site)))


async def test_a_directory_that_vanished_without_a_word_is_dropped(site: Site) -> None:
    site.more = {"reconcile": 0.3}
    await site.dcache.mkdir("/data/a/b")
    async with site.bench.running():
        await site.listed()
        put_silently(site, "/data/a", "/elsewhere")
        await until(lambda: watches(site) == ["/data", "/data/there"])
        await until(lambda: gauge("dcnios_source_watches") == 2)
        put_silently(site, "/elsewhere", "/data/a")
        await until(lambda: watches(site) == ["/data", "/data/a", "/data/a/b", "/data/there"])
        await passed(site)
        await site.dcache.upload("/data/a/b/f")
        await site.expect("/data/a/b/f")


async def test_the_watches_of_a_renamed_tree_are_kept(site: Site) -> None:
    await site.dcache.mkdir("/data/a/b/c")
    async with site.bench.running():
        await site.listed()
        deleted = site.count("DELETE subscription")
        await site.dcache.move("/data/a", "/data/z")
        await until(lambda: bool(site.dcache.requests.listed["/data/z/b/c"]))
        await site.dcache.upload("/data/z/b/c/f")
        await site.expect("/data/z/b/c/f")
        await site.listed()
        assert site.count("DELETE subscription") == deleted


async def test_one_that_is_told_to_have_left_after_its_successor_came_does_not_take_that_along(
    site: Site,
) -> None:
    """An NFS door tells of the new one, PnfsManager of the rename: in no order."""
    await site.dcache.mkdir("/data/a")
    async with site.bench.running():
        await site.listed()
        site.dcache.switches.delay_pnfsmanager = 0.5
        await site.dcache.move("/data/a", "/gone")
        site.dcache.storage._created(site.dcache.namespace.create("/data/a", FileType.DIR), Source.NFS)
        await until(lambda: watches(site) == ["/data", "/data/a", "/data/there"])
        site.dcache.switches.delay_pnfsmanager = 0.0
        listed = site.dcache.requests.listed["/data/a"]
        await until(lambda: site.dcache.requests.listed["/data/a"] > listed)
        await until(lambda: watches(site) == ["/data", "/data/a", "/data/there"])
        await site.dcache.upload("/data/a/f")
        await site.expect("/data/a/f")


# --- passes -------------------------------------------------------------------------------------------


async def test_an_overflow_that_every_watch_tells_of_makes_no_more_than_two_passes(site: Site) -> None:
    for number in range(100):
        await site.dcache.mkdir(f"/data/{number}")
    async with site.bench.running():
        await site.listed()
        before = relists("overflow")
        site.dcache.overflow()
        await until(lambda: relists("overflow") > before)
        await site.dcache.upload("/data/f")
        await site.expect("/data/f")
        await site.listed()
        assert relists("overflow") <= before + 2


async def test_our_own_listings_tell_us_nothing(site: Site) -> None:
    """Listing a directory opens and closes it, which dCache tells whoever asked for that."""
    site.more = {"reconcile": 0.2}
    async with site.bench.running():
        await site.listed()
        await passed(site)
        await passed(site)
        (channel,) = site.dcache.registrar.all()
        assert not [event for _, event in channel._ring if event.startswith(b"event: inotify")]
        assert [event for _, event in channel._ring if event.startswith(b"event: metronome")]


async def test_the_stream_does_not_wait_for_a_pass_because_of_a_watch_that_is_not_ours(
    site: Site, meddler: Meddler
) -> None:
    """Such as one that we have just deleted: its end is told like all that happens."""
    await site.dcache.mkdir("/foreign")
    is_stuck, may_go_on = asyncio.Event(), asyncio.Event()

    async def stick(path: str) -> None:
        if path == "/data/there":
            is_stuck.set()
            await may_go_on.wait()

    async with site.bench.running(), ClientSession() as session:
        await site.listed()
        (channel,) = site.dcache.registrar.all()
        url = f"{channel.url(site.dcache.api)}/subscriptions/inotify"
        login: dict[str, Any] = {"headers": {"Authorization": "Basic dTpw"}}
        async with session.post(url, json={"path": "/foreign"}, **login) as answer:
            assert answer.status == 201
        meddler.before = stick
        site.dcache.overflow()
        await is_stuck.wait()
        await site.dcache.upload("/foreign/f")
        await site.dcache.upload("/data/f")
        await site.expect("/data/f")
        may_go_on.set()
