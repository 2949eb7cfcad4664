"""Claims what may go now and hands it to the sinks.

One pump decides whose turn it is and claims; a fixed number of workers submit; one recorder marks what was
taken, many at a time. An order that *may* exist at the neighbour keeps its slot and its token until that is
known; one that certainly does not is given back to the queue. No attempt is burnt by a neighbour's bad day.
"""

import asyncio
import random
from collections.abc import Mapping
from functools import partial

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.policy import backoff
from dcnios_daemon.core.ports import Failure, Journal, Outcome, Stats
from dcnios_daemon.dispatch.fairness import Turns
from dcnios_daemon.dispatch.limits import Cooldown
from dcnios_daemon.dispatch.orders import OpenOrder, OrderBook
from dcnios_daemon.dispatch.outcomes import Outcomes, SinkDesk
from dcnios_daemon.dispatch.patience import until_written
from dcnios_daemon.dispatch.route import BatchClock, Limits, Route
from dcnios_daemon.dispatch.submission import Submission, Verdict
from dcnios_daemon.telemetry import events as telemetry

WORKERS = 32
"""Submissions at the same time, over all routes. Beyond this an API server gains nothing."""
_AHEAD = 64
"""Orders claimed and waiting for a worker, at most."""
_QUANTUM = 32
"""Orders that one route claims in one turn, at most."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class Dispatcher:
    """Runs the queue down, within all limits."""

    def __init__(
        self, *, journal: Journal, clock: Clock, routes: Mapping[str, Route], limits: Limits
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._routes: dict[str, Route] = {}
        self._retired: set[str] = set()
        self._book = OrderBook({}, limits, clock)
        self._outcomes = Outcomes(
            journal=journal, book=self._book, routes=self._routes, clock=clock, wake=self._awake
        )
        self._turns = Turns({})
        self._batches: dict[str, BatchClock] = {}
        self._cooldowns: dict[str, Cooldown] = {}
        self._waiting_sinks: set[str] = set()
        self._parked: dict[str, list[OpenOrder]] = {}
        self._dry: set[str] = set()
        self._changes = 0
        self._wake = asyncio.Event()
        self._queue: asyncio.Queue[OpenOrder] = asyncio.Queue(_AHEAD)
        self._taken: asyncio.Queue[OpenOrder] = asyncio.Queue(_AHEAD + WORKERS)
        self._submission = Submission(self._routes)
        self._busy = 0
        self._draining = False
        self.change(routes, limits)
        journal.on_change(self._changed)

    # --- the face to app --------------------------------------------------------------------------

    def change(self, routes: Mapping[str, Route], limits: Limits) -> None:
        """Take these routes and limits. Routes that are gone claim no more, but what is in flight ends as
        they say; a kind of sink that is new waits for :meth:`sink_is_ready`.
        """
        self._retired = set(self._routes) - set(routes)
        self._routes.update(routes)
        self._book.change(routes, limits)
        self._turns.change({name: route.weight for name, route in routes.items()})
        for name, route in routes.items():
            self._batches[name] = BatchClock(route.batch_size, route.batch_wait, self._clock)
            if route.sink not in self._cooldowns:
                self._cooldowns[route.sink] = Cooldown(self._clock)
                self._parked[route.sink] = []
                self._waiting_sinks.add(route.sink)
        self._changed()

    async def restore(self) -> None:
        """Take in what an earlier life left in flight, before any sink is served.

        Orders of routes that are gone from the configuration are given up as unknown: nobody watches them.
        """
        found = await self._journal.in_flight()
        self._book.restore(found)
        for name in {item.order for item in found if item.route not in self._routes}:
            gone = Outcome(
                order=name,
                failure=Failure.UNKNOWN,
                reason="RouteGone",
                message="the route is no longer configured; it may have run",
            )
            await self._outcomes.settle(gone)

    def desk(self, sink: str) -> SinkDesk:
        """Where that sink reports outcomes."""
        return SinkDesk(sink=sink, outcomes=self._outcomes, journal=self._journal, routes=self._routes)

    def sink_is_ready(self, sink: str) -> None:
        """The sink has settled its earlier life; orders may go to it."""
        self._waiting_sinks.discard(sink)
        self._awake()

    async def run(self) -> None:
        """Dispatch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"submit-{number}")
            group.create_task(self._record(), name="record-started")
            await self._pump()

    async def drain(self) -> None:
        """Claim no more; return when nothing is on its way to a sink. What was not sent is queued again."""
        self._draining = True
        while not self._queue.empty():
            await self._outcomes.give_back(self._queue.get_nowait(), at=None, note="")
        while self._busy or not self._taken.empty():
            self._wake.clear()
            await self._wake.wait()

    # --- the pump ---------------------------------------------------------------------------------

    def _changed(self) -> None:
        self._changes += 1
        self._dry.clear()
        self._wake.set()

    def _awake(self) -> None:
        self._wake.set()

    async def _pump(self) -> None:
        while True:
            self._wake.clear()
            if self._draining or not await self._step():
                await self._sleep()

    async def _sleep(self) -> None:
        pause = None if self._draining else self._next_chance(await self._journal.stats())
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _step(self) -> bool:
        """Send parked orders again, or claim for the route whose turn it is. False: nothing could go."""
        self._unpark()
        free = _AHEAD - self._queue.qsize()
        stats = await self._journal.stats()
        name = self._turns.next(route for route in self._routes if free and self._may_go(route, stats))
        if name is None:
            return False
        route = self._routes[name]
        count = int(min(free, _QUANTUM, self._book.room(name), self._cooldowns[route.sink].room()))
        changes = self._changes
        claims = await until_written(partial(self._journal.claim, name, count, batch=route.batch_size))
        orders = self._book.open(claims)
        for order in orders:
            self._cooldowns[route.sink].sent()
            self._queue.put_nowait(order)
        self._turns.went(name, len(orders))
        if orders:
            self._batches[name].went()
        if len(orders) < count and changes == self._changes:
            self._dry.add(name)
        return True

    def _has_work(self, route: str, stats: Stats) -> int:
        if route in self._dry or route in self._retired or self._routes[route].sink in self._waiting_sinks:
            return 0
        return stats.deliveries.get(route, {}).get("queued", 0)

    def _may_go(self, route: str, stats: Stats) -> bool:
        queued = self._has_work(route, stats)
        return (
            queued > 0
            and self._cooldowns[self._routes[route].sink].room() >= 1
            and self._book.room(route) >= 1
            and self._batches[route].hold(queued) <= 0
        )

    def _next_chance(self, stats: Stats) -> float | None:
        """Seconds until something may go by time alone; None when only an event can change anything."""
        chances = [self._cooldowns[sink].wait() for sink, parked in self._parked.items() if parked]
        for route in self._routes:
            queued = self._has_work(route, stats)
            if queued and self._queue.qsize() < _AHEAD:
                waits = (
                    self._cooldowns[self._routes[route].sink].wait(),
                    self._book.wait(route),
                    self._batches[route].hold(queued),
                )
                chances.append(None if None in waits else max(wait for wait in waits if wait is not None))
        soonest = min((chance for chance in chances if chance is not None), default=None)
        return None if soonest is None else soonest + 0.001

    def _unpark(self) -> None:
        for sink, parked in self._parked.items():
            cooldown = self._cooldowns[sink]
            while parked and cooldown.room() >= 1 and not self._queue.full():
                order = parked.pop(0)
                if order.name in self._book:
                    cooldown.sent()
                    self._queue.put_nowait(order)

    # --- the workers ------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            order = await self._queue.get()
            self._busy += 1
            self._awake()
            try:
                await self._send(order)
            finally:
                self._busy -= 1
                self._awake()

    async def _send(self, order: OpenOrder) -> None:
        route = self._routes[order.route]
        cooldown = self._cooldowns[route.sink]
        verdict, error, retry_after = await self._submission.submit(order)
        if verdict is Verdict.IN_DOUBT or verdict is Verdict.SINK_AWAY:
            pause = retry_after or self._pause(cooldown.failures + 1)
            cooldown.failed(pause)
        else:
            pause = self._pause(1)
            cooldown.succeeded()
        if order.name not in self._book:
            return  # its outcome came in before the sink's answer
        if verdict is Verdict.IN_DOUBT:
            self._parked[route.sink].append(order)
            self._say_put_off(order, error, pause)
            return
        self._book.answered(order)
        if verdict is Verdict.TAKEN:
            await self._taken.put(order)
        elif verdict is Verdict.REFUSED:
            await self._outcomes.settle(
                Outcome(order=order.name, failure=Failure.REFUSED, reason="Refused", message=error)
            )
        else:
            await self._outcomes.give_back(order, at=self._clock.now() + pause, note=error)
            self._say_put_off(order, error, pause)

    async def _record(self) -> None:
        """Mark as running what the sinks took: whatever came together goes into one transaction."""
        while True:
            orders = [await self._taken.get()]
            while not self._taken.empty():
                orders.append(self._taken.get_nowait())
            deliveries = [delivery for order in orders for delivery in order.deliveries]
            await until_written(partial(self._journal.started, deliveries))
            now = self._clock.now()
            for order in orders:
                telemetry.OrderSubmitted(
                    route=order.route,
                    order=order.name,
                    key=order.claims[0].event.key,
                    attempt=order.attempt,
                    waited=now - order.claims[0].accepted,
                ).emit()
                order.claims = ()
            self._awake()

    def _pause(self, failures: int) -> float:
        dice = random.random()  # noqa: S311 - spreads retries, keeps no secret
        return backoff(failures, first=_FIRST_PAUSE, most=_LONGEST_PAUSE, dice=dice)

    def _say_put_off(self, order: OpenOrder, error: str, pause: float) -> None:
        telemetry.OrderPutOff(
            route=order.route, order=order.name, error=error, again_in=round(pause, 3)
        ).emit()
