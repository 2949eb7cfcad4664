"""What is taken away in passing: settled rows that newer ones push out, keys that were kept long enough.

Both ride on transactions that happen anyway and take small portions, so that nothing waits for them.
"""

from dcnios_daemon.buffer.steady import TOLERANCE
from dcnios_daemon.buffer.transaction import Transaction, as_json, split_keys

_FORGOTTEN = 500
_PRUNED = 2000
_SLACK = 100
"""A hundredth of the bound may be above it, until taking it away is worth the statements."""


def prune(tx: Transaction, history: int) -> None:
    """Delete the longest settled rows above the bound, one portion."""
    excess = tx.books.number("history") - history
    if excess <= history // _SLACK:
        return
    rows = tx.listed(tuple[int, int], "oldest_settled", most=min(excess, _PRUNED))
    tx.run("prune_deliveries", ids=as_json([delivery for delivery, _ in rows]))
    tx.run("prune_events", ids=as_json(sorted({event for _, event in rows})))
    tx.add("history", -len(rows))


def expiry_is_due(next_expiry: float | None, *, dedupe_for: float, steady: float) -> bool:
    """Whether the longest remembered keys were kept long enough."""
    return next_expiry is not None and next_expiry + dedupe_for <= steady + TOLERANCE


def forget(tx: Transaction, dedupe_for: float) -> None:
    """Delete keys that were settled ``dedupe_for`` seconds ago and not renewed since, one portion."""
    if not expiry_is_due(tx.books.next_expiry, dedupe_for=dedupe_for, steady=tx.steady):
        return
    due: list[tuple[bytes, float]] = []
    upto = 0
    for number, at, packed in tx.run("longest_remembered"):
        if len(due) >= _FORGOTTEN or at + dedupe_for > tx.steady + TOLERANCE:
            break
        due.extend((key, at) for key in split_keys(packed))
        upto = number
    tx.run_rows("forget_keys", sorted(due))
    tx.run("forget_rows", upto=upto)
    tx.books.next_expiry = tx.value("next_expiry")
