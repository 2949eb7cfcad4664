"""Pages of directories, passes and their rests, and the pace of calls. No sockets."""

import asyncio
import random
import tracemalloc
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from dcnios_daemon.core.errors import Malformed
from dcnios_daemon.sources.dcache.client.frontend import Answer, Frontend, Missing
from dcnios_daemon.sources.dcache.client.listing import pages
from dcnios_daemon.sources.dcache.client.pace import Pace
from dcnios_daemon.sources.dcache.passes import Pass, Passes
from dcnios_daemon.sources.dcache.timing import Timing
from tests.clocks import ManualClock

FILLER = "x" * 120


class Directory:
    """Answers as the frontend does: it counts anew for each page."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.asked: list[int] = []
        self.about: dict[str, Any] = {"fileType": "DIR", "pnfsId": "0001"}

    def url(self, path: str) -> str:
        return f"http://h{path}"

    async def call(self, method: str, url: str, **_: Any) -> Answer:
        assert method == "GET"
        asked = {
            key: int(value[0])
            for key, value in parse_qs(urlsplit(url).query).items()
            if key in "limit offset"
        }
        self.asked.append(asked["offset"])
        self.happens(len(self.asked))
        part = self.names[asked["offset"] :][: asked["limit"]]
        entries = (f'{{"fileType":"REGULAR","pnfsId":"{name}{FILLER}","fileName":"{name}"}}' for name in part)
        about = msgspec.json.encode(self.about).decode()[:-1]
        return Answer(200, f'{about},"children":[{",".join(entries)}]}}'.encode())

    def happens(self, call: int) -> None:
        """Before a call is answered."""


async def met(directory: Directory, size: int) -> list[str]:
    """The names that a listing shows, as often as it does."""
    frontend = cast("Frontend", directory)
    return [entry.name async for page in pages(frontend, "/d", size=size) async for entry in page.entries()]


@pytest.mark.parametrize("count", [0, 1, 9])
async def test_less_than_a_page_takes_one_call(count: int) -> None:
    directory = Directory([str(number) for number in range(count)])
    assert sorted(await met(directory, 10)) == sorted(directory.names)
    assert directory.asked == [0]


@pytest.mark.parametrize("count", [10, 25, 30])
async def test_more_than_a_page_is_gone_over_twice(count: int) -> None:
    directory = Directory([str(number) for number in range(count)])
    assert set(await met(directory, 10)) == set(directory.names)
    assert directory.asked == [*range(0, count + 1, 10)] * 2


async def test_a_page_that_lacks_what_vanished_is_not_taken_for_the_last() -> None:
    directory = Directory([str(number) for number in range(300)])

    class Omits(Directory):
        async def call(self, method: str, url: str, **more: Any) -> Answer:
            answer = await super().call(method, url, **more)
            children = msgspec.json.decode(answer.body)
            del children["children"][:3]
            return Answer(200, msgspec.json.encode(children))

    directory = Omits(directory.names)
    assert len(set(await met(directory, 100))) >= 291
    assert max(directory.asked) == 300


@pytest.mark.parametrize("seed", range(5))
async def test_what_is_there_all_the_time_is_met_whatever_comes_and_goes(seed: int) -> None:
    dice, stays = random.Random(seed), {f"stays {number}" for number in range(500)}

    class Busy(Directory):
        def happens(self, call: int) -> None:
            """Removals shift what comes after them over the edges of pages."""
            if call < 8:
                going = [name for name in self.names if name not in stays]
                for name in dice.sample(going, 40):
                    self.names.remove(name)
                self.names[:0] = [f"new {call} {number}" for number in range(10)]

    names = [*stays, *(f"goes {number}" for number in range(500))]
    dice.shuffle(names)
    directory = Busy(names)
    assert set(await met(directory, 100)) >= stays


async def test_a_listing_of_ten_times_as_much_takes_no_more_memory() -> None:
    peaks = [await _peak(count) for count in (20_000, 200_000)]
    assert peaks[1] < peaks[0] * 1.1 + 100_000


async def _peak(count: int) -> int:
    class Endless(Directory):
        async def call(self, method: str, url: str, **more: Any) -> Answer:
            offset = int(parse_qs(urlsplit(url).query)["offset"][0])
            self.names = [f"{number:09}" for number in range(offset, min(offset + 5_000, count))]
            return await super().call(method, url.replace(f"offset={offset}", "offset=0"), **more)

    frontend, seen = cast("Frontend", Endless([])), 0
    tracemalloc.start()
    async for page in pages(frontend, "/d", size=5_000):
        async for _ in page.entries():
            seen += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == 2 * count
    return peak


async def test_a_long_listing_lets_others_run() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(count())
        await met(Directory([str(number) for number in range(20_000)]), 50_000)
        task.cancel()
    assert turns >= 20


async def test_a_file_in_a_directorys_place_is_no_directory() -> None:
    directory = Directory([])
    directory.about = {"fileType": "REGULAR", "pnfsId": "0002"}
    with pytest.raises(Missing):
        await met(directory, 10)


@pytest.mark.parametrize("children", ["[{]", "[3]", "7"])
async def test_what_cannot_be_read_is_said(children: str) -> None:
    class Broken(Directory):
        async def call(self, method: str, url: str, **_: Any) -> Answer:
            return Answer(200, f'{{"children":{children}}}'.encode())

    with pytest.raises(Malformed):
        await met(Broken([]), 10)


# --- passes -------------------------------------------------------------------------------------------


def passes(period: float = 0.0) -> tuple[Passes, ManualClock]:
    clock = ManualClock()
    return Passes(clock, period=period, timing=Timing(rest=5, retry=60)), clock


def run(made: Passes, clock: ManualClock, *, taking: float) -> Pass:
    assert made.begin()
    clock.pass_time(taking)
    ended = made.end()
    assert ended is not None
    return ended


def test_losses_during_a_pass_make_one_more_after_a_rest_as_long_as_it_took() -> None:
    made, clock = passes()
    made.owe("loss")
    assert made.begin()
    for _ in range(1000):
        made.owe("overflow")
    clock.pass_time(100)
    assert made.end() is not None
    assert made.listed_at is None
    assert not made.begin()
    clock.pass_time(99)
    assert not made.begin()
    assert not made.is_owed  # nobody need wait for what does not go on
    clock.pass_time(1)
    assert run(made, clock, taking=1).cause == "overflow"
    assert made.listed_at is not None
    clock.pass_time(1000)
    assert not made.begin()


@pytest.mark.parametrize("taking", [0.01, 1.0, 30.0, 700.0])
def test_a_storm_makes_it_list_at_most_half_of_the_time(taking: float) -> None:
    made, clock = passes(period=900)
    began, listing = clock.monotonic(), 0.0
    while clock.monotonic() < began + 10_000:
        made.owe("overflow")
        if made.begin():
            clock.pass_time(taking)
            listing += taking
            made.owe("overflow")
            made.end()
        clock.pass_time(1.0)
    assert 0 < listing <= (clock.monotonic() - began) / 2 + taking


def test_the_period_counts_from_the_beginning_and_stays_when_a_loss_comes_first() -> None:
    made, clock = passes(period=900)
    made.owe("start")
    began = clock.now()
    run(made, clock, taking=100)
    assert made.listed_at == began
    assert made.next == clock.monotonic() + 800
    clock.pass_time(800)
    assert run(made, clock, taking=1).cause == "period"


def test_a_period_of_nothing_means_after_a_loss_only_but_for_directories_without_a_watch() -> None:
    made, clock = passes()
    made.owe("start")
    run(made, clock, taking=1)
    assert made.next is None
    made.unwatched()
    assert made.next == clock.monotonic() + 900
    clock.pass_time(900)
    assert made.begin()
    made.unwatched()
    ended = made.end()
    assert ended is not None
    assert ended.unwatched == 1
    clock.pass_time(900)
    run(made, clock, taking=1)
    assert made.next is None  # there was a watch for each of them this time


def test_what_could_not_be_listed_is_owed_after_a_longer_rest() -> None:
    made, clock = passes()
    made.owe("start")
    assert made.begin()
    assert made.current is not None
    made.current.is_whole = False
    made.end()
    assert made.listed_at is None
    clock.pass_time(59)
    assert not made.begin()
    clock.pass_time(1)
    assert run(made, clock, taking=1).cause == "incomplete"


def test_a_listing_that_is_not_old_is_not_repeated_at_once() -> None:
    made, clock = passes(period=900)
    made.resume(clock.now() - 300)
    assert made.next == clock.monotonic() + 600
    made.resume(clock.now() + 1e6)  # a clock that was set back
    assert made.next == clock.monotonic() + 900


# --- pace ---------------------------------------------------------------------------------------------


async def test_walking_and_looking_take_turns() -> None:
    pace, order = Pace(1_000.0), list[str]()

    async def ask(caller: Any) -> None:
        await pace.turn(caller)
        order.append(caller)

    async with asyncio.TaskGroup() as group:
        for caller in ["look"] * 50 + ["walk"] * 5:
            group.create_task(ask(caller))
    assert "".join(each[0] for each in order[:12]).count("w") == 5
    assert len(order) == 55


async def test_those_who_ask_one_server_share_its_pace() -> None:
    first = Pace.of("https://a", 100.0)
    assert Pace.of("https://a", 100.0) is first
    assert Pace.of("https://b", 100.0) is not first


async def test_a_call_that_is_given_up_takes_nobodys_turn() -> None:
    pace = Pace(1e6)
    pace.refused(0.05)
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(pace.turn("look")) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[1].cancel()
    assert not waiting[2].cancelled()
