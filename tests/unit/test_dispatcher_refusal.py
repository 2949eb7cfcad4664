"""An order that is refused after a try without an answer: it may run, and then it counts."""

import asyncio

import pytest

from dcnios_daemon.core.errors import OrderRefused, SinkUnavailable
from dcnios_daemon.core.ports import Failure, Order, State
from dcnios_daemon.dispatch.doubts import LATE
from dcnios_daemon.dispatch.limits import Limits
from tests.unit.test_dispatcher import House
from tests.virtual import LoopClock, run

LOST, NO = SinkUnavailable("the answer was lost"), OrderRefused("forbidden")


def _house() -> House:
    house = House(clock=LoopClock(), limits=Limits(in_flight=1))
    house.plan.answers = [LOST, NO]
    return house


def test_it_keeps_its_slot_until_its_end_if_the_neighbour_has_it() -> None:
    async def story() -> None:
        house = _house()
        house.plan.there = True
        async with house.running():
            await house.give(3)
            order = (await house.plan.until(2))[1]
            await house.until(State.RUNNING)
            await asyncio.sleep(3600)
            assert len(house.plan.sent) == 2
            await house.end(order)
            await house.until(State.SUCCEEDED)
            assert (await house.plan.until(3))[2].key != order.key

    run(story())


def test_it_keeps_its_slot_as_long_as_the_first_try_may_yet_arrive() -> None:
    async def story() -> None:
        house = _house()
        async with house.running():
            await house.give(2)
            await house.plan.until(2)
            await asyncio.sleep(LATE / 2)
            house.plan.there = True
            await asyncio.sleep(LATE)
            [running] = await house.journal.deliveries(state=State.RUNNING)
            assert running.order == house.plan.sent[0].name
            assert len(house.plan.sent) == 2

    run(story())


def test_its_token_stays_taken_as_long() -> None:
    """It may be made at any moment; another beside it would be one too many."""

    async def story() -> None:
        house = House(clock=LoopClock(), limits=Limits(rate=10, burst=1))
        house.plan.answers = [LOST, NO]
        async with house.running():
            await house.give(2)
            await house.plan.until(2)
            await asyncio.sleep(LATE - 1)
            assert len(house.plan.sent) == 2
            await house.plan.until(3)

    run(story())


def test_its_token_holds_nobody_up_once_the_first_try_can_arrive_no_more() -> None:
    async def story() -> None:
        house = House(clock=LoopClock(), limits=Limits(rate=10, burst=1))
        house.plan.answers = [LOST, NO]

        async def cannot_tell(order: Order) -> bool:
            raise LOST

        house.plan.exists = cannot_tell  # type: ignore[method-assign]
        async with house.running():
            await house.give(2)
            await house.plan.until(2)
            await asyncio.sleep(LATE)
            await house.plan.until(3)
            assert len(await house.journal.in_flight()) == 2

    run(story())


def test_it_is_dead_as_unknown_once_it_is_seen_not_to_exist() -> None:
    async def story() -> None:
        house = _house()
        async with house.running():
            await house.give(2)
            await house.plan.until(2)
            await asyncio.sleep(LATE - 1)
            assert len(house.plan.sent) == 2
            [dead] = await house.until(State.DEAD)
            assert dead.outcome is not None
            assert dead.outcome.failure is Failure.UNKNOWN
            assert dead.outcome.message.startswith("forbidden; an earlier try has had no answer")
            assert len(await house.plan.until(3)) == 3

    run(story())


@pytest.mark.parametrize("error", [SinkUnavailable("away"), NO, KeyError("surprise")], ids=repr)
def test_as_long_as_nobody_can_tell_it_counts_as_there(error: Exception) -> None:
    async def story() -> None:
        house = _house()

        async def cannot_tell(order: Order) -> bool:
            raise error

        house.plan.exists = cannot_tell  # type: ignore[method-assign]
        async with house.running():
            await house.give(2)
            order = (await house.plan.until(2))[1]
            await asyncio.sleep(10 * LATE)
            assert len(house.plan.sent) == 2
            await house.end(order)
            await house.until(State.SUCCEEDED)
            await house.plan.until(3)

    run(story())


def test_a_stop_meanwhile_leaves_it_in_flight_for_the_next_life_to_look_for() -> None:
    async def story() -> None:
        house = _house()
        async with house.running():
            await house.give(1)
            await house.plan.until(2)
            await asyncio.wait_for(house.dispatcher.drain(), 5)
            assert len(await house.journal.in_flight()) == 1

    run(story())
