"""The dispatcher as a sink and an operator see it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from msgspec.structs import replace

from dcnios_daemon.core.clock import Clock, SystemClock
from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkUnavailable, StoreUnavailable
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Admission, Delivery, Failure, Order, Outcome, State
from dcnios_daemon.dispatch import doubts, neighbours, pace
from dcnios_daemon.dispatch.dispatcher import Dispatcher
from dcnios_daemon.dispatch.limits import Limits
from dcnios_daemon.dispatch.route import Route
from dcnios_daemon.dispatch.voice import Deaths
from dcnios_daemon.telemetry.events import DeliveriesDied, Signal
from tests.clocks import ManualClock
from tests.fakes.memory_journal import MemoryJournal

NO_LIMITS = Limits()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(neighbours, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(doubts, "LATE", 0.01)


class ToyPlan:
    """A sink's plan that notes what it is sent and does what the test says."""

    def __init__(self) -> None:
        self.sent: list[Order] = []
        self.answers: list[Exception | None] = []
        self.arrived = asyncio.Condition()
        self.there = False
        """What it says when asked for an order."""

    async def render(self, order: Order) -> str:
        return order.name

    async def submit(self, order: Order) -> None:
        async with self.arrived:
            self.sent.append(order)
            self.arrived.notify_all()
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer

    async def exists(self, order: Order) -> bool:
        return self.there

    async def until(self, number: int) -> Sequence[Order]:
        async with asyncio.timeout(10), self.arrived:
            await self.arrived.wait_for(lambda: len(self.sent) >= number)
        return self.sent


class House:
    """A journal and a dispatcher with one route to a toy sink."""

    def __init__(
        self,
        *,
        limits: Limits = NO_LIMITS,
        overall: Limits = NO_LIMITS,
        clock: Clock | None = None,
        **route: object,
    ) -> None:
        self.plan = ToyPlan()
        self.clock = clock or SystemClock()
        self.journal = MemoryJournal(clock=self.clock)
        self.changed = asyncio.Event()
        self.journal.on_change(self.changed.set)
        self.routes = {
            "r": Route(name="r", plan=self.plan, sink="toy", limits=limits, **route)  # type: ignore[arg-type]
        }
        self.overall = overall
        self.dispatcher = self.make()

    def make(self) -> Dispatcher:
        return Dispatcher(journal=self.journal, clock=self.clock, routes=self.routes, limits=self.overall)

    async def give(self, count: int, *, start: int = 0) -> list[str]:
        return await self.give_to("r", count, start=start)

    async def give_to(self, route: str, count: int, *, start: int = 0) -> list[str]:
        events = [
            Event(
                key=event_key("s", number),
                source="s",
                kind="toy",
                subject=f"x/{number}",
                action=Action.MESSAGE,
                time=1.0,
                data=b"%d" % number,
            )
            for number in range(start, start + count)
        ]
        await self.journal.append("s", [Admission(event, (route,)) for event in events], None)
        return [event.key for event in events]

    async def end(self, order: Order, failure: Failure | None = None, **more: object) -> None:
        outcome = Outcome(order=order.name, failure=failure, **more)  # type: ignore[arg-type]
        await self.dispatcher.desk("toy").report(outcome)

    async def until(self, state: State, count: int = 1) -> Sequence[Delivery]:
        """Wait until so many deliveries are in the state."""

        async def look() -> Sequence[Delivery]:
            while True:
                self.changed.clear()
                found = await self.journal.deliveries(state=state)
                if len(found) >= count:
                    return found
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), 0.05)

        return await asyncio.wait_for(look(), 10)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.journal.open()
        await self.dispatcher.restore()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.dispatcher.run())
            self.dispatcher.sink_is_ready("toy")
            try:
                yield
            finally:
                task.cancel()
        await self.journal.aclose()


async def test_a_neighbour_that_hangs_leaves_workers_for_others() -> None:
    class Hanging(ToyPlan):
        async def submit(self, order: Order) -> None:
            await super().submit(order)
            await asyncio.Event().wait()

    house, other = House(neighbour="here"), ToyPlan()
    hanging = Hanging()
    house.routes["r"] = Route(name="r", plan=hanging, sink="toy", neighbour="here")
    house.routes["o"] = Route(name="o", plan=other, sink="toy", neighbour="there")
    house.dispatcher = house.make()
    async with house.running():
        await house.give(200)
        await hanging.until(pace.FIRST)
        await house.give_to("o", 100, start=1000)
        await other.until(100)
        assert len(hanging.sent) == pace.FIRST


async def test_a_neighbour_that_takes_its_time_by_nature_has_as_many_to_answer_as_is_good() -> None:
    class Patient(ToyPlan):
        async def submit(self, order: Order) -> None:
            await super().submit(order)
            if len(self.sent) > 40:
                await asyncio.Event().wait()

    house = House(neighbour="here")
    patient = Patient()
    house.routes["r"] = Route(name="r", plan=patient, sink="toy", neighbour="here", at_once=4)
    house.dispatcher = house.make()
    async with house.running():
        await house.give(200)
        await patient.until(44)
        await house.until(State.RUNNING, 40)
        [state] = house.dispatcher.neighbours()
        assert (state.at_once, state.unanswered, len(patient.sent)) == (4, 4, 44)


async def test_a_neighbour_that_is_away_holds_up_its_own_routes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one kind of sink, but not of one address."""
    monkeypatch.setattr(neighbours, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(neighbours, "LONGEST_PAUSE", 3600.0)
    house, other = House(neighbour="here"), ToyPlan()
    house.routes["o"] = Route(name="o", plan=other, sink="toy", neighbour="there")
    house.dispatcher = house.make()
    house.plan.answers = [SinkUnavailable("away")]
    async with house.running():
        await house.give(1)
        await house.plan.until(1)
        await house.give_to("o", 3, start=10)
        await other.until(3)
        assert len(house.plan.sent) == 1


async def test_what_is_said_of_each_event_is_debug_whatever_becomes_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the level that people run with, a log does not grow with what goes through."""
    said: list[Signal] = []
    monkeypatch.setattr(Signal, "emit", lambda self: said.append(self))  # noqa: PLW0108 - a method
    house = House(retry=RetryPolicy(attempts=1))
    house.plan.answers = [StoreUnavailable("no link now"), None, None, OrderRefused("too large")]
    async with house.running():
        await house.give(3)
        sent = await house.plan.until(4)
        taken = [order for order in {order.name: order for order in sent}.values() if order is not sent[3]]
        await house.until(State.RUNNING, 2)
        await house.end(taken[0])
        await house.end(taken[1], Failure.SCRIPT, exit_code=3)
        await house.until(State.DEAD, 2)
        await house.until(State.SUCCEEDED)
    of_orders = [one for one in said if hasattr(one, "order")]
    assert {one.name for one in of_orders} == {"order.submitted", "order.put_off", "order.ended"}
    assert {one.level for one in of_orders} == {"debug"}
    [died] = [one for one in said if isinstance(one, DeliveriesDied)]
    assert (died.route, died.died, died.level) == ("r", 1, "warning"), "the second is not said for a minute"


def test_how_many_died_is_said_once_a_minute_for_each_route(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[DeliveriesDied] = []
    monkeypatch.setattr(DeliveriesDied, "emit", lambda self: said.append(self))  # noqa: PLW0108 - a method
    clock = ManualClock()
    deaths = Deaths(clock)
    for _ in range(150):
        for route, size in (("one", 1), ("batched", 10)):
            deaths.died(route, deliveries=size, result="script", reason="Error")
        clock.pass_time(1)
    assert [one.died for one in said if one.route == "one"] == [1, 60, 60]
    assert [one.died for one in said if one.route == "batched"] == [10, 600, 600]


async def test_an_event_becomes_an_order_and_its_outcome_settles_it() -> None:
    house = House()
    async with house.running():
        [key] = await house.give(1)
        [order] = await house.plan.until(1)
        assert (order.key, order.attempt, order.payload) == (key, 1, b"0")
        await house.until(State.RUNNING)
        await house.end(order, exit_code=0)
        [done] = await house.until(State.SUCCEEDED)
        assert done.order == order.name


async def test_never_more_in_flight_than_the_cap() -> None:
    house = House(limits=Limits(in_flight=3))
    async with house.running():
        await house.give(30)
        for ended in range(30):
            sent = await house.plan.until(min(ended + 3, 30))
            assert len(sent) - ended <= 3
            await house.end(sent[ended])
        await house.until(State.SUCCEEDED, 30)
    assert len({order.name for order in house.plan.sent}) == 30


async def test_the_cap_over_all_routes_holds_as_well() -> None:
    house = House(overall=Limits(in_flight=2))
    async with house.running():
        await house.give(5)
        sent = await house.plan.until(2)
        await house.until(State.RUNNING, 2)
        assert len(sent) == 2
        stats = await house.journal.stats()
        assert stats.in_flight() == 2


async def test_what_an_earlier_life_left_in_flight_counts() -> None:
    house = House(limits=Limits(in_flight=2))
    async with house.running():
        await house.give(4)
        await house.plan.until(2)
        await house.until(State.RUNNING, 2)
        house.dispatcher = house.make()
        house.plan.sent.clear()
        async with asyncio.TaskGroup() as group:
            await house.dispatcher.restore()
            house.dispatcher.sink_is_ready("toy")
            second = group.create_task(house.dispatcher.run())
            left = await house.journal.in_flight()
            await house.dispatcher.desk("toy").report(Outcome(order=left[0].order))
            sent = await house.plan.until(1)
            assert len(sent) == 1
            second.cancel()


async def test_an_order_that_an_earlier_life_made_without_noting_it_is_running() -> None:
    house = House()
    async with house.running():
        await house.give(1)
        [claim] = await house.journal.claim("r", 1)
        later = house.make()
        await later.restore()
        await later.desk("toy").confirm([claim.order])
        [running] = await house.journal.deliveries(state=State.RUNNING)
        assert running.order == claim.order


@pytest.mark.parametrize(
    "answer",
    [SinkBusy("429", retry_after=0.01), SinkUnavailable("timeout"), StoreUnavailable("no link now")],
    ids=lambda answer: type(answer).__name__,
)
async def test_a_neighbour_s_bad_moment_burns_no_attempt(answer: Exception) -> None:
    house = House()
    house.plan.answers = [answer]
    async with house.running():
        await house.give(1)
        first, second = (await house.plan.until(2))[:2]
        assert first.name == second.name
        assert second.attempt == 1
        await house.end(second)
        await house.until(State.SUCCEEDED)


async def test_an_order_in_doubt_keeps_its_slot() -> None:
    house = House(limits=Limits(in_flight=1))
    house.plan.answers = [SinkUnavailable("the answer was lost")] * 3
    async with house.running():
        await house.give(5)
        sent = await house.plan.until(4)
        assert len({order.name for order in sent}) == 1


async def test_a_refused_order_is_dead_with_the_sink_s_words_and_replay_makes_another_attempt() -> None:
    house = House()
    house.plan.answers = [OrderRefused("spec.containers[0].image: Required value")]
    async with house.running():
        await house.give(1)
        [dead] = await house.until(State.DEAD)
        assert dead.outcome is not None
        assert "image: Required value" in dead.outcome.message
        assert await house.journal.replay([dead.id]) == 1
        sent = await house.plan.until(2)
        assert sent[1].attempt == 2
        assert sent[0].name != sent[1].name


async def test_one_order_s_surprise_does_not_stop_the_others() -> None:
    house = House()
    house.plan.answers = [KeyError("surprise")]
    async with house.running():
        await house.give(2)
        [dead] = await house.until(State.DEAD)
        assert dead.outcome is not None
        assert "internal error" in dead.outcome.message
        await house.until(State.RUNNING)


async def test_failures_are_retried_as_the_policy_says_then_dead() -> None:
    house = House(retry=RetryPolicy(attempts=2, backoff=0.01, max_backoff=0.01))
    async with house.running():
        await house.give(1)
        await house.end((await house.plan.until(1))[0], Failure.INFRASTRUCTURE, reason="Evicted")
        second = (await house.plan.until(2))[1]
        assert second.attempt == 2
        await house.end(second, Failure.INFRASTRUCTURE, reason="Evicted", log_tail="bye")
        [dead] = await house.until(State.DEAD)
        assert dead.outcome is not None
        assert (dead.outcome.reason, dead.outcome.log_tail) == ("Evicted", "bye")


async def test_an_outcome_told_twice_counts_once() -> None:
    house = House(limits=Limits(in_flight=1))
    async with house.running():
        await house.give(3)
        order = (await house.plan.until(1))[0]
        await asyncio.gather(house.end(order), house.end(order), house.end(order))
        await house.plan.until(2)
        await house.until(State.RUNNING)
        assert len(house.plan.sent) == 2


async def test_draining_sends_nothing_more_and_keeps_the_rest_queued() -> None:
    house = House(limits=Limits(in_flight=1))
    async with house.running():
        await house.give(3)
        await house.plan.until(1)
        await asyncio.wait_for(house.dispatcher.drain(), 5)
        await house.end(house.plan.sent[0])
        await house.until(State.SUCCEEDED)
        assert len(house.plan.sent) == 1
        assert len(await house.journal.deliveries(state=State.QUEUED)) == 2


async def test_orders_of_a_route_that_is_gone_are_given_up_and_can_be_replayed() -> None:
    house = House()
    async with house.running():
        await house.give(1)
        await house.until(State.RUNNING)
        house.routes = {}
        await house.make().restore()
        [dead] = await house.journal.deliveries(state=State.DEAD)
        assert dead.outcome is not None
        assert dead.outcome.reason == "RouteGone"


async def test_an_order_of_an_earlier_life_is_looked_for_where_it_was_sent() -> None:
    """Its route's run.kind was changed while the daemon was down; another route still uses the old kind."""
    house = House()
    async with house.running():
        await house.give(1)
        await house.until(State.RUNNING)
        house.routes = {
            "r": Route(name="r", plan=ToyPlan(), sink="other"),
            "t": Route(name="t", plan=ToyPlan(), sink="toy"),
        }
        later = house.make()
        await later.restore()
        assert [item.sink for item in await later.desk("toy").in_flight()] == ["toy"]
        assert not await later.desk("other").in_flight()
        await later.desk("toy").report(Outcome(order=house.plan.sent[0].name, exit_code=0))
        await house.until(State.SUCCEEDED)


async def test_an_order_of_a_kind_that_is_gone_is_given_up_and_never_tried_again_by_itself() -> None:
    house = House(retry=RetryPolicy(attempts=5, on=frozenset(Failure)))
    async with house.running():
        await house.give(1)
        await house.until(State.RUNNING)
        house.routes = {"r": replace(house.routes["r"], sink="other")}
        later = house.make()
        await later.restore()
        [dead] = await house.journal.deliveries(state=State.DEAD)
        assert dead.outcome is not None
        assert dead.outcome.reason == "SinkGone"
        assert dead.outcome.failure is Failure.UNKNOWN
        assert "run.kind toy" in dead.note
        assert not await later.desk("other").in_flight()


async def test_a_batch_is_one_order_with_an_events_array() -> None:
    house = House(batch_size=3)
    async with house.running():
        await house.give(3)
        [order] = await house.plan.until(1)
        assert order.payload == b'{"events":[0,1,2]}'
        await house.end(order)
        await house.until(State.SUCCEEDED, 3)


async def test_an_incomplete_batch_waits_no_longer_than_it_was_told() -> None:
    house = House(batch_size=100, batch_wait=0.05)
    async with house.running():
        await house.give(2)
        [order] = await house.plan.until(1)
        assert len(order.events) == 2
