"""One submission: from an open order to the sink's answer, as one of six verdicts."""

import asyncio
import enum

import msgspec
from msgspec.structs import replace

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import DcniosError, OrderRefused, SinkBusy, SinkUnavailable, SinkUnreachable
from dcnios_daemon.core.payload import build_payload
from dcnios_daemon.core.ports import Order
from dcnios_daemon.dispatch.orders import OpenOrder
from dcnios_daemon.dispatch.route import Route

ANSWER_WITHIN = 300.0
"""Seconds for a sink to answer. Sinks have shorter limits of their own; this one keeps a sink that forgot
them from holding a worker for ever."""


class Verdict(enum.Enum):
    """What is known of an order after it was sent."""

    TAKEN = enum.auto()
    REFUSED = enum.auto()
    """The sink will not take it, now or later."""
    SINK_AWAY = enum.auto()
    """It was not taken; the sink asks to be left alone."""
    NOT_NOW = enum.auto()
    """It was not taken; something of the route's own (a store for its links, a right) is missing for now."""
    NOT_SENT = enum.auto()
    """It was not sent: there was no connection to the neighbour."""
    IN_DOUBT = enum.auto()
    """It may exist: the sink failed while answering. Send it again, it has the same name."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of sending an order."""

    verdict: Verdict
    error: str = ""
    """The error's words."""
    asked: float | None = None
    """The pause, in seconds, that the neighbour asked for."""
    heard: bool = True
    """Whether the verdict is the neighbour's; else it was never asked."""
    sent: float = 0.0
    """When it was sent, in monotonic seconds."""


async def submit(order: OpenOrder, route: Route, clock: Clock) -> Answer:
    """Send it, and note whether it may exist now without our knowing.

    That doubt ends only with a yes or with its outcome: a neighbour that is busy at the second try says
    nothing about the first.
    """
    sent, knew = clock.monotonic(), not order.in_doubt
    answer = await _submit(order, route)
    if knew and order.in_doubt:
        order.in_doubt_since = sent
    return replace(answer, sent=sent)


async def _submit(order: OpenOrder, route: Route) -> Answer:
    limit = asyncio.timeout(ANSWER_WITHIN)
    try:
        async with limit:
            await _send(order, route)
    except OrderRefused as error:
        return Answer(verdict=Verdict.REFUSED, error=str(error), heard=error.answered)
    except SinkBusy as error:
        return Answer(verdict=Verdict.SINK_AWAY, error=str(error), asked=error.retry_after)
    except SinkUnreachable as error:
        return Answer(verdict=Verdict.NOT_SENT, error=str(error))
    except SinkUnavailable as error:
        order.in_doubt = True
        return Answer(verdict=Verdict.IN_DOUBT, error=str(error), asked=error.retry_after)
    except DcniosError as error:
        verdict = Verdict.NOT_NOW if error.retryable else Verdict.REFUSED
        return Answer(verdict=verdict, error=str(error), heard=False)
    except Exception as error:  # noqa: BLE001 - one order's surprise must not stop the others
        order.in_doubt = True
        if limit.expired():
            return Answer(verdict=Verdict.IN_DOUBT, error=f"no answer within {ANSWER_WITHIN:g} s")
        said = f"internal error: {type(error).__name__}: {error}"
        return Answer(verdict=Verdict.REFUSED, error=said, heard=False)
    order.in_doubt = False
    return Answer(verdict=Verdict.TAKEN)


async def _send(order: OpenOrder, route: Route) -> None:
    """What goes wrong is told without its frames. Whoever raises what they hold in a variable makes a ring of
    the two, in which the plan, and connections that a reload has made needless, would live on for long."""
    try:
        await route.plan.submit(made(order, route))
    except DcniosError as error:
        raise error.with_traceback(None)  # noqa: B904 - it is the same one


def made(order: OpenOrder, route: Route) -> Order:
    """The order as its sink knows it."""
    events = tuple(claim.event for claim in order.claims)
    payload = build_payload(events, route.payload)
    return Order(route=order.route, attempt=order.attempt, events=events, payload=payload, form=route.payload)
