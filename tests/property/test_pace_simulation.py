"""The dispatcher against a neighbour that gets slower, or refuses, the more is asked of it at the same time.

Time is virtual. What is asserted is what the neighbour sees, and what its users get.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkError, SinkUnavailable
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Admission, Order, Outcome, State
from dcnios_daemon.dispatch.dispatcher import WORKERS, Dispatcher
from dcnios_daemon.dispatch.limits import Limits
from dcnios_daemon.dispatch.neighbours import LONGEST_PAUSE
from dcnios_daemon.dispatch.pace import FIRST
from dcnios_daemon.dispatch.route import Route
from tests.fakes.memory_journal import MemoryJournal
from tests.virtual import LoopClock, run


class Server:
    """Answers ``knee`` at the same time as fast as one; of more each takes its share longer.

    Args:
        base: Seconds for an answer, at rest.
        knee: How many it serves at the same time.
        brink: It answers 429 to whoever comes beyond this many.
    """

    def __init__(self, base: float, knee: int, *, brink: int = 1000) -> None:
        self.base = base
        self.knee = knee
        self.brink = brink
        self.retry_after: float | None = None
        self.failure: SinkError | None = None
        """Answered to all, at once."""
        self.hangs = False
        self.refused_routes: set[str] = set()
        self.clock = LoopClock()
        self.journal = MemoryJournal(clock=self.clock)
        self.serving = 0
        self.seen: list[tuple[float, int]] = []
        """When an order came, and how many it then served."""
        self.made: list[tuple[float, str]] = []
        self.turned_away: list[float] = []
        self.group: asyncio.TaskGroup
        self.dispatcher: Dispatcher

    async def render(self, order: Order) -> str:
        return order.name

    async def submit(self, order: Order) -> None:
        self.serving += 1
        self.seen.append((self.clock.monotonic(), self.serving))
        try:
            await self._serve(order)
        finally:
            self.serving -= 1
        self.made.append((self.clock.monotonic(), order.route))
        self.group.create_task(self.dispatcher.desk("toy").report(Outcome(order=order.name)))

    async def exists(self, order: Order) -> bool:
        return any(order.route == route for _, route in self.made)

    async def _serve(self, order: Order) -> None:
        if self.failure is not None:
            raise self.failure
        if self.hangs:
            await asyncio.sleep(30)
            raise SinkUnavailable("no answer within 30 s")
        if order.route in self.refused_routes:
            raise OrderRefused("Unprocessable", answered=True)
        if self.serving > self.brink:
            self.turned_away.append(self.clock.monotonic())
            raise SinkBusy("429", retry_after=self.retry_after)
        await asyncio.sleep(self.base * max(1.0, self.serving / self.knee))

    async def give(self, count: int, route: str = "a") -> None:
        numbers = [f"{route}{number}" for number in range(count)]
        events = [
            Event(
                key=event_key("s", number),
                source="s",
                kind="t",
                subject="x",
                action=Action.MESSAGE,
                time=1.0,
                data=b"",
            )
            for number in numbers
        ]
        await self.journal.append("s", [Admission(event, (route,)) for event in events], None)

    def rate(self, begin: float, end: float) -> float:
        """Orders taken per second, between two times."""
        return sum(begin <= when < end for when, _ in self.made) / (end - begin)

    def most(self, begin: float, end: float) -> int:
        """How many it had to serve at the same time, at most, between two times."""
        return max((served for when, served in self.seen if begin <= when < end), default=0)

    @contextlib.asynccontextmanager
    async def dispatched(self, routes: Sequence[str] = "a") -> AsyncIterator[None]:
        await self.journal.open()
        made = {name: Route(name=name, plan=self, sink="toy") for name in routes}
        self.dispatcher = Dispatcher(journal=self.journal, clock=self.clock, routes=made, limits=Limits())
        async with asyncio.TaskGroup() as self.group:
            task = self.group.create_task(self.dispatcher.run())
            self.dispatcher.sink_is_ready("toy")
            yield
            task.cancel()
        await self.journal.aclose()


def story(told: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run(told())


@pytest.mark.parametrize(("base", "knee"), [(0.4, 4), (0.5, 2), (1.0, 8)])
def test_it_settles_where_more_at_once_would_only_take_longer(base: float, knee: int) -> None:
    async def told() -> None:
        server = Server(base, knee)
        async with server.dispatched():
            begin = server.clock.monotonic()
            await server.give(4000)
            await asyncio.sleep(120)
            best = knee / base
            assert server.rate(begin + 30, begin + 120) >= 0.9 * best
            assert server.most(begin + 30, begin + 120) <= 4 * knee

    story(told)


def test_a_quick_server_is_asked_by_all_workers_within_a_moment() -> None:
    async def told() -> None:
        server = Server(0.005, 4)
        async with server.dispatched():
            begin = server.clock.monotonic()
            await server.give(1000)
            await asyncio.sleep(2)
            assert len(server.made) == 1000
            assert server.most(begin + 0.1, begin + 2) == WORKERS
            took = server.made[-1][0] - begin
            assert took <= 1.05 * 1000 * 0.005 / 4  # as fast as it can

    story(told)


@pytest.mark.parametrize("kind", ["refuses", "hangs"])
def test_after_an_outage_one_asks_then_more_and_nothing_was_lost(kind: str) -> None:
    async def told() -> None:
        server = Server(0.05, 64)
        async with server.dispatched():
            await server.give(10_000)
            await asyncio.sleep(2)
            with capture_logs() as logs:
                server.failure = SinkUnavailable("connection refused") if kind == "refuses" else None
                server.hangs = kind == "hangs"
                begin = server.clock.monotonic()
                await asyncio.sleep(600)
                server.failure, server.hangs = None, False
                end, before = server.clock.monotonic(), len(server.made)
                # What was on its way, and then one at a time.
                asked = [when for when, _ in server.seen if begin < when < end]
                assert len(asked) <= WORKERS + 600 / (LONGEST_PAUSE / 2) + 7
                assert server.most(begin + 31, end) <= 1
                while len(server.made) == before:  # noqa: ASYNC110 - in virtual time this costs nothing
                    await asyncio.sleep(0.01)
                first = server.made[before][0]
                await asyncio.sleep(5)
                assert server.most(end, first) == 1
                assert server.most(first, first + 0.09) <= 4
                assert server.most(first, first + 0.25) <= WORKERS // 2 + 1
                assert server.most(first + 2, first + 4) == WORKERS
                await asyncio.sleep(60)
            # A line a minute, and never an error.
            assert len([line for line in logs if line["log_level"] == "warning"]) <= 11
            assert not [line for line in logs if line["log_level"] == "error"]
            assert len(server.made) == 10_000
            assert {item.attempt for item in await server.journal.deliveries(limit=10_000)} == {1}
            assert not await server.journal.deliveries(state=State.DEAD)

    story(told)


def test_a_server_that_turns_away_what_is_too_much_is_used_well_and_left_alone_when_it_asks() -> None:
    async def told() -> None:
        server = Server(0.1, 100, brink=8)
        server.retry_after = 1.0
        async with server.dispatched():
            begin = server.clock.monotonic()
            await server.give(20_000)
            await asyncio.sleep(300)
            assert len(server.turned_away) <= 0.03 * len(server.made)
            assert server.rate(begin, begin + 300) >= 0.5 * 8 / 0.1
            for moment in server.turned_away:
                pause = [when for when, _ in server.seen if moment + 1e-9 < when < moment + 1.0 - 1e-9]
                assert not pause

    story(told)


def test_two_routes_share_a_slow_server_alike() -> None:
    async def told() -> None:
        server = Server(0.5, 4)
        async with server.dispatched("ab"):
            await server.give(3000, "a")
            await server.give(3000, "b")
            await asyncio.sleep(200)
            counts = Counter(route for _, route in server.made)
            assert abs(counts["a"] - counts["b"]) <= 0.02 * len(server.made) + FIRST

    story(told)


@pytest.mark.parametrize("trouble", ["refused", "outage and refused"])
def test_a_route_of_which_everything_is_refused_slows_no_other(trouble: str) -> None:
    async def told() -> None:
        server = Server(0.05, 8)
        server.refused_routes = {"bad"}
        async with server.dispatched(["bad", "good"]):
            await server.give(3000, "bad")
            await server.give(3000, "good")
            begin = server.clock.monotonic()
            if trouble != "refused":
                server.failure = SinkUnavailable("connection refused")
                await asyncio.sleep(60)
                server.failure = None
                while not server.made:  # noqa: ASYNC110 - in virtual time this costs nothing
                    await asyncio.sleep(0.01)
                begin = server.clock.monotonic()
            await asyncio.sleep(10)
            assert server.rate(begin, begin + 10) >= 0.9 * 8 / 0.05
            assert await server.journal.deliveries(state=State.DEAD, route="bad", limit=10)

    story(told)
