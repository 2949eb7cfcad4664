"""Reading: cursors, what is in flight, and the lists that people ask for. Nothing here writes."""

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from dcnios_daemon.buffer.intake import key_bytes
from dcnios_daemon.buffer.records import CODES, STATES, Code, Head, event_of, unpack
from dcnios_daemon.buffer.transaction import Transaction, as_json
from dcnios_daemon.core.errors import JournalError
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.names import KEY_HEX
from dcnios_daemon.core.ports import Delivery, InFlight, Outcome, State

_NEWEST = 1 << 62
Found = tuple[Event | None, Sequence[Delivery]]


class Wanted(msgspec.Struct, frozen=True):
    """Which deliveries to list."""

    state: State | None
    route: str | None
    after: int
    limit: int


def cursors(tx: Transaction, sources: Sequence[str]) -> list[str | None]:
    """How far each source was read."""
    return [_cursor(tx, tx.books.names.get(source)) for source in sources]


def _cursor(tx: Transaction, source: int | None) -> str | None:
    stored = None if source is None else tx.value("cursor", source=source)
    return None if stored is None else bytes(stored).decode("utf-8", "surrogatepass")


def in_flight(tx: Transaction, calls: Sequence[None]) -> list[list[InFlight]]:
    """Everything between claim and settlement."""
    found = [
        InFlight(
            delivery=delivery,
            route=route,
            attempt=attempt,
            key=key,
            order=order,
            state=STATES[state],
            claimed=claimed,
            sink=sink,
            keep=keep,
        )
        for delivery, route, attempt, key, order, state, claimed, sink, keep in tx.run("in_flight")
    ]
    found.sort(key=lambda one: one.delivery)
    return [found] * len(calls)


def lists(tx: Transaction, calls: Sequence[Wanted]) -> list[list[Delivery]]:
    """The newest deliveries of each kind that is wanted."""
    return [_list(tx, call) for call in calls]


def _list(tx: Transaction, wanted: Wanted) -> list[Delivery]:
    after = min(wanted.after, _NEWEST) if wanted.after > 0 else _NEWEST
    limit = min(max(wanted.limit, 0), _NEWEST)
    if wanted.state is None and wanted.route is None:
        rows: list[Any] = tx.run("newest", after=after, most=limit).fetchall()
    else:
        rows = [
            row
            for route, code in _places(tx, wanted)
            for row in tx.run("newest_in_place", route=route, state=code, after=after, most=limit)
        ]
        rows.sort(key=lambda row: -row[0])
    return list(_deliveries(tx, rows[:limit]))


def picked(tx: Transaction, deliveries: Sequence[int]) -> list[Delivery]:
    """Those deliveries, as they stand in this transaction."""
    return list(_deliveries(tx, tx.run("picked", ids=as_json(deliveries)).fetchall()))


def _places(tx: Transaction, wanted: Wanted) -> Iterator[tuple[int, int]]:
    codes = tuple(Code) if wanted.state is None else CODES[wanted.state]
    for name, route in tx.books.names.items():
        if wanted.route is None or name == wanted.route:
            yield from ((route, code.value) for code in codes)


def _deliveries(tx: Transaction, rows: Iterable[Sequence[Any]]) -> Iterator[Delivery]:
    names = {number: name for name, number in tx.books.names.items()}
    for row in rows:
        yield _delivery(tx, row, names)


def _delivery(tx: Transaction, row: Sequence[Any], names: Mapping[int, str]) -> Delivery:
    number, route, state, attempt, retry_at, claimed, submitted, settled, order, note, outcome = row[:11]
    key, source, accepted, head = row[11:]
    about = unpack(Head, head)
    return Delivery(
        id=number,
        route=names[route],
        state=STATES[state],
        attempt=attempt,
        key=key.hex(),
        source=names[source],
        kind=about.kind,
        subject=about.subject,
        action=about.action.value,
        time=about.time,
        size=about.size,
        accepted=accepted,
        claimed=claimed,
        submitted=submitted,
        settled=settled,
        retry_at=None if retry_at is None else tx.to_wall(retry_at),
        order=order,
        note=note,
        outcome=None if outcome is None else unpack(Outcome, outcome),
    )


def ended(tx: Transaction, calls: Sequence[Sequence[str]]) -> list[dict[str, bool]]:
    """Of each call's keys those that have nothing left to do, and whether all went well."""
    return [_ended(tx, keys) for keys in calls]


def _ended(tx: Transaction, keys: Sequence[str]) -> dict[str, bool]:
    rows = tx.run_keys("ends", sorted({key_bytes(key) for key in keys}))
    return {key.hex(): first == last == Code.SUCCEEDED for key, first, last in rows if first >= Code.DEAD}


def shows(tx: Transaction, keys: Sequence[str]) -> list[Found | JournalError]:
    """An event and its deliveries, by each beginning of a key."""
    return [_show(tx, key.strip().lower()) for key in keys]


def _show(tx: Transaction, start: str) -> Found | JournalError:
    if not start or len(start) > KEY_HEX or not set(start) <= set(string.hexdigits):
        return None, ()
    low, high = key_bytes(start.ljust(KEY_HEX, "0")), key_bytes(start.ljust(KEY_HEX, "f"))
    rows = tx.run("events_by_key", low=low, high=high, most=100).fetchall()
    keys = sorted({row[1].hex() for row in rows})
    if len(keys) > 1:
        return JournalError(f"{len(keys)} keys or more begin with {start}: {', '.join(keys[:3])}, ...")
    deliveries = [
        delivery
        for row in rows
        for delivery in _deliveries(tx, tx.run("deliveries_of", event=row[0]).fetchall())
    ]
    names = {number: name for name, number in tx.books.names.items()}
    events = [
        event_of(unpack(Head, head), key=key.hex(), source=names[source], data=data)
        for _, key, source, head, data, _ in rows
        if data is not None
    ]
    return (events[0] if events else None), deliveries
