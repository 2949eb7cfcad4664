"""One submission: from an open order to the sink's answer, as one of five verdicts."""

import enum
from collections.abc import Mapping

from dcnios_daemon.core.errors import DcniosError, OrderRefused, SinkBusy, SinkUnavailable
from dcnios_daemon.core.payload import build_payload
from dcnios_daemon.core.ports import Order
from dcnios_daemon.dispatch.orders import OpenOrder
from dcnios_daemon.dispatch.route import Route


class Verdict(enum.Enum):
    """What is known of an order after it was sent."""

    TAKEN = enum.auto()
    REFUSED = enum.auto()
    """It does not exist and never will."""
    SINK_AWAY = enum.auto()
    """It does not exist; the sink asks to be left alone."""
    NOT_NOW = enum.auto()
    """It does not exist; something of its own (a store for its links) is missing for now."""
    IN_DOUBT = enum.auto()
    """It may exist: the sink failed while answering. Send it again, it has the same name."""


class Submission:
    """Hands orders to their routes' plans."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._routes = routes

    async def submit(self, order: OpenOrder) -> tuple[Verdict, str, float | None]:
        """Send it. Returns the verdict, the error's words and the pause that the neighbour asked for."""
        route = self._routes[order.route]
        try:
            events = tuple(claim.event for claim in order.claims)
            payload = build_payload(events, route.payload)
            await route.plan.submit(
                Order(route=order.route, attempt=order.attempt, events=events, payload=payload)
            )
        except OrderRefused as error:
            return Verdict.REFUSED, str(error), None
        except SinkBusy as error:
            return Verdict.SINK_AWAY, str(error), error.retry_after
        except SinkUnavailable as error:
            return Verdict.IN_DOUBT, str(error), None
        except DcniosError as error:
            return (Verdict.NOT_NOW if error.retryable else Verdict.REFUSED), str(error), None
        except Exception as error:  # noqa: BLE001 - one order's surprise must not stop the others
            return Verdict.REFUSED, f"internal error: {type(error).__name__}: {error}", None
        return Verdict.TAKEN, "", None
