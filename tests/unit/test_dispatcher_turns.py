"""Who goes first, and who not at all: priorities and paused routes, as sinks and operators see them."""

import asyncio

import pytest

from dcnios_daemon.core.errors import SinkBusy, SinkUnavailable
from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Failure, Order, State
from dcnios_daemon.dispatch import dispatcher as module
from dcnios_daemon.dispatch.fairness import Share
from dcnios_daemon.dispatch.limits import Limits
from dcnios_daemon.dispatch.route import Route
from tests.unit.test_dispatcher import NO_LIMITS, House, ToyPlan
from tests.virtual import LoopClock, run


class Shared(House):
    """Two routes to one toy sink, which notes what comes in one list."""

    def __init__(self, *, urgent: Limits = NO_LIMITS, **house: object) -> None:
        super().__init__(clock=LoopClock(), **house)  # type: ignore[arg-type]
        self.routes["u"] = Route(
            name="u", plan=self.plan, sink="toy", limits=urgent, share=Share(0.01, priority=1)
        )
        self.dispatcher = self.make()

    def went(self) -> str:
        return "".join(order.route for order in self.plan.sent)


def test_an_urgent_route_gets_every_slot_that_comes_free() -> None:
    async def story() -> None:
        house = Shared(overall=Limits(in_flight=2))
        async with house.running():
            await house.give(20)
            await house.plan.until(2)
            await house.give_to("u", 3, start=100)
            for ended in range(8):
                await house.end((await house.plan.until(ended + 2))[ended])
            await house.plan.until(10)
        assert house.went() == "rr" + "uuu" + "rrrrr"

    run(story())


def test_what_an_urgent_flood_may_not_take_is_the_others() -> None:
    async def story() -> None:
        house = Shared(urgent=Limits(in_flight=1), overall=Limits(in_flight=3))
        async with house.running():
            await house.give_to("u", 20, start=100)
            await house.give(20)
            await house.plan.until(3)
        assert sorted(house.went()) == ["r", "r", "u"]

    run(story())


def test_an_urgent_route_whose_neighbour_is_away_stands_in_nobody_s_way() -> None:
    async def story() -> None:
        house, away = Shared(), ToyPlan()

        async def hang(order: Order) -> None:
            raise AssertionError(order)

        away.submit = hang  # type: ignore[method-assign]
        house.routes["u"] = Route(name="u", plan=away, sink="gone", share=Share(priority=9))
        house.dispatcher = house.make()
        async with house.running():
            await house.give_to("u", 20, start=100)
            await house.give(20)
            await house.plan.until(20)

    run(story())


def test_a_paused_route_lets_nothing_more_go_and_what_is_in_flight_ends_as_always() -> None:
    async def story() -> None:
        house = Shared(limits=Limits(in_flight=2), retry=RetryPolicy(backoff=0.1))
        async with house.running():
            await house.give(5)
            first, second = await house.plan.until(2)
            await house.journal.pause("r")
            await house.end(first)
            await house.until(State.SUCCEEDED)
            await house.end(second, Failure.INFRASTRUCTURE)
            await house.give_to("u", 3, start=100)
            await house.plan.until(5)
            await asyncio.sleep(3600)
            assert house.went() == "rruuu"
            assert (await house.journal.stats()).deliveries["r"] == {"succeeded": 1, "queued": 4}
            house.dispatcher.change(house.routes, house.overall)
            await asyncio.sleep(3600)
            assert house.went() == "rruuu"
            await house.journal.resume("r")
            again = (await house.plan.until(7))[5]
            assert (again.key, again.attempt) == (second.key, 2)

    run(story())


def test_a_pause_outlives_the_daemon() -> None:
    async def story() -> None:
        house = Shared()
        await house.journal.open()
        await house.give(1)
        await house.journal.pause("r")
        async with house.running():
            await asyncio.sleep(3600)
            assert not house.plan.sent
            await house.journal.resume("r")
            await house.plan.until(1)

    run(story())


def test_pausing_a_thousand_times_a_second_costs_no_event_and_sends_none_twice() -> None:
    async def story() -> None:
        house = Shared(limits=Limits(in_flight=3))
        async with house.running(), asyncio.TaskGroup() as group:
            ended = group.create_task(_end_all(house, 90))
            await house.give(90)
            while not ended.done():
                await house.journal.pause("r")
                await asyncio.sleep(0.0005)
                await house.journal.resume("r")
                await asyncio.sleep(0.0005)
            await house.until(State.SUCCEEDED, 90)
        assert len(house.plan.sent) == 90

    run(story())


async def _end_all(house: House, count: int) -> None:
    for number in range(count):
        await house.end((await house.plan.until(number + 1))[number])


class Slow(ToyPlan):
    """A neighbour that takes a while for each."""

    async def submit(self, order: Order) -> None:
        await super().submit(order)
        await asyncio.sleep(0.1)


@pytest.mark.usefixtures("_one_worker")
def test_what_stands_in_line_when_its_route_is_paused_is_queued_again() -> None:
    async def story() -> None:
        house = House(clock=LoopClock())
        slow = Slow()
        house.routes["r"] = Route(name="r", plan=slow, sink="toy")
        house.dispatcher = house.make()
        async with house.running():
            await house.give(20)
            await slow.until(3)
            await house.journal.pause("r")
            await asyncio.sleep(60)
            assert len(slow.sent) == 3
            assert (await house.journal.stats()).deliveries["r"] == {"running": 3, "queued": 17}
            await house.journal.resume("r")
            await slow.until(20)
            assert len({order.name for order in slow.sent}) == 20

    run(story())


def test_what_may_exist_is_sent_until_it_is_known_although_its_route_is_paused() -> None:
    """Its slot would be taken for nothing else."""

    async def story() -> None:
        house = House(clock=LoopClock())
        house.plan.answers = [SinkUnavailable("the answer was lost"), SinkBusy("429", retry_after=5)]
        async with house.running():
            await house.give(1)
            await house.plan.until(1)
            await house.journal.pause("r")
            await house.plan.until(3)
            await house.until(State.RUNNING)

    run(story())


@pytest.fixture
def _one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORKERS", 1)
