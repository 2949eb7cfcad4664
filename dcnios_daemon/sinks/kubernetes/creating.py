"""Making an object of ours in the cluster: on any doubt again, and never a second one.

An object's name is its order's. *Already exists* is success once what is there is seen to bear our key.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import msgspec

from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkUnavailable, SinkUnreachable
from dcnios_daemon.core.ports import Order
from dcnios_daemon.kubernetes.answers import Missing, Taken
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.marks import KEY, SINK
from dcnios_daemon.sinks.kubernetes.objects import Meta
from dcnios_daemon.sinks.kubernetes.watch import decode


class _Object(msgspec.Struct):
    metadata: Meta = Meta()


_OBJECT = msgspec.json.Decoder(_Object)


async def create(
    session: ClusterSession,
    what: str,
    body: bytes,
    order: Order,
    *,
    found: Callable[[bytes], Awaitable[None]] | None = None,
) -> bytes | None:
    """Create the order's object, once, and return what is there. None: it had been created, and is gone.

    Args:
        session: The cluster.
        what: The collection, as in the API's paths.
        body: The object.
        order: Whose it is.
        found: Is told of one that had been there before.

    Raises:
        OrderRefused: The cluster never takes it, or its name is taken by a stranger.
        SinkBusy, SinkUnavailable: Try again.
    """
    try:
        return await session.request("POST", what, body=body)
    except Taken:
        there = await find(session, what, order)
        if there is not None and found is not None:
            await found(there)
        return there


async def find(session: ClusterSession, what: str, order: Order, *, sink: str = "") -> bytes | None:
    """What bears the order's name, which is taken; None: nothing, it is gone.

    Args:
        session: The cluster.
        what: The collection.
        order: Whose name it should bear.
        sink: The kind of ``run`` that says so on what it makes.

    Raises:
        OrderRefused: It is a stranger's, or was made for another kind of ``run``, which sees to its end.
        SinkUnavailable: Try again; it may well be ours.
    """
    with in_doubt():
        there = await _look(session, f"{what}/{order.name}")
    if there is None:
        return None
    labels = identity(there).labels
    if labels.get(KEY) != order.key:
        raise OrderRefused(f"{what}/{order.name} is taken by something that is not ours")
    if labels.get(SINK, "") != sink:
        raise OrderRefused(f"{what}/{order.name} is there already, for another kind of run: it may have run")
    return there


@contextmanager
def in_doubt() -> Iterator[None]:
    """Of an order that may be there a cluster that puts us off does not say that it is not."""
    try:
        yield
    except (SinkBusy, SinkUnreachable) as error:
        raise SinkUnavailable(str(error), retry_after=error.retry_after) from error


async def job_exists(session: ClusterSession, order: Order) -> bool:
    """Whether the order's Job is there."""
    there = await _look(session, f"jobs/{order.name}")
    return there is not None and identity(there).labels.get(KEY) == order.key


def identity(there: bytes) -> Meta:
    """Who an object is."""
    return decode(_OBJECT, there).metadata


async def _look(session: ClusterSession, path: str) -> bytes | None:
    """What is there. None: nothing."""
    try:
        return await session.request("GET", path)
    except Missing:
        return None
