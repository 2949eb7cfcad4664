"""Who goes first, and who not at all: priorities and paused routes, as sinks and operators see them."""

from dcnios_daemon.core.ports import Order
from dcnios_daemon.dispatch.fairness import Share
from dcnios_daemon.dispatch.route import Limits, Route
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
