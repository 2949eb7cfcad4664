"""Routes that are paused: one row of ``meta`` each.

It outlives the process, and counts within transactions, so that a claim by the daemon and a pause by
`dcnios queue` beside it come one after the other.
"""

from collections.abc import Sequence

from dcnios_daemon.buffer.books import PAUSED
from dcnios_daemon.buffer.transaction import Transaction


def pause(tx: Transaction, routes: Sequence[str]) -> list[bool]:
    """Claim nothing of these routes any more. Returns which were not paused."""
    return [_pause(tx, route) for route in routes]


def _pause(tx: Transaction, route: str) -> bool:
    if PAUSED + route in tx.books.meta:
        return False
    tx.books.meta[PAUSED + route] = tx.now
    tx.changed = True
    return True


def resume(tx: Transaction, routes: Sequence[str]) -> list[bool]:
    """Claim of these routes again. Returns which were paused."""
    return [_resume(tx, route) for route in routes]


def _resume(tx: Transaction, route: str) -> bool:
    if tx.books.meta.pop(PAUSED + route, None) is None:
        return False
    tx.run("forget_meta", name=PAUSED + route)
    tx.changed = True
    return True
