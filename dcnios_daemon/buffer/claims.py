"""Claim: the oldest deliveries of a route whose time has come, made into orders."""

from collections.abc import Mapping, Sequence

import msgspec

from dcnios_daemon.buffer.books import PAUSED
from dcnios_daemon.buffer.grouping import CLAIM_BYTES, Ready, group
from dcnios_daemon.buffer.records import Code, Head, event_of, unpack
from dcnios_daemon.buffer.steady import TOLERANCE
from dcnios_daemon.buffer.transaction import Transaction, as_json
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.names import batch_key, order_name
from dcnios_daemon.core.ports import Claim

Accepted = tuple[Event, float]
"""An event and when it was accepted."""


class Request(msgspec.Struct, frozen=True):
    """What the dispatcher asks for in one call."""

    route: str
    orders: int
    batch: int
    sink: str = ""
    keep: float | None = None


def promote(tx: Transaction) -> None:
    """Let retries that have come due stand in the queue again, at their old place."""
    if tx.books.next_due is not None and tx.books.next_due <= tx.steady + TOLERANCE:
        tx.run("promote", now=tx.steady + TOLERANCE)
        tx.promoted()
        tx.changed = True


def claim(tx: Transaction, requests: Sequence[Request]) -> list[list[Claim]]:
    """Serve each request in turn."""
    return [_claim(tx, request) for request in requests]


def _claim(tx: Transaction, request: Request) -> list[Claim]:
    route = tx.books.names.get(request.route)
    if route is None or request.orders < 1 or not tx.books.counts.get((route, Code.QUEUED)):
        return []
    if PAUSED + request.route in tx.books.meta:
        return []
    groups = group(
        tx.listed(Ready, "ready", route=route, most=request.orders * request.batch),
        orders=request.orders,
        batch=request.batch,
        members=lambda first: tx.listed(Ready, "members", together=first),
    )
    events = _events(tx, [row for order in groups.orders for row in order])
    claims: list[Claim] = []
    stored: list[tuple[object, ...]] = []
    for order in groups.orders:
        key = batch_key(tuple(events[row.event][0].key for row in order))
        name = order_name(request.route, key, order[0].attempt)
        together = order[0].id if len(order) > 1 else None
        for row in order:
            event, accepted = events[row.event]
            stored.append((row.id, name, together, tx.now, request.sink, request.keep))
            claims.append(
                Claim(
                    delivery=row.id,
                    route=request.route,
                    attempt=row.attempt,
                    order=name,
                    accepted=accepted,
                    event=event,
                )
            )
    if stored:
        tx.run_rows("claim", stored)
        tx.count(route, Code.QUEUED, -len(stored))
        tx.count(route, Code.SUBMITTING, len(stored))
    tx.changed = tx.changed or groups.cut
    return claims


def _events(tx: Transaction, rows: Sequence[Ready]) -> Mapping[int, Accepted]:
    """The events of these deliveries, read in portions that fit into memory twice over."""
    sources = {number: name for name, number in tx.books.names.items()}
    events: dict[int, Accepted] = {}
    portion: list[int] = []
    room = CLAIM_BYTES // 8
    for row in rows:
        if portion and room < row.bytes:
            _read(tx, portion, sources, events)
            portion, room = [], CLAIM_BYTES // 8
        portion.append(row.event)
        room -= row.bytes
    if portion:
        _read(tx, portion, sources, events)
    return events


def _read(tx: Transaction, ids: Sequence[int], sources: Mapping[int, str], into: dict[int, Accepted]) -> None:
    about, heads, keys, bodies = tx.run("bodies", events=as_json(ids)).fetchone()
    for (number, source, accepted), head, key, data in zip(
        unpack(list[tuple[int, int, float]], about),
        unpack(list[Head], heads),
        keys.split(","),
        bodies.split(","),
        strict=True,
    ):
        event = event_of(head, key=key, source=sources[source], data=bytes.fromhex(data))
        into[number] = event, accepted
