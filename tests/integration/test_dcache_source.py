"""The dCache source on the fake frontend, under the runner, with a journal that outlives both."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from dcnios_daemon.core.errors import Disconnected, Rejected, SourceError
from dcnios_daemon.core.event import Action
from dcnios_daemon.core.ports import Source
from dcnios_daemon.sources import runner
from dcnios_daemon.sources.dcache.source import DcacheSource
from dcnios_daemon.sources.status import SourceState
from dcnios_daemon.telemetry.metrics import REGISTRY
from tests.contract.dcache_rig import QUICK, DcacheRig, settings
from tests.contract.source_rig import NAME, Bench
from tests.fakes.dcache import Chaos, FakeDcache, Switches, tls
from tests.fakes.dcache.chaos import MISHAPS

SETTLED = msgspec.structs.replace(QUICK, settle=0.3)
"""With a time to settle in which something can be done."""


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.2)


class Site(DcacheRig):
    """A frontend with a bench beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.dcache = FakeDcache(switches=Switches(metronome_scale=0.1))
        self.more: dict[str, Any] = {}
        self.timing = QUICK
        self.bench = Bench(self)

    def build(self) -> Source:
        """With what the test asks for."""
        return DcacheSource(
            name=NAME, settings=settings(self.dcache, **self.more), instance="test", timing=self.timing
        )

    async def expect(self, *paths: str) -> None:
        """Exactly these uploads, once each."""
        journal = self.bench.journal
        await journal.until(lambda: Counter(self.created()) >= Counter(paths))
        assert Counter(self.created()) == Counter(paths)

    def created(self) -> list[str]:
        """The uploads in the journal."""
        return [event.subject for event in self.bench.journal.events if event.action is Action.CREATED]

    async def listed(self) -> None:
        """Wait until all that is there has been listed and what was told is dealt with."""
        await self.bench.journal.until(lambda: '"listed":true' in self.cursor and '"id":' in self.cursor)

    @property
    def cursor(self) -> str:
        """What the journal has stored."""
        return self.bench.journal.cursors.get(NAME, "")

    def count(self, call: str) -> int:
        """How often it was asked."""
        return self.dcache.requests.counts[call]


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    await made.open()
    yield made
    await made.close()


# --- uploads ------------------------------------------------------------------------------------------


async def test_an_upload_becomes_an_event_with_what_the_stream_said(site: Site) -> None:
    async with site.bench.running():
        await site.listed()
        inode = await site.dcache.upload("/data/a b%2F#é\u2028", b"12345")
        await site.expect("/data/a b%2F#é\u2028")
    (event,) = site.bench.journal.events
    assert event.attributes == {
        "pnfsid": inode.pnfsid,
        "size": "5",
        "locality": "ONLINE",
        "via": "stream",
        "watch": "data",
    }
    assert set(msgspec.json.decode(event.data)) == {"event", "subscription"}
    assert event.data.startswith('{"event":{"name":"a b%2F#é\u2028","mask":["IN_CLOSE_WRITE"]}'.encode())
    assert (event.size, event.content_type, event.kind) == (5, "application/json", "dcache")


async def test_each_way_of_uploading_gives_one_event_under_the_last_name(site: Site) -> None:
    site.dcache.switches.early_404 = site.dcache.switches.stale_stats = 2
    async with site.bench.running():
        await site.listed()
        await site.dcache.upload("/data/empty", b"")
        await site.dcache.upload_srm("/data/srm")
        await site.dcache.upload("/data/t.part")
        await site.dcache.move("/data/t.part", "/data/t")
        await site.dcache.upload_srm("/data/there/s.part")
        await site.dcache.move("/data/there/s.part", "/data/s")
        await site.dcache.abort_upload("/data/aborted")
        await site.dcache.upload("/data/last")
        await site.expect("/data/empty", "/data/srm", "/data/t", "/data/s", "/data/last")


async def test_an_overwrite_is_a_new_upload_and_a_rename_is_not(site: Site) -> None:
    async with site.bench.running():
        await site.listed()
        await site.dcache.upload("/data/f", b"same")
        await site.expect("/data/f")
        await site.dcache.overwrite("/data/f", b"same")
        await site.expect("/data/f", "/data/f")
        await site.dcache.move("/data/f", "/data/there/g")
        await site.dcache.upload("/data/last")
        await site.expect("/data/f", "/data/f", "/data/last")
        site.dcache.overflow()
        await site.listed()
        assert len(site.created()) == 3


async def test_an_entry_that_never_becomes_complete_holds_up_nothing(site: Site) -> None:
    site.dcache.switches.abort_leaves_entry = True
    site.timing = msgspec.structs.replace(QUICK, patience=0.5)
    async with site.bench.running():
        await site.listed()
        await site.dcache.abort_upload("/data/broken")
        await site.dcache.touch_nfs("/data/touched")
        await site.dcache.upload("/data/f")
        await site.expect("/data/f")
        await site.bench.journal.until(lambda: msgspec.json.decode(site.cursor)["id"] >= 4)
    assert site.created() == ["/data/f"]


async def test_renames_and_removals_are_told_where_they_are_asked_for(site: Site) -> None:
    site.more = {"on": ["created", "moved", "removed"]}
    await site.dcache.upload("/data/f")
    await site.dcache.upload("/elsewhere/in")
    async with site.bench.running():
        await site.listed()
        await site.dcache.move("/data/f", "/data/there/g")
        await site.dcache.move("/elsewhere/in", "/data/in")
        await site.dcache.move("/data/in", "/elsewhere/out")
        await site.dcache.delete("/data/there/g")
        await site.dcache.upload("/data/last")
        await site.bench.journal.until(lambda: "/data/last" in site.created())
    told = [(event.action, event.subject) for event in site.bench.journal.events]
    assert (Action.REMOVED, "/data/there/g") in told
    assert (Action.CREATED, "/data/f") in told
    assert not [each for each in told if each[1].startswith("/elsewhere")]


async def test_a_rename_tells_where_it_came_from(site: Site) -> None:
    site.more = {"on": ["moved"]}
    await site.dcache.upload("/data/f")
    async with site.bench.running():
        await site.listed()
        await site.dcache.move("/data/f", "/data/there/g")
        await site.bench.journal.until(lambda: bool(site.bench.journal.events))
    (event,) = site.bench.journal.events
    assert (event.action, event.subject, event.attributes["from"]) == (
        Action.MOVED,
        "/data/there/g",
        "/data/f",
    )


# --- directories --------------------------------------------------------------------------------------


async def test_new_and_moved_in_directories_are_watched_with_all_that_is_in_them(site: Site) -> None:
    await site.dcache.upload("/elsewhere/deep/old")
    async with site.bench.running():
        await site.listed()
        await site.dcache.upload("/data/new/deep/first")
        await site.dcache.move("/elsewhere", "/data/moved")
        await site.expect("/data/new/deep/first", "/data/moved/deep/old")
        await site.listed()
        listings = site.count("listing")
        await site.dcache.upload("/data/new/deep/second")
        await site.dcache.upload("/data/moved/deep/third")
        await site.expect(
            "/data/new/deep/first",
            "/data/moved/deep/old",
            "/data/new/deep/second",
            "/data/moved/deep/third",
        )
        assert site.count("listing") == listings  # they were told, not found


async def test_a_renamed_directory_is_known_by_its_new_name_and_one_moved_away_no_more(site: Site) -> None:
    async with site.bench.running():
        await site.listed()
        await site.dcache.upload("/data/a/b/one")
        await site.expect("/data/a/b/one")
        await site.dcache.move("/data/a", "/data/c")
        await until_listed(site, "/data/c/b")
        await site.dcache.upload("/data/c/b/two")
        await site.expect("/data/a/b/one", "/data/c/b/two")
        await site.dcache.move("/data/c", "/gone")
        await site.dcache.upload("/gone/b/three")
        await site.dcache.mkdir("/data/c")
        await until_listed(site, "/data/c")
        await site.dcache.upload("/data/c/four")
        await site.expect("/data/a/b/one", "/data/c/b/two", "/data/c/four")


async def until_listed(site: Site, path: str) -> None:
    """Its watch, if it is new, has settled then."""
    listed = site.dcache.requests.listed
    before = listed[path]
    async with asyncio.timeout(10):
        while listed[path] == before:  # noqa: ASYNC110 - the fake tells nobody
            await asyncio.sleep(0.01)


async def test_what_is_below_a_flat_watch_is_not_its_business(site: Site) -> None:
    site.more = {"watch": {"flat": {"path": "/data"}}}
    await site.dcache.upload("/data/there/no")
    async with site.bench.running():
        await site.listed()
        await site.dcache.upload("/data/new/no")
        await site.dcache.upload("/data/yes")
        await site.expect("/data/yes")


# --- loss ---------------------------------------------------------------------------------------------


async def test_an_upload_before_the_watch_has_settled_is_found(site: Site) -> None:
    site.timing = SETTLED
    site.dcache.switches.arming_delay = site.dcache.switches.arming_delay_pools = 0.2
    async with site.bench.running():
        async with asyncio.timeout(10):
            while not site.count("POST subscription"):  # noqa: ASYNC110 - the fake tells nobody
                await asyncio.sleep(0.005)
        assert not site.count("listing")
        await site.dcache.upload("/data/there/early")
        upload = site.dcache.storage.begin("/data/half")
        await site.expect("/data/there/early")
        assert site.bench.journal.events[0].attributes["via"] == "listing"
        upload.finish()
        await site.expect("/data/there/early", "/data/half")


@pytest.mark.parametrize("crash", [False, True])
async def test_a_restart_of_the_frontend_loses_nothing(site: Site, *, crash: bool) -> None:
    async with site.bench.running():
        await site.listed()
        await site.dcache.upload("/data/one")
        await site.expect("/data/one")
        await site.dcache.restart(crash=crash)
        await site.dcache.upload("/data/two")
        await site.expect("/data/one", "/data/two")
        await site.listed()
        await site.dcache.upload("/data/three")
        await site.expect("/data/one", "/data/two", "/data/three")
        assert site.bench.journal.events[-1].attributes["via"] == "stream"


async def test_a_frontend_that_is_away_for_a_while_is_waited_for(site: Site) -> None:
    async with site.bench.running() as running:
        await site.listed()
        await site.dcache.stop()
        async with asyncio.timeout(10):
            while running.status.state is not SourceState.FAILED:  # noqa: ASYNC110 - a status tells nobody
                await asyncio.sleep(0.005)
        await site.dcache.upload("/data/meanwhile")
        await site.dcache.start()
        await site.expect("/data/meanwhile")


async def test_a_source_that_was_away_reads_on_in_its_channel(site: Site) -> None:
    site.more = {"watch": {"flat": {"path": "/data"}}, "on": ["created", "removed"]}
    await site.dcache.upload("/data/doomed")
    async with site.bench.running():
        await site.listed()
        await site.dcache.upload("/data/one")
        await site.expect("/data/doomed", "/data/one")
    await site.dcache.upload("/data/two")
    await site.dcache.delete("/data/doomed")  # no listing could tell that
    site.dcache.requests.clear()
    async with site.bench.running():
        await site.expect("/data/doomed", "/data/one", "/data/two")
        await site.bench.journal.until(lambda: len(site.bench.journal.events) == 4)
    assert Action.REMOVED in [event.action for event in site.bench.journal.events]
    assert site.count("POST channels") == 0
    assert site.count("listing") == 0
    assert len(site.dcache.registrar.all()) == 1


async def test_events_of_directories_that_are_not_known_again_yet_are_kept(site: Site) -> None:
    """Told before the walk at the start has come to their directory: no listing shows a removal."""
    site.more = {"on": ["removed"]}
    await site.dcache.upload("/data/there/deep/f")
    async with site.bench.running():
        await site.listed()
    await site.dcache.delete("/data/there/deep/f")
    async with site.bench.running():
        await site.bench.journal.until(lambda: bool(site.bench.journal.events))
    assert site.bench.journal.events[0].subject == "/data/there/deep/f"


async def test_what_was_not_settled_at_a_stop_is_taken_up_again(site: Site) -> None:
    """Its stat had not shown it complete, so the position was held back before it."""
    site.more = {"watch": {"flat": {"path": "/data"}}}
    site.dcache.switches.stale_stats = 10**6
    async with site.bench.running():
        await site.listed()
        await site.dcache.upload("/data/slow")
        site.dcache.switches.stale_stats = 0
        await site.dcache.upload("/data/quick")
        await site.expect("/data/quick")
    site.dcache.namespace.find("/data/slow").stale_stats = 0
    site.dcache.requests.clear()
    async with site.bench.running():
        await site.expect("/data/quick", "/data/slow")
    assert site.count("listing") == 0


async def test_a_channel_that_expired_makes_a_full_listing(site: Site) -> None:
    async with site.bench.running():
        await site.listed()
    site.dcache.drop_streams()
    await site.dcache.upload("/data/one")  # the server notices at its next write
    site.dcache.expire_channels()
    async with site.bench.running():
        await site.expect("/data/one")


async def test_what_the_server_threw_away_is_listed(site: Site) -> None:
    """EVENT_LOSS: the ring buffer was smaller than what happened while we were away."""
    site.more = {"watch": {"flat": {"path": "/data"}}}  # which is not listed at each start
    site.dcache.switches.backlog = 5
    async with site.bench.running():
        await site.listed()
    paths = [f"/data/f{number}" for number in range(20)]
    for path in paths:
        await site.dcache.upload(path)
    before = relists("loss")
    async with site.bench.running():
        await site.expect(*paths)
        await site.bench.journal.until(lambda: relists("loss") == before + 1)


async def test_an_overflow_is_listed(site: Site) -> None:
    async with site.bench.running():
        await site.listed()
        before = relists("overflow")
        site.dcache.switches.subscription_queue = 3
        paths = [f"/data/f{number}" for number in range(100)]
        for path in paths:
            site.dcache.storage.put(path, b"")  # in one burst
        site.dcache.switches.subscription_queue = 1000
        await site.expect(*paths)
        await site.bench.journal.until(lambda: relists("overflow") > before)


def relists(cause: str) -> float:
    labels = {"source": NAME, "cause": cause}
    return REGISTRY.get_sample_value("dcnios_source_relists_total", labels) or 0.0


async def test_what_nobody_told_of_is_found_by_the_next_listing(site: Site) -> None:
    site.more = {"reconcile": 0.5}
    async with site.bench.running():
        await site.listed()
        site.dcache.switches.delay_pools = 10.0
        await site.dcache.upload("/data/silent")
        site.dcache.drop_unsent_events()
        await site.expect("/data/silent")


async def test_a_stream_without_heartbeat_is_left(site: Site) -> None:
    async with site.bench.running():
        await site.listed()
        site.dcache.freeze_streams()
        await site.dcache.upload("/data/unheard")
        await site.expect("/data/unheard")
    assert site.count("stream") == 2


async def test_a_shut_gate_leaves_the_stream_alone_and_nothing_is_lost(site: Site) -> None:
    async with site.bench.running() as running:
        await site.listed()
        site.bench.gate.set("full")
        async with asyncio.timeout(10):
            while running.status.state is not SourceState.PAUSED:  # noqa: ASYNC110 - a status tells nobody
                await asyncio.sleep(0.005)
        paths = [f"/data/f{number}" for number in range(300)]
        for path in paths:
            await site.dcache.upload(path)
        assert site.created() == []
        site.bench.gate.set(None)
        await site.expect(*paths)


async def test_ten_thousand_files_are_listed_in_one_call(site: Site) -> None:
    for number in range(10_000):
        site.dcache.storage.put(f"/data/there/{number}", b"")
    async with site.bench.running():
        await site.bench.journal.until(lambda: len(site.bench.journal.events) == 10_000)
        await site.listed()
    assert site.dcache.requests.listed["/data/there"] == 1
    assert site.count("stat") == 0


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_goes_wrong_each_upload_is_one_event(seed: int) -> None:
    site, dice = Site(), random.Random(seed)
    site.more = {"reconcile": 0.5}
    chaos = Chaos(seed, mishaps=sorted(MISHAPS - {"refuse"}))  # after which it waits for minutes
    site.dcache = FakeDcache(switches=Switches(metronome_scale=0.1), chaos=chaos, seed=seed)
    await site.open()
    async with site.bench.running():
        for number in range(40):
            await one_of_many(site, dice, number)
        chaos.calm(site.dcache)
        wanted = {inode.pnfsid for inode in site.dcache.namespace.walk() if inode.size is not None}
        await site.bench.journal.until(lambda: ids(site) >= wanted)
    await site.close()
    assert ids(site) == wanted
    assert len(site.created()) == len(wanted)


async def one_of_many(site: Site, dice: random.Random, number: int) -> None:
    path = f"/data/d{dice.randrange(4)}/f{number}"
    match dice.randrange(5):
        case 0:
            await site.dcache.upload_srm(path)
        case 1:
            await site.dcache.abort_upload(path)
        case 2:
            await site.dcache.upload(f"{path}.part")
            await site.dcache.move(f"{path}.part", path)
        case _:
            await site.dcache.upload(path)
    if dice.random() < 0.3:
        await asyncio.sleep(dice.random() * 0.05)


def ids(site: Site) -> set[str]:
    return {event.attributes["pnfsid"] for event in site.bench.journal.events}


# --- neighbours of all kinds --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "switches",
    [
        {"standard_base64": False},
        {"legacy_errors": True},
        {"http_locations": True},
        {"hold_201": 0.2},
        {"merge_answers_303": False},
        {"limit_rate": 40.0},
    ],
    ids=lambda switches: next(iter(switches)),
)
async def test_older_newer_and_fronted_dcaches_will_do(site: Site, switches: dict[str, Any]) -> None:
    for name, value in switches.items():
        setattr(site.dcache.switches, name, value)
    paths = [f"/data/d{number}/f" for number in range(12)]
    async with site.bench.running():
        await site.listed()
        for path in paths[:6]:
            await site.dcache.upload(path)
        await site.expect(*paths[:6])
    for path in paths[6:]:
        await site.dcache.upload(path)
    async with site.bench.running():
        await site.expect(*paths)


@pytest.mark.parametrize("way", ["token", "certificate", "password"])
async def test_all_logins_over_tls(tmp_path: Path, way: str) -> None:
    authority = await asyncio.to_thread(tls.make, tmp_path / "ca")
    context = await asyncio.to_thread(authority.server_context, "127.0.0.1")
    chain, key = await asyncio.to_thread(authority.issue, "alice")
    site = Site()
    site.dcache = FakeDcache(tls=context, switches=Switches(bearer_needs_tls=True, http_locations=True))
    anew = {"username": None, "password": None, "ca_file": str(authority.ca_file)}
    logins: dict[str, dict[str, Any]] = {
        "token": anew | {"token": "some-token"},
        "certificate": anew | {"client_cert": str(chain), "client_key": str(key)},
        "password": {"ca_file": str(authority.ca_file)},
    }
    site.more = logins[way]
    await site.open()
    async with site.bench.running():
        await site.listed()
        await site.dcache.upload("/data/f")
        await site.expect("/data/f")
    await site.close()


@pytest.mark.parametrize(
    ("more", "kind", "words"),
    [
        ({"watch": {"raw": {"path": "/nowhere"}}}, Rejected, "watch raw: /nowhere"),
        ({"password": "wrong-word"}, Rejected, "login"),
        ({"url": "http://127.0.0.1:1"}, Disconnected, "127.0.0.1:1"),
        ({"url": "http://no-such-host.invalid"}, Disconnected, "no-such-host.invalid"),
        ({"password": None, "password_file": "/no/such/file"}, Rejected, "/no/such/file"),
    ],
)
async def test_what_is_wrong_is_said(
    site: Site, more: dict[str, Any], kind: type[SourceError], words: str
) -> None:
    site.dcache.directory.add_user("u:p:1000")
    site.more = more
    source = site.build()
    with pytest.raises(kind, match=words) as raised:
        await source.connect(None)
    await source.aclose()
    assert "wrong-word" not in str(raised.value)


async def test_an_untrusted_certificate_is_said(tmp_path: Path) -> None:
    authority = await asyncio.to_thread(tls.make, tmp_path / "ca")
    site = Site()
    site.dcache = FakeDcache(tls=await asyncio.to_thread(authority.server_context, "127.0.0.1"))
    await site.open()
    source = site.build()
    with pytest.raises(Rejected, match="certificate"):
        await source.connect(None)
    await source.aclose()
    await site.close()


async def test_a_user_with_too_many_channels_is_told_so(site: Site) -> None:
    site.dcache.switches.quota = 0
    source = site.build()
    with pytest.raises(Rejected, match="as many channels"):
        await source.connect(None)
    await source.aclose()


async def test_a_second_daemon_of_the_same_name_is_said(site: Site) -> None:
    async with site.bench.running() as running:
        await site.listed()
        other = site.build()
        await other.connect(None)
        async with asyncio.timeout(10):
            while "two daemons" not in running.status.last_error:  # noqa: ASYNC110 - a status tells nobody
                await asyncio.sleep(0.005)
        await other.aclose()
