"""Asks the stores for the leave that an order's staging needs, before the order is submitted."""

import functools
from collections.abc import Mapping, Sequence
from typing import Protocol

from dcnios_daemon.core.errors import OrderRefused
from dcnios_daemon.core.ports import Download, KeyedStore, Order, Store
from dcnios_daemon.core.templating import Context, Render, compile_text, context
from dcnios_daemon.staging.contract import CREDENTIALS, local_name
from dcnios_daemon.staging.document import Outlet, StagingPlan

__all__ = ["Outlet", "StagingPlan", "make_plan", "needs_staging", "validity"]

LONGEST = 7 * 86400.0
"""Seconds: no presigned URL of AWS or MinIO lives longer."""
ALLOWANCE = 3600.0
"""Seconds on top of a deadline: for the order's way to its place, and for staging out."""


class StageTarget(Protocol):
    """One entry of a route's ``stage_out`` (``sinks.spec.StageOut``)."""

    @property
    def to(self) -> str: ...

    @property
    def using(self) -> str: ...

    @property
    def secret(self) -> str | None: ...

    @property
    def prefix(self) -> tuple[str, ...]: ...

    @property
    def suffix(self) -> tuple[str, ...]: ...


class StagedRun(Protocol):
    """What of a route's ``run`` block matters here (``sinks.spec.ContainerRun``)."""

    @property
    def stage_in(self) -> bool: ...

    @property
    def stage_out(self) -> Mapping[str, StageTarget]: ...


def validity(deadline: float) -> float:
    """How long an order's leave must hold, in seconds: its deadline and an allowance, seven days at most."""
    return min(deadline + ALLOWANCE, LONGEST)


def needs_staging(run: StagedRun) -> bool:
    """Whether a route's runs are staged at all."""
    return run.stage_in or bool(run.stage_out)


async def make_plan(
    order: Order, run: StagedRun, stores: Mapping[str, Store], *, source: str, valid_for: float
) -> StagingPlan:
    """Ask the stores for the leave that this order needs.

    Args:
        order: What is to be run.
        run: The route's ``run`` block.
        stores: Source name to its store.
        source: The source that has the event's object.
        valid_for: Seconds; see :func:`validity`. Cut to seven days.

    Raises:
        OrderRefused: There is no such store, or a template lacks its field.
        StoreUnavailable: A store had to be asked and did not answer. Nothing was submitted yet.
        StoreError: A store refuses.
    """
    seconds = min(valid_for, LONGEST)
    download = await _download(order, run, stores, source=source, valid_for=seconds)
    uploads = await _uploads(order, run.stage_out, stores, valid_for=seconds)
    name = local_name(order.events[0].subject) if download else ""
    return StagingPlan(download=download, local_name=name, uploads=tuple(uploads))


async def _download(
    order: Order, run: StagedRun, stores: Mapping[str, Store], *, source: str, valid_for: float
) -> Download | None:
    if not run.stage_in:
        return None
    if len(order.events) > 1:
        raise OrderRefused(
            f"route {order.route}: stage_in fetches the object of one event, this order has "
            f"{len(order.events)}: set batch.size to 1"
        )
    store = _store(stores, source, where=f"route {order.route}: stage_in")
    return await store.download(order.events[0].subject, valid_for=valid_for)


async def _uploads(
    order: Order, targets: Mapping[str, StageTarget], stores: Mapping[str, Store], *, valid_for: float
) -> Sequence[Outlet]:
    if not targets:
        return []
    values: Context = context(order.events[0], route=order.route, attempt=order.attempt)
    outlets = []
    for name, target in targets.items():
        where = f"route {order.route}: stage_out.{name}"
        store = _store(stores, target.using, where=where)
        address = str(_template(target.to, f"{where}.to")(values))
        if target.secret is None:
            upload = await store.upload(address, valid_for=valid_for)
        elif isinstance(store, KeyedStore):
            upload = await store.keyed_upload(address, keys=f"{CREDENTIALS}/{target.secret}")
        else:
            raise OrderRefused(f"{where}: {target.using!r} is no S3 store, which credentials: secret needs")
        outlets.append(Outlet(name=name, upload=upload, prefix=target.prefix, suffix=target.suffix))
    return outlets


def _store(stores: Mapping[str, Store], name: str, *, where: str) -> Store:
    try:
        return stores[name]
    except KeyError:
        raise OrderRefused(f"{where}: {name!r} is no source with a store; {sorted(stores)} are") from None


@functools.lru_cache(maxsize=1024)
def _template(text: str, where: str) -> Render:
    return compile_text(text, where=where)
