"""A collection of the cluster kept in memory, as it is now: for those who decide by what there is."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Generic

from dcnios_daemon.core.errors import SinkError
from dcnios_daemon.kubernetes.answers import Expired
from dcnios_daemon.sinks.kubernetes.pauses import Pauses
from dcnios_daemon.sinks.kubernetes.watch import Collection, Item


class Mirror(Generic[Item]):
    """All objects of a collection, by name.

    Args:
        collection: What to mirror.
        pauses: For when the cluster is away: what was seen last stays.
        saw: Told of each object as it was last, and whether it is still there.
        told: Called after each change, and after each listing.
    """

    def __init__(
        self,
        collection: Collection[Item],
        pauses: Pauses,
        *,
        saw: Callable[[Item, bool], None],
        told: Callable[[], Awaitable[None]],
    ) -> None:
        self._collection = collection
        self._pauses = pauses
        self._saw = saw
        self._told = told
        self.items: dict[str, Item] = {}
        self.trouble = "is not seen yet"
        """Why nothing is known; empty after the first listing."""

    async def watch(self) -> None:
        """Keep it up to date until cancelled."""
        must_list = True
        while True:
            try:
                if must_list:
                    await self._list()
                    must_list, self.trouble = False, ""
                    await self._told()
                async with aclosing(self._collection.changes()) as changes:
                    async for change in changes:
                        self._take(change.item, there=change.type != "DELETED")
                        await self._told()
            except SinkError as error:
                if must_list:
                    self.trouble = f"cannot be seen: {error}"
                if must_list or not isinstance(error, Expired):
                    await self._pauses.after(error)
                must_list = must_list or isinstance(error, Expired)

    async def _list(self) -> None:
        found: set[str] = set()

        async def visit(items: Sequence[Item]) -> None:
            for item in items:
                found.add(item.metadata.name)
                self._take(item, there=True)

        await self._collection.list(visit)
        for name in self.items.keys() - found:
            self._take(self.items[name], there=False)

    def _take(self, item: Item, *, there: bool) -> None:
        if there:
            self.items[item.metadata.name] = item
        else:
            self.items.pop(item.metadata.name, None)
        self._saw(item, there)
