"""Looks at what was told, until it is certain: only a file that is there and complete makes an event.

One by one, or, where many of one directory are due, by one listing of it: else ten thousand uploads in a
burst would be ten thousand calls.
"""

import asyncio
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import aclosing

from dcnios_daemon.core.errors import Disconnected, Malformed
from dcnios_daemon.sources.dcache.checks import Check
from dcnios_daemon.sources.dcache.client.frontend import Forbidden, Missing
from dcnios_daemon.sources.dcache.client.inotify import split
from dcnios_daemon.sources.dcache.client.listing import pages
from dcnios_daemon.sources.dcache.client.namespace import Entry, stat
from dcnios_daemon.sources.dcache.connection import Connection
from dcnios_daemon.telemetry.events import WatchRefused

_AT_ONCE = 8
_ROUND = 512
"""Single looks before it is seen what else is due."""
_MANY = 10
"""Checks of one directory that make it worth a listing."""
_WORTH = 100
"""Listed entries that cost as much as one look."""
_WHOLE = 0.9
"""A listing that is filled to no more than this was not cut off: dCache omits what vanishes meanwhile."""
_GROWTH = 2
"""How much further than the last listing, which was cut off, another must reach to be worth it: so that those
in vain cost no more than they would have saved."""
_LARGE_ONES = 1000


class Looker:
    """Does the checks of one connection's ledger.

    Args:
        connection: What is shared.
        left: From a rename's cookie to the path that the file had, if that was watched.
    """

    def __init__(self, connection: Connection, *, left: Callable[[str], str | None]) -> None:
        self._connection = connection
        self._ledger = connection.ledger
        self._facts = connection.facts
        self._clock = connection.clock
        self._timing = connection.timing
        self._left = left
        self._large: OrderedDict[str, int] = OrderedDict()
        """Directories that have more entries than this."""

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self._ledger.to_look.clear()
            due = self._ledger.due(self._clock.monotonic())
            if due:
                await self._look_at(due)
            else:
                await self._until_due()

    async def _until_due(self) -> None:
        next_due = self._ledger.next_due()
        pause = None if next_due is None else max(0.0, next_due - self._clock.monotonic())
        try:
            async with asyncio.timeout(pause):
                await self._ledger.to_look.wait()
        except TimeoutError:
            return

    async def _look_at(self, due: Iterable[Check]) -> None:
        by_directory: defaultdict[str, list[Check]] = defaultdict(list)
        for check in due:
            by_directory[split(check.path)[0]].append(check)
        singles: deque[Check] = deque()
        for directory, checks in by_directory.items():
            if len(checks) >= _MANY and len(checks) * _WORTH > _GROWTH * self._large.get(directory, 0):
                singles.extend(await self._list(directory, checks))
            else:
                singles.extend(checks)
        while len(singles) > _ROUND:
            later = singles.pop()
            self._ledger.again(later, later.due)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(singles))):
                group.create_task(self._look_in_turn(singles), name=f"{self._connection.source}: look")

    # --- many at once -----------------------------------------------------------------------------------

    async def _list(self, directory: str, checks: list[Check]) -> list[Check]:
        """Settle what one listing shows; what is left for single looks. It asks for no more entries than it
        is worth, so a directory that has more is cut off."""
        wanted: defaultdict[str, list[Check]] = defaultdict(list)
        for check in checks:
            wanted[split(check.path)[1]].append(check)
        most, seen = min(len(checks) * _WORTH, self._timing.page), 0
        listing = pages(self._connection.frontend, directory, size=most, caller="look")
        try:
            async with aclosing(listing):
                page = await anext(listing)
                async for entry in page.entries():
                    seen += 1
                    for check in wanted.pop(entry.name, ()):
                        self._judge(check, entry)
        except Missing:
            seen = 0
        except (Forbidden, Disconnected, Malformed):  # single looks tell whether it is only the listing
            seen = most
        left = [check for named in wanted.values() for check in named]
        if seen > most * _WHOLE:
            self._remember_large(directory, seen)
            return left
        for check in left:
            self._missing(check)
        return []

    def _remember_large(self, directory: str, seen: int) -> None:
        self._large[directory] = seen
        self._large.move_to_end(directory)
        if len(self._large) > _LARGE_ONES:
            self._large.popitem(last=False)

    # --- one by one -------------------------------------------------------------------------------------

    async def _look_in_turn(self, checks: deque[Check]) -> None:
        while checks:
            await self._look(checks.popleft())

    async def _look(self, check: Check) -> None:
        try:
            entry = await stat(self._connection.frontend, check.path)
        except Missing:  # also for a moment after *closed* (#5285), or renamed since
            self._missing(check)
        except Forbidden as error:
            WatchRefused(source=self._connection.source, path=check.path, error=str(error)).emit()
            self._ledger.settle(check)
        else:
            self._judge(check, entry)

    # --- what follows -----------------------------------------------------------------------------------

    def _judge(self, check: Check, entry: Entry) -> None:
        if entry.is_complete:
            self._give(check, entry)
        elif not entry.is_file:
            self._ledger.settle(check)
        elif check.pause or not self._again(check):
            self._give_up(check, entry)

    def _give(self, check: Check, entry: Entry) -> None:
        if check.done:
            return
        self._ledger.unfinished.forget(entry.pnfsid)
        if self._connection.wants("staged") and self._connection.tape.see(entry):
            channel = self._connection.channel.url
            self._ledger.give(self._facts.staged(check, entry, channel=channel), check.id)
        if not check.is_change:
            self._give_as_new(check, entry)
        self._ledger.settle(check)

    def _give_as_new(self, check: Check, entry: Entry) -> None:
        left = self._left(check.cookie) if check.cookie and not check.is_upload else None
        if left is not None and self._connection.wants("moved"):
            self._ledger.give(self._facts.moved(check, entry, left=left), check.id)
        if self._connection.wants("created"):
            self._ledger.give(self._facts.created(check, entry), check.id)

    def _missing(self, check: Check) -> None:
        """A pool that tells of an upload's end does so under the name that it had at its beginning."""
        now = self._clock.monotonic()
        if check.is_upload and check.id is not None and not check.tries:
            self._ledger.unfinished.hurry(check.place.watch, now)
        if not self._again(check):
            self._ledger.settle(check)

    def _give_up(self, check: Check, entry: Entry) -> None:
        """It holds up the stream's position no longer, and nothing else."""
        if not (check.done or check.is_change):
            now, today = self._clock.monotonic(), self._clock.now()
            self._ledger.unfinished.keep(check, entry, now=now, today=today)
        self._ledger.settle(check)

    def _again(self, check: Check) -> bool:
        """Look again in a while; False if it is time to give up."""
        if check.done or check.is_change:
            return False
        pause = min(self._timing.look_again * 2.0**check.tries, self._timing.longest_look)
        check.tries += 1
        due = self._clock.monotonic() + pause
        if due > check.until:
            return False
        self._ledger.again(check, due)
        return True
