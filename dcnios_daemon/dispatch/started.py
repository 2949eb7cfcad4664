"""What the sinks have taken is marked as running: many orders in one transaction."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from functools import partial

from dcnios_daemon.core.ports import Journal
from dcnios_daemon.dispatch.orders import OpenOrder, OrderBook
from dcnios_daemon.dispatch.until_written import until_written

_GATHER = 0.05
"""Seconds that taken orders may wait to be marked as running together. Whatever ends before that is marked
once, as ended."""


class InHand:
    """Counts orders that are being claimed, sent or marked, for as long as its context lasts."""

    def __init__(self, put_down: Callable[[], None]) -> None:
        self.count = 0
        self._put_down = put_down

    def __enter__(self) -> None:
        """One more."""
        self.count += 1

    def __exit__(self, *_: object) -> None:
        """One less."""
        self.count -= 1
        self._put_down()


class Started:
    """Marks them.

    Args:
        journal: Where.
        book: Knows which orders are still open.
        in_hand: Is told while orders are being marked.
        together: How many are marked at once without waiting for more.
        room: How many may wait.
    """

    def __init__(
        self, journal: Journal, book: OrderBook, in_hand: InHand, *, together: int, room: int
    ) -> None:
        self._journal = journal
        self._book = book
        self._in_hand = in_hand
        self._together = together
        self._taken: asyncio.Queue[OpenOrder] = asyncio.Queue(room)
        self._many = asyncio.Event()
        self._hurries = False

    async def put(self, order: OpenOrder) -> None:
        """The sink has it."""
        await self._taken.put(order)
        if self._taken.qsize() >= self._together:
            self._many.set()

    def is_empty(self) -> bool:
        """Whether none waits to be marked."""
        return self._taken.empty()

    def hurry(self) -> None:
        """Wait for no more from now on."""
        self._hurries = True
        self._many.set()

    async def run(self) -> None:
        """Mark what comes, until cancelled."""
        while True:
            orders = [await self._taken.get()]
            with self._in_hand:
                await self._gather()
                while not self._taken.empty():
                    orders.append(self._taken.get_nowait())
                await until_written(partial(self._mark, orders))
            del orders  # nothing need keep them, and their plans, until the next one comes

    async def _gather(self) -> None:
        if self._hurries or self._taken.qsize() >= self._together:
            return
        self._many.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GATHER):
                await self._many.wait()

    async def _mark(self, orders: Iterable[OpenOrder]) -> None:
        """Only what is still open: the deliveries of an order that has ended may be another one's by now."""
        still = [order for order in orders if self._book.awaits(order)]
        if still:
            await self._journal.started([delivery for order in still for delivery in order.deliveries])
