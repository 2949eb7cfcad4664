"""Orders that were refused although an earlier try of theirs has had no answer: does the neighbour have them?

A refusal speaks of the later try alone (a right or a quota was taken away since, an input is gone because the
run has moved it). Were the slot freed at that, another order would take it while the first may run. So it
stays taken until the sink has looked, and the token as long as the first try may yet arrive.

Likewise an order that has been in doubt for nearly as long as its neighbour keeps what has ended: it may have
run, ended and been cleaned up in an outage, and sending it again would run it twice.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

from dcnios_daemon.core.errors import DcniosError
from dcnios_daemon.core.patience import pause_after
from dcnios_daemon.core.ports import Failure, Outcome
from dcnios_daemon.dispatch.neighbours import FIRST_PAUSE, LONGEST_PAUSE
from dcnios_daemon.dispatch.orders import OpenOrder, OrderBook
from dcnios_daemon.dispatch.route import Route
from dcnios_daemon.dispatch.submission import ANSWER_WITHIN, made
from dcnios_daemon.telemetry import events as telemetry

LATE = 60.0
"""Seconds after which a request without an answer arrives nowhere any more: an API server gives each of its
requests a minute (``--request-timeout``)."""


class Doubts:
    """Ends them.

    Args:
        book: Knows which orders are still open.
        taken: Is told of an order that exists.
        settle: Is told of one that does not. It may have run, and been cleaned up since.
        wake: Is called when a token has come back.
    """

    def __init__(
        self,
        book: OrderBook,
        *,
        taken: Callable[[OpenOrder], Awaitable[None]],
        settle: Callable[[Outcome], Awaitable[None]],
        wake: Callable[[], None],
    ) -> None:
        self._book = book
        self._taken = taken
        self._settle = settle
        self._wake = wake

    def may_be_gone(self, order: OpenOrder, route: Route, now: float) -> bool:
        """Whether it may have been made, ended and been cleaned up by now (monotonic seconds)."""
        if not order.in_doubt or route.keep is None:
            return False
        return now - order.in_doubt_since >= route.keep - min(LATE, route.keep / 2)

    def begin(self, group: asyncio.TaskGroup, order: OpenOrder, route: Route, why: str) -> None:
        """Let a task of the group :meth:`end` the doubt."""
        group.create_task(self.end(order, route, why), name=f"doubt {order.name}")

    async def end(self, order: OpenOrder, route: Route, refusal: str) -> None:
        """Return once it is known, or its outcome has come in. What cannot be seen counts as there."""
        there, why = await _look(order, route)
        if not there:
            await self._wait(order, why or f"{refusal}; an earlier try may yet arrive", LATE)
            self._book.answered(order)  # made by now or never: only the slot is in question still
            self._wake()
            there = await self._insist(order, route)
        if not self._book.awaits(order):
            return
        self._book.answered(order)
        if there:
            order.in_doubt = False
            await self._taken(order)
        else:
            words = f"{refusal}; an earlier try has had no answer, it may have run"
            unknown = Outcome(order=order.name, failure=Failure.UNKNOWN, reason="Refused", message=words)
            await self._settle(unknown)

    async def _insist(self, order: OpenOrder, route: Route) -> bool | None:
        """Look until it can be told. None: its outcome has come in meanwhile."""
        for failures in itertools.count(1):
            there, why = await _look(order, route)
            if there is not None or not self._book.awaits(order):
                return there
            await self._wait(order, why, pause_after(failures, first=FIRST_PAUSE, most=LONGEST_PAUSE))
        return None

    async def _wait(self, order: OpenOrder, why: str, pause: float) -> None:
        telemetry.OrderPutOff(route=order.route, order=order.name, error=why, again_in=round(pause, 3)).emit()
        await asyncio.sleep(pause)


async def _look(order: OpenOrder, route: Route) -> tuple[bool | None, str]:
    """Whether the neighbour has it. None: not known, and why."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            return await route.plan.exists(made(order, route)), ""
    except TimeoutError:
        return None, f"no answer within {ANSWER_WITHIN:g} s"
    except DcniosError as error:
        return None, str(error)
    except Exception as error:  # noqa: BLE001 - one order's surprise must not stop the others
        return None, f"internal error: {type(error).__name__}: {error}"
