"""Rows of a damaged file, each looked at before it is believed: right number of columns, of the right types,
with values that the journal can have written. What is not is given as None.
"""

import math
from collections.abc import Sequence
from typing import Any

from dcnios_daemon.buffer.pages import Row
from dcnios_daemon.buffer.records import IN_FLIGHT, SETTLED, Code, Head, unpack, weight
from dcnios_daemon.core.ports import Outcome

KEY_BYTES = 20
_LONGEST_ID = 1 << 60
_MOST_NAMES = 10_000
"""A route's or source's number from here on is none."""
_EVENT, _HEAD = 9, 8
_DELIVERY_1, _DELIVERY = 14, 16
"""Columns of version 1, and of now."""
Values = tuple[Any, ...] | None


def name(row: Row) -> Values:
    """A row of ``names``."""
    match list(row.values):
        case [None, str(text)] if _is_name(row.rowid) and (row.rowid == 0) == (text == ""):
            return (row.rowid, text)
    return None


def meta(row: Row) -> Values:
    """A row of ``meta``."""
    match list(row.values):
        case [str(text), int() | float() as n] if math.isfinite(n):
            return (text, n)
    return None


def cursor(row: Row) -> Values:
    """A row of ``cursors``."""
    match list(row.values):
        case [None, bytes(cursor)] if row.whole and _is_name(row.rowid):
            return (row.rowid, cursor)
    return None


def key(row: Row) -> Values:
    """A row of ``keys``."""
    match list(row.values):
        case [bytes(key), int(event), int() | float() as since, (0 | 1) as routed] if (
            len(key) == KEY_BYTES and 0 <= event < _LONGEST_ID and _is_time(since)
        ):
            return (key, event, since, routed)
    return None


def remembered(row: Row) -> Values:
    """A row of ``remembered``."""
    match list(row.values):
        case [None, int() | float() as at, bytes(keys)] if (
            row.whole and len(keys) % KEY_BYTES == 0 and _is_time(at) and _is_id(row.rowid)
        ):
            return (row.rowid, at, keys)
    return None


def counter(row: Row) -> Values:
    """A row of ``counters``."""
    match list(row.values):
        case [int(route), int(state), int(n)] if _is_name(route) and 0 <= state <= Code.UNROUTED and n >= 0:
            return (route, state, n)
    return None


def place(row: Row) -> Values:
    """An entry of the index ``place``: a second witness of where a delivery stood."""
    match list(row.values):
        case [int(route), int(state), int(number)] if _is_id(number):
            return (number, route, state)
    return None


def event(row: Row) -> Values:
    """A row of ``events``; its data is None, too, if only that is lost."""
    values = list(row.values)
    if len(values) != (_EVENT if row.whole else _HEAD):
        return None
    _, *about = values if row.whole else [*values, None]
    if not _is_id(row.rowid) or not _are_event(about):
        return None
    *_, routes, still_open, size, head, data = about
    if not 0 <= still_open <= routes <= _LONGEST_ID:
        return None
    try:
        unpack(Head, head)
    except (ValueError, TypeError):
        return None
    if data is not None and size != weight(head, data):
        return None
    return (row.rowid, *about)


def _are_event(about: Sequence[Any]) -> bool:
    match about:
        case [
            bytes(key),
            int(source),
            int() | float() as accepted,
            int(),
            int(),
            int(size),
            bytes(),
            bytes() | None,
        ]:
            return len(key) == KEY_BYTES and _is_name(source) and size >= 0 and _is_time(accepted)
    return False


def delivery(row: Row) -> Values:
    """A row of ``deliveries``, as the present version has it."""
    values = list(row.values)
    if len(values) == _DELIVERY_1:
        values += ["", None]
    if not row.whole or len(values) != _DELIVERY or not _is_id(row.rowid):
        return None
    _, *about, outcome, sink, keep = values
    if not _are_delivery(row.rowid, about) or not isinstance(sink, str) or not _is_time_or_none(keep):
        return None
    try:
        readable = outcome is None or bool(unpack(Outcome, outcome))
    except (ValueError, TypeError):
        readable = False
    return (row.rowid, *about, outcome if readable else None, sink, keep)


def _are_delivery(number: int, about: Sequence[Any]) -> bool:
    match about:
        case [
            int(event),
            int(route),
            int(state),
            int(attempt),
            retry_at,
            claimed,
            submitted,
            settled,
            turn,
            str(name),
            together,
            str(),
        ]:
            fits = 0 <= event <= number and _is_name(route) and 0 <= state <= Code.UNROUTED and attempt >= 1
            timed = all(map(_is_time_or_none, (retry_at, claimed, submitted, settled)))
            numbered = all(one is None or isinstance(one, int) for one in (turn, together))
            flies = state not in IN_FLIGHT or (claimed is not None and bool(name))
            waits = (state == Code.WAITING) == (retry_at is not None)
            return (
                fits and timed and numbered and flies and waits and (state in SETTLED) == (turn is not None)
            )
    return False


def _is_id(number: int) -> bool:
    return 0 < number < _LONGEST_ID


def _is_name(number: int) -> bool:
    return 0 <= number < _MOST_NAMES


def _is_time(moment: float) -> bool:
    return math.isfinite(moment) and 0 <= moment < _LONGEST_ID


def _is_time_or_none(moment: object) -> bool:
    return moment is None or (isinstance(moment, int | float) and _is_time(moment))
