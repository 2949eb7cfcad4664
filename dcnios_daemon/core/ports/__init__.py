"""The contracts between the parts. Siblings know each other only through these; ``app`` wires them.

An event's way: a :class:`Source` gives a :class:`Batch`, the runner routes it and appends it to the
:class:`Journal` (then acknowledges it upstream), the dispatcher claims deliveries and makes an
:class:`Order` of them, a :class:`Sink` submits it, and reports an :class:`Outcome`, which settles them.
"""

from dcnios_daemon.core.ports.delivery import (
    Claim,
    Dead,
    Decision,
    Delivery,
    Failure,
    InFlight,
    Outcome,
    Retry,
    State,
    Stats,
    Succeed,
)
from dcnios_daemon.core.ports.journal import Admission, Appended, Gate, Journal, MakeResult
from dcnios_daemon.core.ports.sink import Desk, Order, Plan, Report, Sink, Suspending
from dcnios_daemon.core.ports.source import Batch, Ended, Following, Inbound, Receiver, Reply, Source, Working
from dcnios_daemon.core.ports.store import Download, KeyedStore, Store, Upload

__all__ = [
    "Admission",
    "Appended",
    "Batch",
    "Claim",
    "Dead",
    "Decision",
    "Delivery",
    "Desk",
    "Download",
    "Ended",
    "Failure",
    "Following",
    "Gate",
    "InFlight",
    "Inbound",
    "Journal",
    "KeyedStore",
    "MakeResult",
    "Order",
    "Outcome",
    "Plan",
    "Receiver",
    "Reply",
    "Report",
    "Retry",
    "Sink",
    "Source",
    "State",
    "Stats",
    "Store",
    "Succeed",
    "Suspending",
    "Upload",
    "Working",
]
