"""Claims what may go now and hands it to the sinks.

One pump decides whose turn it is and claims; a fixed number of workers submit; one recorder marks what was
taken, many at a time. An order that *may* exist at the neighbour keeps its slot and its token until that is
known; one that certainly does not is given back to the queue. No attempt is burnt by a neighbour's bad day.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.ports import Failure, InFlight, Journal, Outcome, Stats
from dcnios_daemon.dispatch.doubts import Doubts
from dcnios_daemon.dispatch.fairness import Turns
from dcnios_daemon.dispatch.fallback import Ways, ways
from dcnios_daemon.dispatch.limits import BatchClock, Limits
from dcnios_daemon.dispatch.neighbours import Neighbours, NeighbourState
from dcnios_daemon.dispatch.orders import OpenOrder, OrderBook, claimed_for
from dcnios_daemon.dispatch.outcomes import Outcomes, SinkDesk
from dcnios_daemon.dispatch.route import Route
from dcnios_daemon.dispatch.started import InHand, Started
from dcnios_daemon.dispatch.submission import Verdict, submit
from dcnios_daemon.dispatch.until_written import until_written
from dcnios_daemon.telemetry import events as telemetry

WORKERS = 32
"""Submissions at the same time, over all routes. Beyond this an API server gains nothing."""
_AHEAD = 64
"""Orders claimed and waiting for a worker, at most."""
_QUANTUM = 32
"""Orders that one route claims in one turn, at most."""


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
        self._neighbours = Neighbours(clock, workers=WORKERS)
        self._ways = Ways(clock, self._neighbours)
        self._paused: frozenset[str] = frozenset()
        self._ready_sinks: set[str] = set()
        self._dry: set[str] = set()
        self._changes = 0
        self._wake = asyncio.Event()
        self._queue: asyncio.Queue[OpenOrder] = asyncio.Queue(_AHEAD)
        self._in_hand = InHand(self._awake)
        self._started = Started(journal, self._book, self._in_hand, together=WORKERS, room=_AHEAD + WORKERS)
        self._doubts = Doubts(self._book, taken=self._took, settle=self._outcomes.settle, wake=self._awake)
        self._draining = False
        self._group: asyncio.TaskGroup
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
        self._neighbours.change(ways(routes.values()))
        self._ways.change(routes)
        self._turns.change({name: route.share for name, route in routes.items()})
        for name, route in routes.items():
            self._batches[name] = BatchClock(route.batch_size, route.batch_wait, self._clock)
        self._changed()

    async def restore(self) -> None:
        """Take in what an earlier life left in flight, before any sink is served.

        Orders of routes, or for kinds of ``run``, that are gone from the configuration are given up as
        unknown: nobody watches them. They are not tried again, for they may even be running.
        """
        found = await until_written(self._journal.in_flight)
        self._book.restore(found, self._routes)
        kinds = {way.sink for way in ways(self._routes.values())}
        for item in {item.order: item for item in found}.values():
            sink = claimed_for(item, self._routes)
            if item.route not in self._routes:
                await self._give_up(item, "RouteGone", "the route is no longer configured")
            elif sink not in kinds:
                await self._give_up(item, "SinkGone", f"no route has run.kind {sink} any more")

    async def _give_up(self, item: InFlight, reason: str, why: str) -> None:
        said = f"{why}; it may have run, or still be running"
        gone = Outcome(order=item.order, failure=Failure.UNKNOWN, reason=reason, message=said)
        await self._outcomes.settle(gone, again=False)

    def desk(self, sink: str) -> SinkDesk:
        """Where that sink reports outcomes."""
        return SinkDesk(sink=sink, outcomes=self._outcomes, journal=self._journal)

    def neighbours(self) -> Sequence[NeighbourState]:
        """How it stands with each neighbour that was ever sent to."""
        return self._neighbours.states()

    def waiting_routes(self) -> Mapping[str, str]:
        """Routes that are left alone for want of something of their own, and what that is."""
        return self._neighbours.waiting_routes()

    def why_waits(self, name: str) -> str | None:
        """Why orders of the route are left alone, beside its limits and pauses; None: they are not."""
        route = self._routes[name]
        if route.sink not in self._ready_sinks:
            return f"{route.sink} is not ready"
        return self._neighbours.why_waits(route)

    def fallen_back(self) -> Mapping[str, float]:
        """Routes whose orders go another way than their own, and for how many seconds they have."""
        return self._ways.elsewhere()

    def sink_is_ready(self, sink: str) -> None:
        """The sink has settled its earlier life; orders may go to it."""
        self._ready_sinks.add(sink)
        self._awake()

    async def run(self) -> None:
        """Dispatch until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            group = self._group
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"submit-{number}")
            group.create_task(self._started.run(), name="mark-started")
            await self._pump()

    async def drain(self) -> None:
        """Claim no more; return when nothing is on its way to a sink. What was never sent is queued again;
        what may exist stays in flight for the next life to look for.
        """
        self._draining = True
        self._started.hurry()
        await self._give_back([self._queue.get_nowait() for _ in range(self._queue.qsize())])
        while self._in_hand.count or not self._started.is_empty():
            self._wake.clear()
            await self._wake.wait()

    async def _give_back(self, orders: Iterable[OpenOrder]) -> None:
        async with asyncio.TaskGroup() as group:
            for order in orders:
                if self._book.awaits(order) and not order.in_doubt:
                    group.create_task(
                        self._outcomes.give_back(order, after=None, note=""), name=f"give back {order.name}"
                    )

    # --- the pump ---------------------------------------------------------------------------------

    def _changed(self) -> None:
        self._changes += 1
        self._dry.clear()
        self._wake.set()

    def _awake(self) -> None:
        if self._draining or self._has_room():
            self._wake.set()

    async def _pump(self) -> None:
        while True:
            self._wake.clear()
            if not self._has_room():
                await self._wake.wait()
                continue
            name = None if self._draining else await self._choose()
            if name is None:
                await self._sleep()
            else:
                with self._in_hand:
                    await self._claim(name)

    async def _sleep(self) -> None:
        pause = None if self._draining else self._next_chance(await self._journal.stats())
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _choose(self) -> str | None:
        """Send parked orders on their way, then say which route may claim: the one whose turn it is."""
        while not self._queue.full() and (order := self._neighbours.next_parked(self._book.awaits)):
            self._enqueue(order)
        stats = await self._journal.stats()
        self._forget_retired()
        self._notice_pauses(frozenset(stats.paused))
        return self._turns.next(
            route for route in self._routes if self._has_room() and self._may_go(route, stats)
        )

    def _forget_retired(self) -> None:
        for name in [name for name in self._retired if self._book.is_idle(name)]:
            self._retired.discard(name)
            del self._routes[name], self._batches[name]

    def _notice_pauses(self, paused: frozenset[str]) -> None:
        before, self._paused = self._paused, paused
        for route in sorted(paused - before):
            telemetry.RoutePaused(route=route).emit()
        for route in sorted(before - paused):
            telemetry.RouteResumed(route=route).emit()

    async def _claim(self, name: str) -> None:
        route = self._ways.choose(self._routes[name])
        if route is None:
            return
        free = _AHEAD - self._queue.qsize()
        count = int(min(free, _QUANTUM, self._book.room(name), self._neighbours.room(route)))
        changes = self._changes
        claims = await until_written(
            partial(
                self._journal.claim, name, count, batch=route.batch_size, sink=route.sink, keep=route.keep
            )
        )
        orders = self._book.open(claims, route)
        if self._draining:  # it began while the claim was on its way
            await self._give_back(orders)
            return
        for order in orders:
            self._enqueue(order)
        self._turns.went(name, len(orders))
        if orders:
            self._batches[name].went()
        if len(orders) < count and changes == self._changes:
            self._dry.add(name)

    def _enqueue(self, order: OpenOrder) -> None:
        if order.run is not None:
            self._neighbours.chosen(order, order.run)
            self._queue.put_nowait(order)

    def _has_room(self) -> bool:
        """Whether to claim more. One transaction claims many if it waits until half of the queue is gone,
        and the workers have the other half to go on with meanwhile."""
        return self._queue.qsize() <= _AHEAD // 2

    def _has_work(self, route: str, stats: Stats) -> int:
        ready = all(way.sink in self._ready_sinks for way in ways([self._routes[route]]))
        if route in self._dry or route in self._retired or route in stats.paused or not ready:
            return 0
        return stats.deliveries.get(route, {}).get("queued", 0)

    def _may_go(self, route: str, stats: Stats) -> bool:
        queued = self._has_work(route, stats)
        return (
            queued > 0
            and self._ways.choose(self._routes[route]) is not None
            and self._book.room(route) >= 1
            and self._batches[route].hold(queued) <= 0
        )

    def _next_chance(self, stats: Stats) -> float | None:
        """Seconds until something may go by time alone; None when only an event can change anything."""
        if not self._has_room():
            return None
        chances = [self._neighbours.parked_wait()]
        for route in self._routes:
            queued = self._has_work(route, stats)
            if queued:
                waits = (
                    self._ways.wait(self._routes[route]),
                    self._book.wait(route),
                    self._batches[route].hold(queued),
                )
                chances.append(None if None in waits else max(wait for wait in waits if wait is not None))
        soonest = min((chance for chance in chances if chance is not None), default=None)
        return None if soonest is None else soonest + 0.001

    # --- the workers ------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            order = await self._queue.get()
            with self._in_hand:
                self._awake()  # there is room in the queue
                if order.run is not None:
                    await self._send(order, order.run)
            del order  # or its plan, and the plan's connections, would live until the next one comes

    async def _send(self, order: OpenOrder, route: Route) -> None:
        if not self._book.awaits(order):
            self._neighbours.withdrawn(order, route)
            return
        if route.name in self._paused and not order.in_doubt:
            self._neighbours.withdrawn(order, route)
            await self._outcomes.give_back(order, after=None, note="")
            return
        if not self._neighbours.lets(order, route):
            self._neighbours.withdrawn(order, route)
            await self._put_off(order, self._neighbours.wait(route) or 0.0, "")
            return
        if self._doubts.may_be_gone(order, route, self._clock.monotonic()):
            self._neighbours.withdrawn(order, route)
            self._doubts.begin(
                self._group, order, route, "it was in doubt for as long as ended ones are kept"
            )
            return
        answer = await submit(order, route, self._clock)
        pause, verdict = self._neighbours.told(order, route, answer), answer.verdict
        self._ways.told(route.name, route, verdict)
        if not self._book.awaits(order):
            return  # its outcome came in before the sink's answer
        if verdict is Verdict.TAKEN:
            self._book.answered(order)
            await self._took(order)
        elif verdict is Verdict.REFUSED and order.in_doubt:
            self._doubts.begin(self._group, order, route, answer.error)
        elif verdict is Verdict.REFUSED:
            self._book.answered(order)
            refused = Outcome(
                order=order.name, failure=Failure.REFUSED, reason="Refused", message=answer.error
            )
            await self._outcomes.settle(refused)
        else:
            telemetry.OrderPutOff(
                route=order.route, order=order.name, error=answer.error, again_in=round(pause, 3)
            ).emit()
            await self._put_off(order, self._ways.pause(route, pause), answer.error)

    async def _put_off(self, order: OpenOrder, pause: float, error: str) -> None:
        """Not sent or not taken: it keeps its slot if it may exist, else it makes room for others."""
        if order.in_doubt:
            self._neighbours.park(order)
        else:
            self._book.answered(order)
            await self._outcomes.give_back(order, after=pause, note=error)

    async def _took(self, order: OpenOrder) -> None:
        """The sink has it."""
        telemetry.OrderSubmitted(
            route=order.route,
            order=order.name,
            key=order.claims[0].event.key,
            attempt=order.attempt,
            waited=max(0.0, self._clock.now() - order.claims[0].accepted),
        ).emit()
        order.claims = ()
        await self._started.put(order)
