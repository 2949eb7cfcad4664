"""Results: what became of deliveries, as events like any other. Pure.

They are made in the transaction that ends a delivery and go to a route of their own, so that all that holds
for events holds for them: they are durable, limited, retried, and dead ones wait for replay.
"""

import json
from typing import Any

import msgspec

from dcnios_daemon.core.clock import iso
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Admission, Delivery, State

RESULTS = "results"
"""The name of their source and of their route, which no other may have."""
_WORDS = 1000
"""Characters kept of a message."""


class ResultRule(msgspec.Struct, frozen=True, kw_only=True):
    """Which ends of deliveries are told."""

    instance: str
    """The daemon's, so that the results of two have different ids."""
    routes: frozenset[str] = frozenset()
    """Of these routes only. Empty: of all."""
    of: frozenset[State] = frozenset({State.SUCCEEDED, State.DEAD})

    def admission(self, delivery: Delivery, at: float) -> Admission | None:
        """The result of a delivery that ended ``at`` (seconds since the epoch); None when it is not wanted.
        What becomes of results is never told by results.
        """
        wanted = not self.routes or delivery.route in self.routes
        if delivery.route == RESULTS or not wanted or delivery.state not in self.of:
            return None
        return Admission(self._event(delivery, at), (RESULTS,))

    def _event(self, delivery: Delivery, at: float) -> Event:
        identity = (self.instance, delivery.key, delivery.route, delivery.id, delivery.attempt)
        document = {"instance": self.instance, **_document(delivery, at)}
        return Event(
            key=event_key(RESULTS, *identity),
            source=RESULTS,
            kind="delivery",
            subject=delivery.subject,
            action=Action(delivery.state.value),
            time=at,
            data=json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"),
            attributes={"route": delivery.route, "partitionkey": delivery.key},
        )


def _document(delivery: Delivery, at: float) -> dict[str, Any]:
    outcome = delivery.outcome
    how: dict[str, Any] = {"state": delivery.state.value}
    if outcome is not None:
        how |= {
            "failure": None if outcome.failure is None else outcome.failure.value,
            "exit_code": outcome.exit_code,
            "reason": outcome.reason,
            "message": outcome.message[:_WORDS],
            "start": _moment(outcome.started),
            "end": _moment(outcome.ended),
            "pod": outcome.pod,
            "node": outcome.node,
        }
    return {
        "delivery": delivery.id,
        "key": delivery.key,
        "route": delivery.route,
        "source": delivery.source,
        "subject": delivery.subject,
        "attempt": delivery.attempt,
        "order": delivery.order,
        "outcome": how,
        "times": {
            "event": _moment(delivery.time),
            "accepted": _moment(delivery.accepted),
            "claimed": _moment(delivery.claimed),
            "submitted": _moment(delivery.submitted),
            "settled": iso(at),
        },
    }


def _moment(seconds: float | None) -> str | None:
    try:
        return None if seconds is None else iso(seconds)
    except (OverflowError, ValueError, OSError):
        return None  # a neighbour's clock may say anything
