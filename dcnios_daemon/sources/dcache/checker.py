"""Looks at what was told, until it is certain: only a file that is there and complete makes an event."""

import asyncio
from collections.abc import Callable

from dcnios_daemon.sources.dcache.connection import Connection
from dcnios_daemon.sources.dcache.frontend import Forbidden, Missing
from dcnios_daemon.sources.dcache.ledger import Check
from dcnios_daemon.sources.dcache.namespace import Entry, stat
from dcnios_daemon.telemetry.events import WatchRefused

_AT_ONCE = 8


class Checker:
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

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self._ledger.to_look.clear()
            due = self._ledger.due(self._clock.monotonic(), _AT_ONCE)
            if due:
                async with asyncio.TaskGroup() as group:
                    for check in due:
                        group.create_task(self._look(check), name=f"look at {check.path}")
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

    async def _look(self, check: Check) -> None:
        try:
            entry = await stat(self._connection.frontend, check.path)
        except Missing:  # also for a moment after *closed* (#5285), or renamed since
            self._not_yet(check)
        except Forbidden as error:
            WatchRefused(source=self._connection.source, path=check.path, error=str(error)).emit()
            self._ledger.settle(check)
        else:
            if entry.is_complete:
                self._give(check, entry)
            elif entry.is_file:
                self._not_yet(check)
            else:
                self._ledger.settle(check)

    def _give(self, check: Check, entry: Entry) -> None:
        if check.done:
            return
        left = self._left(check.cookie) if check.cookie and not check.is_upload else None
        if left is not None and self._connection.wants("moved"):
            self._ledger.give(self._facts.moved(check, entry, left=left), check.id)
        if self._connection.wants("created"):
            self._ledger.give(self._facts.created(check, entry), check.id)
        self._ledger.settle(check)

    def _not_yet(self, check: Check) -> None:
        if check.done:
            return
        pause = min(self._timing.look_again * 2.0**check.tries, self._timing.longest_look)
        check.tries += 1
        due = self._clock.monotonic() + pause
        if due > check.until:
            self._ledger.settle(check)
        else:
            self._ledger.again(check, due)
