"""An order whose every try ends in a fault of the neighbour's, and the others that go there too."""

import asyncio

import pytest

from dcnios_daemon.core.errors import SinkBusy, SinkUnavailable
from dcnios_daemon.core.ports import Order, State
from dcnios_daemon.dispatch.fairness import Share
from dcnios_daemon.dispatch.route import Route
from tests.unit.test_dispatcher import House, ToyPlan
from tests.virtual import LoopClock, run


class Stumbling(ToyPlan):
    """A neighbour that fails at some orders, until it is mended."""

    def __init__(self) -> None:
        super().__init__()
        self.mended = False

    async def submit(self, order: Order) -> None:
        await super().submit(order)
        if not self.mended:
            raise SinkUnavailable("500 failed calling webhook")


class Poisoned(House):
    """One neighbour: at the orders of route ``r`` it stumbles, those of ``u`` are fine."""

    def __init__(self) -> None:
        super().__init__(clock=LoopClock())
        self.fine, self.bad = ToyPlan(), Stumbling()
        self.routes = {
            "r": Route(name="r", plan=self.bad, sink="toy"),
            "u": Route(name="u", plan=self.fine, sink="toy"),
        }
        self.dispatcher = self.make()

    async def went(self, count: int) -> None:
        """Wait until so many went well."""
        async with asyncio.timeout(3600), self.fine.arrived:
            await self.fine.arrived.wait_for(lambda: len(self.fine.sent) >= count)

    async def run_all(self, count: int) -> None:
        """Wait until all run."""
        await asyncio.sleep(120)
        assert len(await self.journal.deliveries(state=State.RUNNING, limit=1000)) == count


@pytest.mark.parametrize("poison", [1, 2, 40])
def test_an_order_that_always_fails_holds_up_nobody_else(poison: int) -> None:
    async def story() -> None:
        house = Poisoned()
        async with house.running():
            await house.give(poison)
            await asyncio.sleep(600)
            began = house.clock.monotonic()
            await house.give_to("u", 300, start=1000)
            await house.went(300)
            assert house.clock.monotonic() - began < 60 + 5 * poison
            house.bad.mended = True
            await house.run_all(300 + poison)

    run(story())


def test_who_comes_while_nothing_but_a_poison_fails_waits_for_a_moment_only() -> None:
    async def story() -> None:
        house = Poisoned()
        waited = []
        async with house.running():
            await house.give(1)
            for number in range(60):
                await asyncio.sleep(60)
                began = house.clock.monotonic()
                await house.give_to("u", 1, start=1000 + number)
                await house.went(number + 1)
                waited.append(house.clock.monotonic() - began)
        assert max(waited) < 2
        assert len(house.bad.sent) > 60

    run(story())


def test_a_neighbour_that_fails_at_all_is_asked_as_seldom_as_ever() -> None:
    async def story() -> None:
        house = Poisoned()
        house.routes["u"] = Route(name="u", plan=house.bad, sink="toy")
        house.dispatcher = house.make()
        async with house.running():
            await house.give(40)
            await house.give_to("u", 40, start=1000)
            await asyncio.sleep(60)
            asked = len(house.bad.sent)
            await asyncio.sleep(3000)
            assert len(house.bad.sent) - asked <= 200
            house.bad.mended = True
            await house.run_all(80)

    run(story())


class Full(ToyPlan):
    """What its orders need is taken: a quota for GPUs."""

    async def submit(self, order: Order) -> None:
        await super().submit(order)
        raise SinkBusy("exceeded quota: requests.nvidia.com/gpu")


@pytest.mark.parametrize("priority", [0, 1])
@pytest.mark.parametrize("held", [1, 40])
def test_routes_whose_orders_find_no_room_hold_up_no_other_whatever_their_priority(
    priority: int, held: int
) -> None:
    async def story() -> None:
        house = Poisoned()
        for name in ("q", "r"):
            house.routes[name] = Route(name=name, plan=Full(), sink="toy", share=Share(priority=priority))
        house.dispatcher = house.make()
        async with house.running():
            await house.give(held)
            await house.give_to("q", held, start=500)
            await asyncio.sleep(120)
            began = house.clock.monotonic()
            await house.give_to("u", 300, start=1000)
            await house.went(300)
            assert house.clock.monotonic() - began < 1800

    run(story())
