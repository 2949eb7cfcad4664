"""What the journal keeps in memory: counts and a few front ends of queues, never a row per event.

The writer works on a copy and takes it over when the transaction is on disk, so that memory and file tell
the same story.
"""

from collections.abc import Mapping

import msgspec

from dcnios_daemon.buffer.records import STATES, Code
from dcnios_daemon.core.ports import Stats

PAUSED = "paused "
"""Begins the single number of a route that is paused: since when."""


class Books(msgspec.Struct, kw_only=True):
    """The counts as of one commit."""

    names: dict[str, int]
    """Routes and sources, by name, to their small number."""
    counts: dict[tuple[int, int], int]
    """Deliveries by route and code; waiting ones count as queued."""
    meta: dict[str, float]
    """The single numbers, see schema.sql."""
    oldest: dict[int, float]
    """Route to the time at which its oldest queued delivery's event was accepted."""
    next_due: float | None
    """When the next retry may be claimed, in the journal's own time."""
    next_expiry: float | None
    """When the longest remembered keys were settled, likewise."""

    def copy(self) -> "Books":
        """One's own to change."""
        return Books(
            names=dict(self.names),
            counts=dict(self.counts),
            meta=dict(self.meta),
            oldest=dict(self.oldest),
            next_due=self.next_due,
            next_expiry=self.next_expiry,
        )

    def number(self, name: str) -> int:
        """One of the single numbers that are integers."""
        return int(self.meta[name])

    def paused(self) -> dict[str, float]:
        """Routes that are paused, and since when."""
        return {name.removeprefix(PAUSED): n for name, n in self.meta.items() if name.startswith(PAUSED)}

    def stats(self) -> Stats:
        """The counts for the outside."""
        by_number = {number: name for name, number in self.names.items()}
        return Stats(
            events=self.number("events"),
            bytes=self.number("bytes"),
            deliveries=deliveries_by_name(self.counts, by_number),
            duplicates=self.number("duplicates"),
            oldest_queued=min(self.oldest.values(), default=None),
            paused=self.paused(),
        )


def deliveries_by_name(
    counts: Mapping[tuple[int, int], int], names: Mapping[int, str]
) -> dict[str, dict[str, int]]:
    """Route to state to count, zeros left out."""
    named: dict[str, dict[str, int]] = {}
    for (route, code), n in counts.items():
        if n:
            named.setdefault(names[route], {})[STATES[Code(code)].value] = n
    return named
