"""Which deliveries become orders together. Pure, and the same for both journals."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

CLAIM_BYTES = 8 << 20
"""A claim ends early rather than bring more than about this many bytes of events into memory."""


class Ready(msgspec.Struct, array_like=True, frozen=True):
    """A delivery that may be claimed, without its event."""

    id: int
    event: int
    attempt: int
    together: int | None
    """The first delivery of the order of several that it was part of before it was released."""
    bytes: int


class Groups(msgspec.Struct):
    """Deliveries by order."""

    orders: list[list[Ready]]
    cut: bool
    """It ended early for their size: there is more to claim."""


def group(
    ready: Iterable[Ready], *, orders: int, batch: int, members: Callable[[int], Sequence[Ready]]
) -> Groups:
    """Make up to ``orders`` orders of up to ``batch`` deliveries each, oldest first.

    Only first attempts share an order. What was released together is claimed together, whatever ``batch``
    is now: perhaps that order was made after all, and its deliveries must not run in another one as well.

    Args:
        ready: Claimable deliveries, oldest first.
        orders: The most orders to make.
        batch: The most deliveries of an order.
        members: The claimable deliveries of an earlier order, by its first delivery.
    """
    made: list[list[Ready]] = []
    taken: set[int] = set()
    filling: list[Ready] | None = None
    room = CLAIM_BYTES
    for row in ready:
        if row.id in taken:
            continue
        alone = row.attempt > 1 or row.together is not None
        joins = not alone and filling is not None and len(filling) < batch
        if not joins and len(made) == orders:
            break
        if made and room < row.bytes:
            return Groups(made, cut=True)
        new = sorted(members(row.together), key=_by_id) if row.together is not None else [row]
        if joins and filling is not None:
            filling.append(row)
        else:
            made.append(new)
            filling = filling if alone else new
        taken.update(one.id for one in new)
        room -= sum(one.bytes for one in new)
    return Groups(made, cut=False)


def _by_id(row: Ready) -> int:
    return row.id
