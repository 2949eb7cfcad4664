"""Orders for several events: one outcome for all, and what becomes of the good ones when it is a bad one."""

import json

import msgspec
import pytest

from dcnios_daemon.core.errors import OrderRefused, SinkUnavailable
from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Failure, Order, State
from tests.unit.test_dispatcher import House, ToyPlan
from tests.virtual import LoopClock, run

ONCE = RetryPolicy(attempts=1, on=frozenset())


@pytest.mark.parametrize("failure", [Failure.SCRIPT, Failure.DEADLINE, Failure.INFRASTRUCTURE])
def test_the_good_events_of_a_failed_batch_run_again_alone_and_the_bad_one_dies_of_its_own(
    failure: Failure,
) -> None:
    async def story() -> None:
        house = House(clock=LoopClock(), batch_size=5, batch_wait=1.0, retry=ONCE)
        async with house.running():
            keys = await house.give(5)
            [batch] = await house.plan.until(1)
            await house.end(batch, failure, message="one of five")
            alone = (await house.plan.until(6))[1:]
            assert [order.key for order in alone] == keys
            assert {(order.attempt, len(order.events)) for order in alone} == {(2, 1)}
            for order in alone:
                bad = order.key == keys[3]
                await house.end(order, Failure.SCRIPT if bad else None, message="its own" if bad else "")
            await house.until(State.SUCCEEDED, 4)
            [dead] = await house.until(State.DEAD)
            assert dead.outcome is not None
            assert (dead.key, dead.attempt, dead.outcome.message) == (keys[3], 2, "its own")
            assert len(house.plan.sent) == 6

    run(story())


def test_a_batch_that_may_have_run_is_left_to_the_policy() -> None:
    async def story() -> None:
        house = House(clock=LoopClock(), batch_size=3, batch_wait=1.0)
        async with house.running():
            await house.give(3)
            [batch] = await house.plan.until(1)
            await house.end(batch, Failure.UNKNOWN, reason="Gone")
            assert len(await house.until(State.DEAD, 3)) == 3
        willing = House(
            clock=LoopClock(),
            batch_size=3,
            batch_wait=1.0,
            retry=RetryPolicy(on=frozenset({Failure.UNKNOWN})),
        )
        async with willing.running():
            await willing.give(3)
            [batch] = await willing.plan.until(1)
            await willing.end(batch, Failure.UNKNOWN, reason="Gone")
            assert [len(order.events) for order in await willing.plan.until(4)] == [3, 1, 1, 1]

    run(story())


class Narrow(ToyPlan):
    """Takes no more than so many bytes."""

    async def submit(self, order: Order) -> None:
        await super().submit(order)
        if len(order.payload) > 12:
            raise OrderRefused("too large")


def test_a_batch_that_is_too_large_goes_in_pieces() -> None:
    async def story() -> None:
        house = House(clock=LoopClock(), batch_size=5, batch_wait=1.0, retry=ONCE)
        house.plan = narrow = Narrow()
        house.routes = {"r": msgspec.structs.replace(house.routes["r"], plan=narrow)}
        house.dispatcher = house.make()
        async with house.running():
            await house.give(5)
            sent = await narrow.until(6)
            assert json.loads(sent[0].payload) == {"events": [0, 1, 2, 3, 4]}
            assert len(await house.until(State.RUNNING, 5)) == 5

    run(story())


def test_a_lost_answer_does_not_part_a_batch() -> None:
    async def story() -> None:
        house = House(clock=LoopClock(), batch_size=4, batch_wait=1.0)
        house.plan.answers = [SinkUnavailable("the answer was lost")]
        async with house.running():
            await house.give(4)
            first, second = await house.plan.until(2)
            assert first.name == second.name
            await house.end(second)
            await house.until(State.SUCCEEDED, 4)

    run(story())
