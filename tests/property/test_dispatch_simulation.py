"""The dispatcher against a neighbour that is slow, busy, forgetful, or answers after the fact.

Time is virtual. What is asserted is what the neighbour sees (never more at once, never faster, nothing
twice) and what the operator sees (everything ends, nothing hangs, an end in order leaves nothing behind).
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcnios_daemon.core.errors import (
    JournalUnavailable,
    OrderRefused,
    SinkBusy,
    SinkUnavailable,
    StoreUnavailable,
)
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Admission, Failure, Order, Outcome, State, Stats
from dcnios_daemon.dispatch import dispatcher as module
from dcnios_daemon.dispatch.dispatcher import Dispatcher
from dcnios_daemon.dispatch.fairness import Share
from dcnios_daemon.dispatch.limits import Limits
from dcnios_daemon.dispatch.route import Route
from tests.fakes.memory_journal import MemoryJournal
from tests.virtual import LoopClock, run

KEEP = 60.0
"""Seconds that what has ended can still be found by its name."""
LATEST = 4.0
"""Seconds after which a lost request arrives nowhere any more."""
PAUSED = 3600.0
"""Seconds of a long pause: in the second half of it all that was in flight has ended."""


class Plot(msgspec.Struct, frozen=True):
    """What happens in one simulation."""

    caps: tuple[int | None, int | None, int | None]
    """Of route a, of route b, of both."""
    rates: tuple[float | None, float | None, float | None]
    bursts: tuple[int, int, int]
    batch: int
    trouble: float
    """The part of submissions and writes that do not go as they should, while it lasts."""
    troubles: int
    """How many submissions it lasts."""
    slowness: float
    """The longest that anything takes, in seconds."""
    refused: set[int]
    """Events that the neighbour will never take."""
    bad: set[int]
    """Events on which every run fails."""
    priorities: tuple[int, int]
    weights: tuple[float, float]
    pauses: list[tuple[str, float, float]]
    """One after the other: a route, after how many seconds it is paused, and for how many."""
    events: int
    workers: int
    ahead: int
    seed: int


_LIMIT = st.tuples(*[st.one_of(st.none(), st.integers(1, 4))] * 3)
_RATE = st.tuples(*[st.one_of(st.none(), st.sampled_from([0.5, 2.0, 7.0]))] * 3)
_TROUBLES = ("lost", "late", "away", "busy", "store", "forbidden")
PLOTS = st.builds(
    Plot,
    caps=_LIMIT,
    rates=_RATE,
    bursts=st.tuples(*[st.integers(1, 3)] * 3),
    batch=st.integers(1, 3),
    trouble=st.sampled_from([0.0, 0.2, 0.7]),
    troubles=st.integers(0, 40),
    slowness=st.sampled_from([0.001, 0.3, 2.0]),
    refused=st.sets(st.integers(0, 20), max_size=2),
    bad=st.sets(st.integers(0, 20), max_size=2),
    priorities=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    weights=st.tuples(st.sampled_from([0.1, 1.0, 7.0]), st.sampled_from([1.0, 3.0])),
    pauses=st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from([0.0, 0.002, 0.3, 5.0]),
            st.sampled_from([0.0, 0.5, PAUSED]),
        ),
        max_size=3,
    ),
    events=st.integers(1, 25),
    workers=st.sampled_from([1, 2, 32]),
    ahead=st.sampled_from([1, 64]),
    seed=st.integers(0, 1000),
)


class RoughJournal(MemoryJournal):
    """On a disk that is slow and sometimes takes nothing."""

    def __init__(self, clock: LoopClock, plot: Plot) -> None:
        super().__init__(clock=clock)
        self._plot = plot
        self._left = plot.troubles
        self._failed = False
        self.on_choice: Callable[[str], None] = lambda _: None
        self.claims = self.looks = 0

    async def _disk_turns(self) -> None:
        await asyncio.sleep(0.001)
        if self._left and random.random() < self._plot.trouble:
            self._left -= 1
            await asyncio.sleep(random.uniform(0, self._plot.slowness))
            raise JournalUnavailable("no space left on device")

    async def claim(self, route: str, orders: int, **more: Any) -> Any:
        self.claims += 1
        if not self._failed:
            self.on_choice(route)
        self._failed = True
        await self._disk_turns()
        self._failed = False
        made = await super().claim(route, orders, **more)
        await asyncio.sleep(0)
        return made

    def may_be_claimed(self, route: str, batch: int) -> bool:
        """Whether there is a whole order of it now."""
        return route not in self._paused and len(self._shelf.queues.get(route, ())) >= batch

    async def stats(self) -> Stats:
        self.looks += 1
        return await super().stats()

    async def started(self, deliveries: Sequence[int]) -> None:
        await self._disk_turns()
        await super().started(deliveries)

    async def release(self, deliveries: Sequence[int], *, after: float | None, note: str) -> None:
        await self._disk_turns()
        await super().release(deliveries, after=after, note=note)
        await asyncio.sleep(0)

    async def finish(self, deliveries: Sequence[int], outcome: Outcome, decision: Any) -> int:
        await self._disk_turns()
        settled = await super().finish(deliveries, outcome, decision)
        await asyncio.sleep(0)
        return settled


class World:
    """The neighbour, and two routes to it."""

    def __init__(self, plot: Plot) -> None:
        self.plot = plot
        self.clock = LoopClock()
        self.journal = RoughJournal(self.clock, plot)
        self.journal.on_choice = self.check_choice
        self.troubles = plot.troubles
        self.living: dict[str, str] = {}
        """Objects that run: name to route."""
        self.known: set[str] = set()
        """Names that the neighbour knows: of what runs, or ended a while ago."""
        self.made: list[tuple[float, str, str]] = []
        """When, which route, which name."""
        self.succeeded: Counter[str] = Counter()
        """Keys of events that a run did well."""
        self.ends: dict[str, Outcome] = {}
        self.sizes: dict[str, int] = {}
        """Orders that were sent, to how many events they were for."""
        self.numbers: dict[str, int] = {}
        """Keys of events, to their number."""
        self.shut = False
        self.wrong: list[str] = []
        """What no neighbour should ever see. The dispatcher would take an assertion here for an answer."""
        self.group: asyncio.TaskGroup
        self.dispatcher: Dispatcher

    def limits(self, place: int) -> Limits:
        plot = self.plot
        return Limits(rate=plot.rates[place], burst=plot.bursts[place], in_flight=plot.caps[place])

    def new_life(self) -> Dispatcher:
        routes = {
            name: Route(
                name=name,
                plan=self,
                sink="toy",
                limits=self.limits(place),
                share=Share(self.plot.weights[place], self.plot.priorities[place]),
                retry=RetryPolicy(attempts=2, backoff=0.0),
                batch_size=self.plot.batch,
                batch_wait=0.5,
            )
            for place, name in enumerate("ab")
        }
        self.shut = False
        self.dispatcher = Dispatcher(
            journal=self.journal, clock=self.clock, routes=routes, limits=self.limits(2)
        )
        return self.dispatcher

    def some_time(self) -> float:
        return random.uniform(0, self.plot.slowness) * random.choice([0, 0.01, 1])

    async def render(self, order: Order) -> str:
        return order.name

    async def exists(self, order: Order) -> bool:
        await asyncio.sleep(self.some_time())
        if self.troubles and random.random() < self.plot.trouble:
            self.troubles -= 1
            raise SinkUnavailable("connection reset")
        return order.name in self.known

    async def submit(self, order: Order) -> None:
        if self.shut:
            self.wrong.append("sent after the drain")
        self.sizes[order.name] = len(order.events)
        answer, before, after = "yes", self.some_time(), self.some_time()
        if self.troubles and random.random() < self.plot.trouble:
            self.troubles -= 1
            answer = random.choice(_TROUBLES)
        if answer == "store":
            await asyncio.sleep(before)
            raise StoreUnavailable("no link now")
        if answer == "late":
            self.group.create_task(self._arrive_late(order, before))
            await asyncio.sleep(after)
            raise SinkUnavailable("no answer")
        await asyncio.sleep(before)
        if any(int(event.data) in self.plot.refused for event in order.events):
            raise OrderRefused("Required value")
        if answer == "forbidden":
            raise OrderRefused("not now, but who knows that")
        if answer == "busy":
            raise SinkBusy("429", retry_after=1)
        if answer != "away":
            self.make(order)
        await asyncio.sleep(after)
        if answer in {"lost", "away"}:
            raise SinkUnavailable("connection reset")

    async def _arrive_late(self, order: Order, before: float) -> None:
        await asyncio.sleep(min(before, LATEST))
        if not any(int(event.data) in self.plot.refused for event in order.events):
            self.make(order)

    def make(self, order: Order) -> None:
        if order.name in self.known:
            return  # 409
        if order.name in {name for _, _, name in self.made}:
            self.wrong.append(f"{order.name} ran twice")
        self.known.add(order.name)
        self.living[order.name] = order.route
        self.made.append((self.clock.monotonic(), order.route, order.name))
        own, overall = self.plot.caps["ab".index(order.route)], self.plot.caps[2]
        if own is not None and Counter(self.living.values())[order.route] > own:
            self.wrong.append(f"{order.name} is one too many for its route")
        if overall is not None and len(self.living) > overall:
            self.wrong.append(f"{order.name} is one too many")
        self.group.create_task(self._run(order))

    async def _run(self, order: Order) -> None:
        await asyncio.sleep(self.some_time())
        failure = random.choice([None, None, None, Failure.INFRASTRUCTURE, Failure.SCRIPT])
        if any(int(event.data) in self.plot.bad for event in order.events):
            failure = Failure.SCRIPT
        del self.living[order.name]
        if failure is None:
            self.succeeded.update(event.key for event in order.events)
        self.ends[order.name] = Outcome(order=order.name, failure=failure)
        desk = self.dispatcher.desk("toy")
        await asyncio.gather(*(desk.report(self.ends[order.name]) for _ in range(2)))
        await asyncio.sleep(KEEP)
        self.known.discard(order.name)

    async def reconcile(self) -> None:
        """What a sink does first in a new life."""
        desk = self.dispatcher.desk("toy")
        for item in await desk.in_flight():
            if item.order in self.ends:
                await desk.report(self.ends[item.order])
            elif item.order in self.living:
                await desk.confirm([item.order])
            else:
                assert item.state is State.SUBMITTING
                await desk.retract([item.order], "never made")
        self.dispatcher.sink_is_ready("toy")

    async def give(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            key, data = event_key("s", number), str(number).encode()
            self.numbers[key] = number
            event = Event(
                key=key, source="s", kind="toy", subject="x", action=Action.MESSAGE, time=1.0, data=data
            )
            routes = (("a",), ("b",), ("a", "b"))[number % 3]
            await self.journal.append("s", [Admission(event, routes)], None)

    def check_choice(self, chosen: str) -> None:
        """At the moment at which a route may claim, nothing of a higher priority could."""
        routes, book, quiet = self.dispatcher._routes, self.dispatcher._book, self.dispatcher._neighbours
        for name, route in routes.items():
            more_urgent = route.share.priority > routes[chosen].share.priority
            ready = self.journal.may_be_claimed(name, self.plot.batch)
            if more_urgent and ready and book.room(name) >= 1 and quiet.room(route) >= 1:
                self.wrong.append(f"{chosen} goes before {name}")

    async def pause_and_resume(self) -> None:
        for route, after, seconds in self.plot.pauses:
            await asyncio.sleep(after)
            await self.journal.pause(route)
            await asyncio.sleep(seconds / 2)
            before = len(self.made)
            await asyncio.sleep(seconds / 2)
            late = [name for _, of, name in self.made[before:] if of == route]
            if seconds == PAUSED and late:
                self.wrong.append(f"{late} were made although {route} was paused")
            if seconds == PAUSED and any(item.route == route for item in await self.journal.in_flight()):
                self.wrong.append(f"{route} is paused, but something of it never ended")
            await self.journal.resume(route)

    async def until_settled(self) -> None:
        async with asyncio.timeout(3600):
            while (  # noqa: ASYNC110 - in virtual time this costs nothing
                await self.journal.deliveries(state=State.QUEUED) or await self.journal.in_flight()
            ):
                await asyncio.sleep(1)

    def check_rates(self) -> None:
        for place, names in enumerate(["a", "b", "ab"]):
            rate, burst = self.plot.rates[place], self.plot.bursts[place]
            times = [when for when, route, _ in self.made if route in names]
            for first, start in enumerate(times):
                for last in range(first, len(times) if rate is not None else 0):
                    assert last - first + 1 <= burst + (rate or 0) * (times[last] - start) + 1e-6

    async def check_ends(self) -> None:
        assert not self.wrong
        self.check_rates()
        for delivery in await self.journal.deliveries(limit=1000):
            if delivery.state is State.SUCCEEDED:
                assert self.succeeded[delivery.key] >= 1
                assert self.numbers[delivery.key] not in self.plot.bad | self.plot.refused
            else:
                assert delivery.state is State.DEAD
                assert delivery.outcome is not None
                # Of the failure of a batch nobody dies, unless it may have run.
                alone = self.sizes[delivery.order] == 1
                assert alone or delivery.outcome.failure is Failure.UNKNOWN
        shown = await self.journal.deliveries(limit=1000, state=State.SUCCEEDED)
        assert self.succeeded == Counter(delivery.key for delivery in shown)


@contextlib.asynccontextmanager
async def _life(world: World) -> Any:
    dispatcher = world.new_life()
    await dispatcher.restore()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(dispatcher.run())
        await world.reconcile()
        yield dispatcher
        task.cancel()


@contextlib.contextmanager
def _prepared(plot: Plot) -> Iterator[None]:
    random.seed(plot.seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WORKERS", plot.workers)
        patch.setattr(module, "_AHEAD", plot.ahead)
        yield


@given(plot=PLOTS)
def test_everything_ends_once_within_every_limit(plot: Plot) -> None:
    async def story() -> None:
        world = World(plot)
        await world.journal.open()
        async with asyncio.TaskGroup() as world.group, _life(world):
            pausing = world.group.create_task(world.pause_and_resume())
            await world.give(0, plot.events)
            await pausing
            await world.until_settled()
            await world.check_ends()
            # No slot, token or probe was lost on the way: more work is done as at first.
            await world.give(plot.events + 21, 6)
            await world.until_settled()
            await world.check_ends()
        # Nor did it ask again and again for what cannot go.
        given = plot.events + 6
        assert world.journal.claims < 200 + 20 * given
        assert world.journal.looks < 200 + 50 * given
        await world.journal.aclose()

    with _prepared(plot):
        run(story())


@settings(max_examples=300)
@given(plot=PLOTS, moment=st.one_of(st.floats(0, 0.01), st.floats(0, 15)))
def test_an_end_in_order_leaves_nothing_behind_and_the_next_life_goes_on(plot: Plot, moment: float) -> None:
    async def story() -> None:
        world = World(plot)
        await world.journal.open()
        async with asyncio.TaskGroup() as world.group:
            async with _life(world) as dispatcher:
                pausing = world.group.create_task(world.pause_and_resume())
                await world.give(0, plot.events)
                await asyncio.sleep(moment)
                await asyncio.wait_for(dispatcher.drain(), 600)
                world.shut = True
                pausing.cancel()
                await asyncio.sleep(LATEST)
            held = {item.order for item in await world.journal.in_flight()}
            assert set(world.living) <= held, "what runs is not in flight any more"
            paused = (await world.journal.stats()).paused
            async with _life(world):
                before = len(world.made)
                await asyncio.sleep(60)
                assert not [name for _, route, name in world.made[before:] if route in paused]
                for route in paused:
                    await world.journal.resume(route)
                await world.until_settled()
                await world.check_ends()
        await world.journal.aclose()

    with _prepared(plot):
        run(story())
