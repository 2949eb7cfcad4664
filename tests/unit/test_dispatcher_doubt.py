"""An order that may exist at the neighbour, and orders whose route or sink is not what it was."""

import asyncio
import weakref
from collections.abc import Sequence
from typing import Any

import pytest

from dcnios_daemon.core.errors import (
    DcniosError,
    JournalUnavailable,
    OrderRefused,
    SinkBusy,
    SinkUnavailable,
    StoreUnavailable,
)
from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Failure, Order, State
from dcnios_daemon.dispatch import dispatcher as module
from dcnios_daemon.dispatch import doubts, neighbours, submission, until_written
from dcnios_daemon.dispatch.limits import Limits
from dcnios_daemon.dispatch.orders import OrderBook
from dcnios_daemon.dispatch.route import Route
from tests.unit.test_dispatcher import House, ToyPlan
from tests.virtual import LoopClock, run

LOST = SinkUnavailable("the answer was lost")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(neighbours, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(doubts, "LATE", 0.01)


@pytest.mark.parametrize(
    "later",
    [SinkBusy("exceeded quota", retry_after=60), StoreUnavailable("no link now")],
    ids=lambda error: type(error).__name__,
)
async def test_a_busy_neighbour_does_not_end_the_doubt_about_an_earlier_try(later: DcniosError) -> None:
    """The quota was full *because* the first try had made the Job. Its end must settle the delivery."""
    house = House(limits=Limits(in_flight=1))
    house.plan.answers = [LOST, *[later] * 1000]
    async with house.running():
        await house.give(2)
        order = (await house.plan.until(2))[1]
        stats = await house.journal.stats()
        assert stats.in_flight() == 1
        house.plan.answers.clear()
        await house.end(order)
        await house.until(State.SUCCEEDED)


async def test_what_is_refused_after_a_try_without_an_answer_may_have_run() -> None:
    house = House()
    house.plan.answers = [LOST, OrderRefused("forbidden")]
    async with house.running():
        await house.give(1)
        [dead] = await house.until(State.DEAD)
    assert dead.outcome is not None
    assert dead.outcome.failure is Failure.UNKNOWN
    assert dead.outcome.message.startswith("forbidden; an earlier try has had no answer")


async def test_a_sink_s_surprise_may_have_come_after_the_order_was_made() -> None:
    house = House()
    house.plan.answers = [KeyError("surprise")]
    async with house.running():
        await house.give(1)
        [dead] = await house.until(State.DEAD)
    assert dead.outcome is not None
    assert dead.outcome.failure is Failure.UNKNOWN


async def test_draining_leaves_what_may_exist_in_flight() -> None:
    house = House()
    house.plan.answers = [LOST] * 1000
    async with house.running():
        await house.give(1)
        await house.plan.until(2)
        await asyncio.wait_for(house.dispatcher.drain(), 5)
        [held] = await house.journal.in_flight()
        assert held.state is State.SUBMITTING


async def test_a_claim_that_was_under_way_when_draining_began_is_given_back() -> None:
    house = House()
    claim, go = house.journal.claim, asyncio.Event()
    claiming = asyncio.Event()

    async def slow(route: str, orders: int, **more: Any) -> object:
        claims = await claim(route, orders, **more)
        claiming.set()
        await go.wait()
        return claims

    house.journal.claim = slow  # type: ignore[method-assign, assignment]
    async with house.running(), asyncio.TaskGroup() as group:
        await house.give(3)
        await claiming.wait()
        drained = group.create_task(house.dispatcher.drain())
        await asyncio.sleep(0)
        go.set()
        await asyncio.wait_for(drained, 5)
        assert not house.plan.sent
        assert len(await house.journal.deliveries(state=State.QUEUED)) == 3


async def test_a_sink_that_never_answers_holds_no_worker_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "ANSWER_WITHIN", 0.01)
    house = House()
    submit, tries = house.plan.submit, 0

    async def deaf(order: Order) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await asyncio.Event().wait()
        await submit(order)

    house.plan.submit = deaf  # type: ignore[method-assign]
    async with house.running():
        await house.give(1)
        await house.until(State.RUNNING)
    assert tries == 2


async def test_a_neighbour_that_asks_for_a_year_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "LONGEST_ASKED", 0.01)
    house = House()
    house.plan.answers = [SinkBusy("429", retry_after=31_536_000)]
    async with house.running():
        await house.give(1)
        await house.until(State.RUNNING)


async def test_a_missing_store_does_not_send_the_backlog_through_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbours, "FIRST_PAUSE", 30)
    monkeypatch.setattr(neighbours, "LONGEST_PAUSE", 30)
    house = House(limits=Limits(in_flight=1))
    house.plan.answers = [StoreUnavailable("no link now")] * 1000
    async with house.running():
        await house.give(500)
        other = ToyPlan()
        house.dispatcher.change(
            house.routes | {"other": Route(name="other", plan=other, sink="toy")}, house.overall
        )
        await house.give_to("other", 1, start=500)
        await other.until(1)
        assert len(house.plan.sent) == 1


async def test_an_order_in_doubt_goes_where_it_went_although_its_route_is_another_s_now() -> None:
    house = House()
    house.plan.answers = [LOST] * 1000
    async with house.running():
        await house.give(1)
        await house.plan.until(1)
        elsewhere = ToyPlan()
        house.dispatcher.change({"r": Route(name="r", plan=elsewhere, sink="other")}, house.overall)
        house.dispatcher.sink_is_ready("other")
        order = (await house.plan.until(3))[2]
        assert [item.order for item in await house.dispatcher.desk("toy").in_flight()] == [order.name]
        assert not await house.dispatcher.desk("other").in_flight()
        await house.give(1, start=1)
        await elsewhere.until(1)
        assert [sent.key for sent in elsewhere.sent] != [order.key]


async def test_a_new_address_is_for_new_orders_and_the_old_plan_is_kept_until_nobody_needs_it() -> None:
    """Only the neighbour that was asked can say whether it has the order: asking another may run it twice."""
    house = House(neighbour="http://old")
    house.plan.answers = [None, *(SinkUnavailable("lost") for _ in range(10_000))]
    old, elsewhere = weakref.ref(house.plan), ToyPlan()
    async with house.running():
        await house.give(1)
        await house.end((await house.plan.until(1))[0])
        await house.until(State.SUCCEEDED)
        await house.give(1, start=1)
        await house.plan.until(2)
        await _readdress(house, elsewhere)
        order = house.plan.sent[-1]
        await house.give(1, start=2)
        [other] = await elsewhere.until(1)
        assert {sent.name for sent in house.plan.sent[1:]} == {order.name}
        assert other.name != order.name
        assert {state.neighbour for state in house.dispatcher.neighbours()} == {"http://old", "http://new"}
        house.plan.answers.clear()
        await house.until(State.RUNNING, 2)
        await house.end(order)
        await house.until(State.SUCCEEDED, 2)
        assert len(elsewhere.sent) == 1
        house.plan = elsewhere
        await _gone(old)
        assert {state.neighbour for state in house.dispatcher.neighbours()} == {"http://new"}


async def _readdress(house: House, plan: ToyPlan) -> None:
    house.routes["r"] = Route(name="r", plan=plan, sink="toy", neighbour="http://new")
    house.dispatcher.change(house.routes, house.overall)


async def _gone(old: "weakref.ref[ToyPlan]") -> None:
    async with asyncio.timeout(10):
        while old() is not None:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.005)


async def test_the_plan_of_a_route_that_is_gone_is_kept_until_its_last_order_has_ended() -> None:
    house, other = House(), ToyPlan()
    old = weakref.ref(house.plan)
    async with house.running():
        await house.give(1)
        [order] = await house.plan.until(1)
        await house.until(State.RUNNING)
        house.routes = {"o": Route(name="o", plan=other, sink="toy")}
        house.plan = other
        house.dispatcher.change(house.routes, house.overall)
        await house.give_to("o", 1, start=1)
        await other.until(1)
        assert old() is not None
        await house.end(order)
        await house.until(State.SUCCEEDED)
        await _gone(old)


async def test_noting_a_start_late_does_not_touch_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk failed while the start was to be noted; meanwhile the run failed and is tried again."""
    monkeypatch.setattr(until_written, "_PAUSE", 0.01)
    house = House(retry=RetryPolicy(attempts=2, backoff=0.0))
    started, failing, second = house.journal.started, asyncio.Event(), asyncio.Event()

    async def rough(deliveries: Sequence[int]) -> None:
        if len(house.plan.sent) == 1:
            failing.set()
            await second.wait()
            raise JournalUnavailable("no space left on device")
        await started(deliveries)

    house.journal.started = rough  # type: ignore[method-assign]
    async with house.running():
        await house.give(1)
        await house.plan.until(1)
        await failing.wait()
        house.plan.answers = [LOST] * 10_000
        await house.end(house.plan.sent[0], Failure.INFRASTRUCTURE)
        await house.plan.until(2)
        second.set()
        await house.plan.until(10)
        [held] = await house.journal.in_flight()
        assert (held.attempt, held.state) == (2, State.SUBMITTING)


class Blocked(ToyPlan):
    """Another sink's plan that holds the only worker until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def submit(self, order: Order) -> None:
        await super().submit(order)
        await self.go.wait()


async def _stand_in_line(house: House) -> tuple[Order, Blocked]:
    """An order in doubt that stands in line to be sent again, behind one that takes long."""
    blocked = Blocked()
    house.plan.answers = [LOST]
    other = Route(name="other", plan=blocked, sink="other")
    house.dispatcher.change(house.routes | {"other": other}, house.overall)
    house.dispatcher.sink_is_ready("other")
    await house.give(1)
    [order] = await house.plan.until(1)
    await house.give_to("other", 1, start=1000)
    await blocked.until(1)
    await asyncio.sleep(5)
    return order, blocked


@pytest.fixture
def _one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORKERS", 1)


@pytest.mark.usefixtures("_one_worker")
def test_draining_leaves_in_flight_what_stands_in_line_to_be_sent_again() -> None:
    async def story() -> None:
        house = House(clock=LoopClock())
        async with house.running(), asyncio.TaskGroup() as group:
            order, blocked = await _stand_in_line(house)
            drained = group.create_task(house.dispatcher.drain())
            await asyncio.sleep(1)
            blocked.go.set()
            await drained
            assert order.name in {item.order for item in await house.journal.in_flight()}
            assert len(house.plan.sent) == 1

    run(story())


@pytest.mark.usefixtures("_one_worker")
@pytest.mark.parametrize("slow_disk", [False, True])
def test_an_order_whose_outcome_came_while_it_stood_in_line_is_not_sent(*, slow_disk: bool) -> None:
    """What has ended may be cleaned up at any moment: sending it then would run it twice."""

    async def story() -> None:
        house = House(clock=LoopClock(), limits=Limits(in_flight=1))
        finish = house.journal.finish

        async def slow(*arguments: object) -> int:
            await asyncio.sleep(10 if slow_disk else 0)
            return await finish(*arguments)  # type: ignore[arg-type]

        house.journal.finish = slow  # type: ignore[method-assign, assignment]
        async with house.running(), asyncio.TaskGroup() as group:
            order, blocked = await _stand_in_line(house)
            reported = group.create_task(house.end(order))
            await asyncio.sleep(1)
            blocked.go.set()
            await reported
            await asyncio.sleep(60)
            assert len(house.plan.sent) == 1
            await house.give(1, start=1)
            assert (await house.plan.until(2))[1].name != order.name

    run(story())


@pytest.mark.usefixtures("_one_worker")
def test_what_was_claimed_before_the_neighbour_asked_for_time_is_not_sent_either() -> None:
    async def story() -> None:
        house = House(clock=LoopClock())
        house.plan.answers = [SinkBusy("429", retry_after=60)]
        async with house.running():
            await house.give(20)
            await asyncio.sleep(59)
            assert len(house.plan.sent) == 1
            assert not await house.journal.in_flight()
            await asyncio.sleep(5)
            assert len({order.name for order in house.plan.sent}) == 20

    run(story())


def test_closing_an_order_late_does_not_free_the_slot_of_its_second_claim() -> None:
    async def story() -> None:
        house = House(clock=LoopClock(), limits=Limits(in_flight=1))
        await house.journal.open()
        await house.give(1)
        book = OrderBook(house.routes, house.overall, house.clock)
        claims = await house.journal.claim("r", 1)
        [first] = book.open(claims, house.routes["r"])
        book.close(first)
        [second] = book.open(claims, house.routes["r"])
        book.close(first)
        assert book.get(second.name) is second
        assert book.room("r") == 0
        await house.journal.aclose()

    run(story())


def test_a_clock_set_back_while_the_disk_is_full_holds_no_retry_back() -> None:
    """Seen in a storm: what had failed with the clock a day ahead was to be tried again a day later."""

    async def story() -> None:
        clock = LoopClock()
        house = House(clock=clock, retry=RetryPolicy(attempts=2))
        finish, tries = house.journal.finish, []

        async def full_at_first(*arguments: Any) -> int:
            tries.append(arguments)
            if len(tries) > 1:
                return await finish(*arguments)
            clock.ahead -= 97_000
            raise JournalUnavailable("disk is full")

        house.journal.finish = full_at_first  # type: ignore[method-assign, assignment]
        async with house.running():
            await house.give(1)
            clock.ahead += 97_000
            await house.end((await house.plan.until(1))[0], Failure.INFRASTRUCTURE)
            assert (await house.plan.until(2))[1].attempt == 2

    run(story())


def test_a_disk_that_is_full_at_the_start_is_waited_for() -> None:
    """Seen in a storm: the daemon ended, for it could not read what an earlier life had left."""

    async def story() -> None:
        house = House(clock=LoopClock())
        look, tries = house.journal.in_flight, []

        async def full_at_first() -> Any:
            tries.append(1)
            if len(tries) < 3:
                raise JournalUnavailable("disk is full")
            return await look()

        house.journal.in_flight = full_at_first  # type: ignore[method-assign]
        async with house.running():
            await house.give(1)
            await house.plan.until(1)

    run(story())
