"""The dispatcher against a neighbour that is slow, busy, forgetful, or answers after the fact.

Time is virtual. What is asserted is what the neighbour sees (never more at once, never faster, nothing
twice) and what the operator sees (everything ends, nothing hangs, an end in order leaves nothing behind).
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcnios_daemon.buffer.memory import MemoryJournal
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
from dcnios_daemon.dispatch.route import Limits, Route
from tests.virtual import LoopClock, run

KEEP = 60.0
"""Seconds that what has ended can still be found by its name."""
LATEST = 4.0
"""Seconds after which a lost request arrives nowhere any more."""


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
    events: int
    workers: int
    ahead: int
    seed: int


_LIMIT = st.tuples(*[st.one_of(st.none(), st.integers(1, 4))] * 3)
_RATE = st.tuples(*[st.one_of(st.none(), st.sampled_from([0.5, 2.0, 7.0]))] * 3)
_TROUBLES = ("lost", "late", "away", "busy", "store")
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
        self.claims = self.looks = 0

    async def _disk_turns(self) -> None:
        await asyncio.sleep(0.001)
        if self._left and random.random() < self._plot.trouble:
            self._left -= 1
            await asyncio.sleep(random.uniform(0, self._plot.slowness))
            raise JournalUnavailable("no space left on device")

    async def claim(self, route: str, orders: int, **more: Any) -> Any:
        self.claims += 1
        await self._disk_turns()
        made = await super().claim(route, orders, **more)
        await asyncio.sleep(0)
        return made

    async def stats(self) -> Stats:
        self.looks += 1
        return await super().stats()

    async def started(self, deliveries: Sequence[int]) -> None:
        await self._disk_turns()
        await super().started(deliveries)

    async def release(self, deliveries: Sequence[int], *, at: float | None, note: str) -> None:
        await self._disk_turns()
        await super().release(deliveries, at=at, note=note)
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

    async def submit(self, order: Order) -> None:
        if self.shut:
            self.wrong.append("sent after the drain")
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
            event = Event(
                key=key, source="s", kind="toy", subject="x", action=Action.MESSAGE, time=1.0, data=data
            )
            routes = (("a",), ("b",), ("a", "b"))[number % 3]
            await self.journal.append("s", [Admission(event, routes)], None)

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
            else:
                assert delivery.state is State.DEAD
                assert delivery.outcome is not None
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


@settings(deadline=None)
@given(plot=PLOTS)
def test_everything_ends_once_within_every_limit(plot: Plot) -> None:
    async def story() -> None:
        world = World(plot)
        await world.journal.open()
        async with asyncio.TaskGroup() as world.group, _life(world):
            await world.give(0, plot.events)
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


@settings(deadline=None, max_examples=300)
@given(plot=PLOTS, moment=st.one_of(st.floats(0, 0.01), st.floats(0, 15)))
def test_an_end_in_order_leaves_nothing_behind_and_the_next_life_goes_on(plot: Plot, moment: float) -> None:
    async def story() -> None:
        world = World(plot)
        await world.journal.open()
        async with asyncio.TaskGroup() as world.group:
            async with _life(world) as dispatcher:
                await world.give(0, plot.events)
                await asyncio.sleep(moment)
                await asyncio.wait_for(dispatcher.drain(), 600)
                world.shut = True
                await asyncio.sleep(LATEST)
            held = {item.order for item in await world.journal.in_flight()}
            assert set(world.living) <= held, "what runs is not in flight any more"
            async with _life(world):
                await world.until_settled()
                await world.check_ends()
        await world.journal.aclose()

    with _prepared(plot):
        run(story())
