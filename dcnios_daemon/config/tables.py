"""What the journal holds, laid out for people at a terminal."""

import datetime as dt
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from dcnios_daemon.core.clock import iso
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Delivery, State, Stats
from dcnios_daemon.core.units import size_text

_LONGEST_CELL = 60
_UNITS = (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0))
_STATES = tuple(State)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned, numbers to the right, nothing in it that a terminal would obey."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(headings, *cells, strict=True)]
    numeric = [all(isinstance(cell, int) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for line in (list(headings), *cells):
        parts = [
            " " * (width - _width(cell)) + cell if right else cell + " " * (width - _width(cell))
            for cell, width, right in zip(line, widths, numeric or [False] * len(line), strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def printable(text: str, *, longest: int = _LONGEST_CELL) -> str:
    """Text from anywhere, safe to print, the middle left out if it is too long.

    >>> printable("xxxyyy", longest=5)
    'xx…yy'
    """
    safe = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    if len(safe) <= longest:
        return safe
    half = (longest - 1) // 2
    return f"{safe[:half]}…{safe[-half:]}"


def _width(text: str) -> int:
    """Columns on a terminal: East Asian characters and emoji take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def age(seconds: float) -> str:
    """How long ago, roughly.

    >>> age(0.4), age(75), age(7300), age(200000)
    ('now', '1m', '2h', '2d')
    """
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return "now"


def when(seconds: float | None) -> str:
    """A moment in the reader's own time zone."""
    if seconds is None:
        return "-"
    return dt.datetime.fromtimestamp(seconds, dt.UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def stats_text(stats: Stats, now: float) -> str:
    """Counts by route and state, and how full the journal is."""
    states = [state for state in _STATES if any(counts.get(state) for counts in stats.deliveries.values())]
    rows = [
        [route or "(no route)", *(counts.get(state, 0) for state in states)]
        for route, counts in sorted(stats.deliveries.items())
    ]
    waiting = (
        "" if stats.oldest_queued is None else f"; the oldest waits for {age(now - stats.oldest_queued)}"
    )
    held = f"{stats.events} events, {size_text(stats.bytes)} bytes held{waiting}"
    held += f"; {stats.duplicates} seen again and left out"
    if stats.paused:
        since = (f"{route} since {when(moment)}" for route, moment in sorted(stats.paused.items()))
        held += f"\npaused: {', '.join(since)}"
    return held if not states else f"{held}\n\n{table(['ROUTE', *(state.upper() for state in states)], rows)}"


def deliveries_text(deliveries: Sequence[Delivery], now: float) -> str:
    """A line each, newest first."""
    headings = ["ID", "STATE", "ROUTE", "ATTEMPT", "AGE", "KEY", "SUBJECT", "NOTE"]
    rows = [
        [
            delivery.id,
            str(delivery.state),
            delivery.route or "-",
            delivery.attempt,
            age(now - delivery.accepted),
            delivery.key[:10],
            delivery.subject,
            note(delivery),
        ]
        for delivery in deliveries
    ]
    return table(headings, rows)


def note(delivery: Delivery) -> str:
    """Why it is where it is."""
    outcome = delivery.outcome
    code = f"exit code {outcome.exit_code}" if outcome and outcome.exit_code else ""
    return ", ".join(part for part in (delivery.note, code) if part)


def delivery_text(delivery: Delivery) -> str:
    """All that is known of one, a line each, then the end of its log."""
    outcome = delivery.outcome
    facts: dict[str, Any] = {
        "delivery": delivery.id,
        "route": delivery.route or "-",
        "state": delivery.state,
        "attempt": delivery.attempt,
        "order": delivery.order,
        "accepted": when(delivery.accepted),
        "submitted": when(delivery.submitted),
        "settled": when(delivery.settled),
    }
    if delivery.retry_at is not None and delivery.state is State.QUEUED:
        facts["again at"] = when(delivery.retry_at)
    if outcome is not None:
        facts |= {"exit code": outcome.exit_code, "reason": outcome.reason, "message": outcome.message}
        facts |= {"pod": outcome.pod, "node": outcome.node}
    facts["note"] = delivery.note
    log = outcome.log_tail.strip("\n").split("\n") if outcome and outcome.log_tail else []
    return "\n".join([facts_text(facts), *(f"  | {printable(line, longest=10_000)}" for line in log)])


def facts_text(facts: Mapping[str, Any]) -> str:
    """Names and values below each other; what is empty is left out."""
    known = {name: str(value) for name, value in facts.items() if value not in {None, ""}}
    width = max(map(len, known), default=0)
    return "\n".join(f"{name:<{width}}  {printable(text, longest=1000)}" for name, text in known.items())


def story_text(event: Event | None, deliveries: Sequence[Delivery]) -> str:
    """An event, whether its body is still there or not, and what became of it."""
    body = "gone, as all its deliveries are settled" if event is None else f"{len(event.data)} bytes"
    facts = _event_facts(event or deliveries[0]) | {"data": body}
    return "\n\n".join([facts_text(facts), *(delivery_text(delivery) for delivery in deliveries)])


def _event_facts(event: Event | Delivery) -> dict[str, Any]:
    return {
        "key": event.key,
        "source": f"{event.source} ({event.kind})",
        "subject": event.subject,
        "action": str(event.action),
        "time": iso(event.time),
        "size": event.size,
    }
