"""Two ways for a route's orders, both forgetful and busy by turns: none is ever made both ways, or twice.

Time is virtual. The two neighbours share nothing here, no names either: whoever is asked to make what the
other has would make it. That they do share names in one cluster is a second net, not this one.
"""

import asyncio
import contextlib
import random
from collections import Counter

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dcnios_daemon.core.errors import SinkBusy, SinkUnavailable, StoreUnavailable
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Admission, Failure, Order, Outcome, State
from dcnios_daemon.dispatch.dispatcher import Dispatcher
from dcnios_daemon.dispatch.fallback import FORGOTTEN, NoRoom, noted, overdue_in
from dcnios_daemon.dispatch.limits import Limits
from dcnios_daemon.dispatch.route import Fallback, Route
from dcnios_daemon.dispatch.submission import Verdict
from dcnios_daemon.telemetry.metrics import REGISTRY
from tests.fakes.memory_journal import MemoryJournal
from tests.virtual import LoopClock, run

AFTER = 60.0
LATEST = 4.0
"""Seconds after which a lost request arrives nowhere any more."""
AT_LAST = 20_000.0
SLACK = 10.0
"""Seconds from a claim to its order's arrival, at most."""
_TROUBLES = ("lost", "late", "away", "busy", "store")


class Plot(msgspec.Struct, frozen=True):
    """What happens in one simulation."""

    full: list[float]
    """The first has room for the first of these seconds, none for the second of them, and so on. At last it
    has room: what may exist there waits for that, whatever the second could do."""
    trouble: float
    troubles: int
    cap: int | None
    crashes: list[float]
    """After how many seconds each life ends, as by SIGKILL."""
    events: int
    runs: float
    """The longest that a run takes, in seconds."""
    seed: int


PLOTS = st.builds(
    Plot,
    full=st.lists(st.sampled_from([0.0, 1.0, 30.0, 90.0, 700.0]), max_size=5),
    trouble=st.sampled_from([0.0, 0.3, 0.8]),
    troubles=st.integers(0, 40),
    cap=st.one_of(st.none(), st.integers(1, 3)),
    crashes=st.lists(st.sampled_from([0.01, 1.0, 20.0, 61.0, 100.0]), max_size=3),
    events=st.integers(1, 15),
    runs=st.sampled_from([0.01, 5.0, 200.0]),
    seed=st.integers(0, 1000),
)


class Place:
    """One of the two neighbours, as its plan."""

    def __init__(self, world: "World", kind: str) -> None:
        self.world = world
        self.kind = kind
        self.known: set[str] = set()
        self.living: dict[str, Order] = {}
        self.ends: dict[str, Outcome] = {}
        self.yes: list[float] = []
        """When it took one."""
        self.asked: list[float] = []

    async def render(self, order: Order) -> str:
        return order.name

    async def exists(self, order: Order) -> bool:
        return order.name in self.known

    async def submit(self, order: Order) -> None:
        world, now = self.world, self.world.clock.monotonic()
        self.asked.append(now)
        if self.kind == "second":
            world.check_move(order, now)
        answer, before = world.draw(), random.uniform(0, 1)
        if answer == "store":
            raise StoreUnavailable("no link now")
        if answer == "late":
            world.group.create_task(self._arrive_late(order))
            raise SinkUnavailable("no answer")
        await asyncio.sleep(before)
        if answer == "busy" or (self.kind == "first" and world.is_full()):
            raise SinkBusy("no room", retry_after=15)
        if answer != "away":
            self.make(order)
        if answer in {"lost", "away"}:
            raise SinkUnavailable("connection reset")
        self.yes.append(world.clock.monotonic())

    async def _arrive_late(self, order: Order) -> None:
        await asyncio.sleep(random.uniform(0, LATEST))
        self.make(order)

    def make(self, order: Order) -> None:
        if order.name in self.known:
            return
        self.known.add(order.name)
        self.world.made[order.name] += 1
        if any(order.key == other.key for place in self.world.places for other in place.living.values()):
            self.world.wrong.append(f"{order.name} runs beside another of its key")
        self.living[order.name] = order
        self.world.group.create_task(self._run(order))

    async def _run(self, order: Order) -> None:
        await asyncio.sleep(random.uniform(0, self.world.plot.runs))
        failure = random.choice([None, None, None, Failure.INFRASTRUCTURE])
        del self.living[order.name]
        if failure is None:
            self.world.succeeded[order.key] += 1
        self.ends[order.name] = Outcome(order=order.name, failure=failure)
        await self.world.dispatcher.desk(self.kind).report(self.ends[order.name])

    async def reconcile(self) -> None:
        """What a sink does first in a new life: it knows only what was claimed for it."""
        desk = self.world.dispatcher.desk(self.kind)
        for item in await desk.in_flight():
            if item.order in self.ends:
                await desk.report(self.ends[item.order])
            elif item.order in self.living:
                await desk.confirm([item.order])
            elif item.state is State.RUNNING or self.world.made[item.order]:
                self.world.wrong.append(f"{item.order} is looked for where it is not")
            else:
                await desk.retract([item.order], "never made")
        self.world.dispatcher.sink_is_ready(self.kind)


class World:
    """A route with two ways, and what is true of its orders."""

    def __init__(self, plot: Plot) -> None:
        self.plot = plot
        self.clock = LoopClock()
        self.seen: list[tuple[set[str], float | None]] = []
        """After each life: which routes have fallen back, as people are told and as Prometheus is."""
        self.journal = MemoryJournal(clock=self.clock)
        self.changed = asyncio.Event()
        self.journal.on_change(self.changed.set)
        self.first, self.second = self.places = Place(self, "first"), Place(self, "second")
        self.troubles = plot.troubles
        self.moved: set[str] = set()
        self.made: Counter[str] = Counter()
        self.succeeded: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.group: asyncio.TaskGroup
        self.dispatcher: Dispatcher
        self.began = self.clock.monotonic()

    def draw(self) -> str:
        if self.troubles and random.random() < self.plot.trouble:
            self.troubles -= 1
            return random.choice(_TROUBLES)
        return "yes"

    def is_full(self) -> bool:
        left = self.clock.monotonic() - self.began
        full = False
        for seconds in self.plot.full:
            if left < seconds:
                break
            left -= seconds
            full = not full
        return full and left < AT_LAST

    def check_move(self, order: Order, now: float) -> None:
        if order.name in self.moved:
            return  # it has gone this way, and perhaps nobody knows whether it arrived
        self.moved.add(order.name)
        if order.name in self.first.known:
            self.wrong.append(f"{order.name} is asked of the second, and the first has it")
        if any(now - AFTER < yes < now - SLACK for yes in self.first.yes):
            self.wrong.append("the second is asked although the first had room a while ago")
        if not any(asked <= now - AFTER for asked in self.first.asked):
            self.wrong.append("the second is asked before the first")

    def new_life(self) -> None:
        route = Route(
            name="r",
            plan=self.first,
            sink="first",
            limits=Limits(in_flight=self.plot.cap),
            retry=RetryPolicy(attempts=3, backoff=1.0),
        )
        other = replace(route, plan=self.second, sink="second", is_fallback=True)
        routes = {"r": replace(route, fallback=Fallback(route=other, after=AFTER))}
        self.dispatcher = Dispatcher(journal=self.journal, clock=self.clock, routes=routes, limits=Limits())

    async def live(self, seconds: float | None) -> None:
        """One life: until all has ended, or it is killed."""
        self.new_life()
        await self.dispatcher.restore()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.dispatcher.run())
            for place in self.places:
                await place.reconcile()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.until_all_ended()
            level = REGISTRY.get_sample_value("dcnios_route_fallen_back", {"route": "r"})
            self.seen.append((set(self.dispatcher.fallen_back()), level))
            task.cancel()

    async def until_all_ended(self) -> None:
        while True:
            self.changed.clear()
            counts = (await self.journal.stats()).deliveries.get("r", {})
            if not any(counts.get(state, 0) for state in ("queued", "submitting", "running")):
                return
            await self.changed.wait()

    async def play(self) -> None:
        await self.journal.open()
        for number in range(self.plot.events):
            event = Event(
                key=event_key("s", number),
                source="s",
                kind="toy",
                subject="x",
                action=Action.MESSAGE,
                time=1.0,
                data=b"{}",
            )
            await self.journal.append("s", [Admission(event, ("r",))], None)
        async with asyncio.timeout(100_000), asyncio.TaskGroup() as self.group:
            for seconds in self.plot.crashes:
                await self.live(seconds)
                await asyncio.sleep(LATEST)
            await self.live(None)
        assert self.wrong == []
        assert set(self.made.values()) <= {1}
        assert set(self.succeeded.values()) <= {1}
        dead = await self.journal.deliveries(state=State.DEAD)
        assert all(item.outcome and item.outcome.failure is Failure.INFRASTRUCTURE for item in dead)
        assert len(self.succeeded) + len(dead) == self.plot.events
        await self.journal.aclose()


KILLED_ELSEWHERE = Plot(
    full=[0.0], trouble=0.3, troubles=20, cap=None, crashes=[100.0, 61.0], events=10, runs=200.0, seed=1
)
"""A life ends while orders run at the second."""


@settings(deadline=None)
@given(PLOTS)
@example(KILLED_ELSEWHERE)
def test_no_order_is_made_both_ways(plot: Plot) -> None:
    async def play() -> None:
        await World(plot).play()

    random.seed(plot.seed)
    run(play())


def test_all_goes_the_other_way_while_the_first_is_full_for_good() -> None:
    plot = Plot(full=[0.0], trouble=0.0, troubles=0, cap=2, crashes=[], events=10, runs=0.01, seed=1)
    worlds: list[World] = []

    async def play() -> None:
        worlds.append(World(plot))
        await worlds[0].play()

    random.seed(plot.seed)
    run(play())
    [world] = worlds
    assert len(world.second.ends) >= plot.events
    assert world.first.ends == {}
    assert world.seen == [({"r"}, 1)]


def test_a_route_goes_its_own_way_again_when_that_has_room() -> None:
    plot = Plot(full=[0.0, 300.0], trouble=0.0, troubles=0, cap=1, crashes=[], events=10, runs=200.0, seed=1)
    worlds: list[World] = []

    async def play() -> None:
        worlds.append(World(plot))
        await worlds[0].play()

    random.seed(plot.seed)
    run(play())
    [world] = worlds
    assert world.first.ends
    assert world.second.ends
    assert world.seen == [(set(), 0)]


def test_what_may_exist_stays_where_it_may_exist() -> None:
    """An answer was lost, and the first is full from then on: nobody else is asked for that one order."""
    plot = Plot(full=[10.0], trouble=0.0, troubles=0, cap=None, crashes=[], events=1, runs=5.0, seed=1)
    worlds: list[World] = []

    async def play() -> None:
        world = World(plot)
        worlds.append(world)
        answers = ["away"]
        world.draw = lambda: answers.pop() if answers else "yes"  # type: ignore[method-assign]
        world.is_full = lambda: (  # type: ignore[method-assign]
            len(world.first.asked) > 1 and world.clock.monotonic() - world.began < 5000
        )
        await world.play()

    random.seed(plot.seed)
    run(play())
    [world] = worlds
    assert world.second.asked == []
    assert len(world.first.asked) > 5


ANSWERS = st.lists(st.tuples(st.sampled_from(list(Verdict)), st.integers(0, 2000)), max_size=30)


@given(ANSWERS, st.integers(60, 10_000))
def test_it_is_overdue_only_after_so_long_without_a_yes(
    answers: list[tuple[Verdict, int]], after: int
) -> None:
    known: NoRoom | None = None
    now, busy = 0.0, list[float]()
    for verdict, seconds in answers:
        now += seconds
        known = noted(known, verdict, now)
        if verdict is Verdict.TAKEN:
            busy.clear()
        elif verdict is Verdict.SINK_AWAY:
            if busy and now - busy[-1] > FORGOTTEN:
                busy.clear()
            busy.append(now)
        overdue = overdue_in(known, after=after, now=now) == 0
        told_lately = bool(busy) and now - busy[-1] <= FORGOTTEN
        assert overdue == (told_lately and now - busy[0] >= after)
