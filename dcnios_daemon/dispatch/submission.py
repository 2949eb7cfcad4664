"""One submission: from an open order to the sink's answer, as one of five verdicts."""

import asyncio
import enum

from dcnios_daemon.core.errors import DcniosError, OrderRefused, SinkBusy, SinkUnavailable
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
    """It was not taken; something of its own (a store for its links) is missing for now."""
    IN_DOUBT = enum.auto()
    """It may exist: the sink failed while answering. Send it again, it has the same name."""


async def submit(order: OpenOrder, route: Route) -> tuple[Verdict, str, float | None]:
    """Send it, and note whether it may exist now without our knowing.

    That doubt ends only with a yes or with its outcome: a neighbour that is busy at the second try says
    nothing about the first.

    Returns:
        The verdict, the error's words, and the pause in seconds that the neighbour asked for.
    """
    limit = asyncio.timeout(ANSWER_WITHIN)
    try:
        async with limit:
            await _send(order, route)
    except OrderRefused as error:
        return Verdict.REFUSED, str(error), None
    except SinkBusy as error:
        return Verdict.SINK_AWAY, str(error), error.retry_after
    except SinkUnavailable as error:
        order.in_doubt = True
        return Verdict.IN_DOUBT, str(error), None
    except DcniosError as error:
        return (Verdict.NOT_NOW if error.retryable else Verdict.REFUSED), str(error), None
    except Exception as error:  # noqa: BLE001 - one order's surprise must not stop the others
        order.in_doubt = True
        if limit.expired():
            return Verdict.IN_DOUBT, f"no answer within {ANSWER_WITHIN:g} s", None
        return Verdict.REFUSED, f"internal error: {type(error).__name__}: {error}", None
    order.in_doubt = False
    return Verdict.TAKEN, "", None


async def _send(order: OpenOrder, route: Route) -> None:
    await route.plan.submit(made(order, route))


def made(order: OpenOrder, route: Route) -> Order:
    """The order as its sink knows it."""
    events = tuple(claim.event for claim in order.claims)
    payload = build_payload(events, route.payload)
    return Order(route=order.route, attempt=order.attempt, events=events, payload=payload, form=route.payload)
