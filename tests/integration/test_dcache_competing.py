"""Two daemons with one client-id: one works, the other says so and stays away; neither loses an upload."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from dcnios_daemon.sources import runner
from dcnios_daemon.sources.dcache.ledger import Ledger, Position
from dcnios_daemon.sources.runner import SourceRunner
from dcnios_daemon.sources.status import SourceState
from tests.contract.dcache_rig import QUICK
from tests.integration.dcache_site import Site, relists, until

AWAY = msgspec.structs.replace(QUICK, give_way=0.2, stay_away=1e6, longest_away=1e6)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.1)


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[tuple[Site, Site]]:
    first = Site()
    second = Site(first.dcache)
    first.timing = second.timing = AWAY
    await first.open()
    yield first, second
    await first.close()


async def settled(first: SourceRunner, second: SourceRunner) -> None:
    """Until one is connected and the other is away for long."""
    await until(lambda: sorted(map(_away, (first, second))) == [False, True])
    await until(lambda: SourceState.CONNECTED in {first.status.state, second.status.state})


def _away(running: SourceRunner) -> bool:
    status = running.status
    return status.again_at is not None and status.again_at > status.since + 1e5


async def test_two_daemons_of_one_name_settle_and_neither_loses_an_upload(pair: tuple[Site, Site]) -> None:
    first, second = pair
    await first.dcache.upload("/data/before")
    paths = ["/data/before"]
    with capture_logs() as said:
        await quarrel(first, second, paths)
    contested = [line for line in said if line["event"] == "source.channel_contested"]
    assert [line["away"] for line in contested] == [1e6]
    assert first.stored["contests"] == 2
    listings = relists("other channel")
    async with first.bench.running():  # the other was stopped, and this one is started again
        await first.expect(*paths)
        await until(lambda: relists("other channel") > listings)


async def quarrel(first: Site, second: Site, paths: list[str]) -> None:
    """The second is started while the first works."""
    async with first.bench.running() as one:
        await first.listed()
        async with second.bench.running() as two:
            for number in range(40):
                paths.append(f"/data/f{number}")
                await first.dcache.upload(paths[-1])
                await asyncio.sleep(0.02)
            await settled(one, two)
            working = first if one.status.state is SourceState.CONNECTED else second
            assert working is second  # who came first is taken the channel twice
            assert "share the client-id dcnios-test-under-test" in one.status.error
            await working.expect(*paths)
            streams = first.count("stream")
            paths.append("/data/last")
            await first.dcache.upload("/data/last")
            await working.expect(*paths)
            assert working.bench.journal.events[-1].attributes["via"] == "stream"
            assert first.count("stream") == streams == 4


async def test_one_that_is_still_ending_is_given_way_to(pair: tuple[Site, Site]) -> None:
    first, second = pair
    with capture_logs() as said:
        async with first.bench.running() as one:
            await first.listed()
            async with second.bench.running():
                await until(lambda: one.status.state is SourceState.FAILED)
                assert "two daemons" in one.status.error
                await first.dcache.upload("/data/f")
                await second.expect("/data/f")
            await first.expect("/data/f")
            assert one.status.state is SourceState.CONNECTED
    assert not [line for line in said if line["event"] == "source.channel_contested"]


# --- bookkeeping ----------------------------------------------------------------------------------------


def test_the_position_forgets_where_it_was_but_not_that_it_was_taken() -> None:
    ledger = Ledger(Position(channel="c", id=7, listed=True, listed_at=5.0))
    ledger.contested(100.0)
    assert ledger.contests == 0
    batch = ledger.batch(0.0)
    assert batch is not None
    position = Position.decode(batch.cursor)
    assert position == Position(channel="c", contests=1, contested_at=100.0)
    assert ledger.contests == 1


def test_a_quarrel_long_ago_is_forgotten() -> None:
    for later, contests in ((60.0, 3), (5 * 3600.0, 1)):
        ledger = Ledger(Position(channel="c", contests=2, contested_at=100.0))
        ledger.contested(100.0 + later)
        ledger.batch(0.0)
        assert ledger.contests == contests


def test_a_connection_that_nobody_contests_goes_on_with_the_count() -> None:
    ledger = Ledger(Position(channel="c", contests=2, contested_at=100.0))
    assert ledger.contests == 0
    ledger.passed(0)
    batch = ledger.batch(0.0)
    assert batch is not None
    assert Position.decode(batch.cursor) == Position(channel="c", id=0, contests=2, contested_at=100.0)
