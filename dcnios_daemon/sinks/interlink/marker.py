"""The object that the wrapper leaves in a store as its very last act: evidence that needs no log.

It bears its order's name, so that no other attempt's is taken for it. While the store cannot be asked, or
refuses to say, nothing is decided.
"""

from collections.abc import Mapping

import msgspec

from dcnios_daemon.core.errors import DcniosError, OrderRefused
from dcnios_daemon.core.ports import Store, Upload
from dcnios_daemon.kubernetes.marks import route_label
from dcnios_daemon.sinks.interlink.settings import InterlinkRun, SuccessMarker
from dcnios_daemon.staging.presence import is_there
from dcnios_daemon.telemetry.events import MarkerUnseen


class Marker(msgspec.Struct, frozen=True):
    """What the wrapper is told of it."""

    upload: Upload
    name: str


class Markers:
    """Where routes have their markers, and whether an order's is there.

    Args:
        stores: Source name to its store.
    """

    def __init__(self, stores: Mapping[str, Store]) -> None:
        self.stores = stores
        self._wanted: dict[str, SuccessMarker] = {}

    def add(self, route: str, run: InterlinkRun) -> None:
        """From now on the route's marker is where its ``run`` says, if anywhere."""
        self._wanted.pop(route_label(route), None)
        if run.success_marker is not None:
            self._wanted[route_label(route)] = run.success_marker

    async def leave(self, route: str, order: str, *, valid_for: float) -> Marker | None:
        """What an order needs to leave its marker; None where the route has none.

        Raises:
            OrderRefused: There is no such store.
            StoreUnavailable, StoreError: It gives no leave.
        """
        wanted = self._wanted.get(route_label(route))
        if wanted is None:
            return None
        store = self.stores.get(wanted.using)
        if store is None:
            raise OrderRefused(f"route {route}: success_marker: {wanted.using!r} is no source with a store")
        return Marker(await store.upload(wanted.to, valid_for=valid_for), order)

    async def proves(self, route: str, order: str) -> bool | None:
        """Whether the order's marker is there; None where that cannot be told now.

        Args:
            route: The route's label.
            order: The order's name.
        """
        wanted = self._wanted.get(route)
        store = self.stores.get(wanted.using) if wanted is not None else None
        if wanted is None or store is None:
            return False
        try:
            return await is_there(store, wanted.to, order)
        except DcniosError as error:
            MarkerUnseen(order=order, error=str(error)).emit()
            return None
