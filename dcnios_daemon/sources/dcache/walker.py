"""Goes through the watched directories: subscribes, lets the watch settle, lists, and goes on below.

A watch is armed some time after the server's yes, without a word when (``Inotify.updateZK``,
``EventNotifier``): so a directory is listed only after that time, and what the listing shows half-written is
looked at again. What is watched changes only here, one step after the other, so that none undoes another.
"""

import asyncio
from collections import deque

import msgspec

from dcnios_daemon.core.errors import Rejected
from dcnios_daemon.sources.dcache.connection import Connection
from dcnios_daemon.sources.dcache.facts import as_if_told
from dcnios_daemon.sources.dcache.frontend import Forbidden, Missing
from dcnios_daemon.sources.dcache.inotify import FLAGS, join, tail
from dcnios_daemon.sources.dcache.ledger import Check
from dcnios_daemon.sources.dcache.listing import Page, pages
from dcnios_daemon.sources.dcache.namespace import Entry
from dcnios_daemon.sources.dcache.watches import Place
from dcnios_daemon.telemetry.events import SourceRelisted, WatchRefused


class _Pass(msgspec.Struct):
    """A listing of everything."""

    cause: str
    began: float
    """Seconds since the epoch."""
    found: int = 0


class _Leave(msgspec.Struct, frozen=True):
    """A directory that was moved away."""

    path: str


class Walker:
    """Keeps one connection's watches, and lists what it is told to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel = connection.channel
        self._watches = connection.watches
        self._ledger = connection.ledger
        self._clock = connection.clock
        self._timing = connection.timing
        self._period = connection.settings.reconcile
        self._roots = [
            Place(watch.path, name, recursive=watch.recursive, is_root=True)
            for name, watch in connection.settings.watch.items()
        ]
        self._jobs: deque[Place | _Leave] = deque()
        self._armed: deque[Place] = deque()
        self._is_at_one = False
        """Whether a directory is being dealt with that is in neither queue."""
        self._queued: set[str] = set()
        """Paths in either queue."""
        self._replaced: set[str] = set()
        """Queued ones that may have become another directory since they were subscribed to."""
        self._owed: str | None = None
        self._pass: _Pass | None = None
        self._listed_at: float | None = None
        self._next_pass: float | None = None
        self._is_tidy = connection.channel.is_new
        self._wake = asyncio.Event()
        self._stepped = asyncio.Event()

    # --- asked by others ------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether all that should be watched is."""
        return not (self._jobs or self._armed or self._is_at_one or self._pass or self._owed)

    async def stepped(self) -> None:
        """Return when it has gone on a little."""
        self._stepped.clear()
        await self._stepped.wait()

    def owe(self, cause: str) -> None:
        """Something may have been lost: list everything, after what is under way."""
        self._owed = self._owed or cause
        self._listed_at = None
        self._ledger.owes_listing()
        self._wake.set()

    def adopt(self, place: Place) -> None:
        """A directory has appeared at this place."""
        self._ledger.owes_listing()
        if place.path in self._queued:
            self._replaced.add(place.path)
        else:
            self._watches.drop(self._watches.url(place.path))
            self._enqueue(place)
        self._wake.set()

    def leave(self, path: str) -> None:
        """The directory that was at this path was moved away."""
        self._jobs.append(_Leave(path))
        self._wake.set()

    async def watch_roots(self) -> bool:
        """Subscribe to what the configuration names; whether the channel knew all of it before.

        Raises:
            Rejected: A path is not there or must not be seen.
        """
        return all([await self._subscribe(root) for root in self._roots])

    def resume(self, listed_at: float) -> None:
        """Nothing was lost since the last full listing, so none is owed before its time."""
        self._listed_at = listed_at
        elapsed = min(max(self._clock.now() - listed_at, 0.0), self._period)
        self._set_next_pass(self._clock.monotonic() - elapsed)

    # --- the walk -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Walk for ever."""
        while True:
            self._wake.clear()
            if self._jobs or self._armed:
                self._is_at_one = True
                await self._step()
                self._is_at_one = False
            else:
                await self._rest()
            self._stepped.set()

    async def _step(self) -> None:
        if self._jobs:
            await self._do(self._jobs.popleft())
        else:
            await self._list_first()

    async def _rest(self) -> None:
        """Between walks."""
        if self._pass is not None:
            self._end_pass(self._pass)
        if self._owed is not None:
            self._begin_pass(self._owed)
            return
        if not self._is_tidy:
            await self._tidy()
        if self._listed_at is not None:
            self._ledger.listed(self._listed_at)
        self._stepped.set()
        if not await self._woken(self._next_pass):
            self.owe("period")

    def _begin_pass(self, cause: str) -> None:
        self._pass, self._owed = _Pass(cause, self._clock.now()), None
        self._set_next_pass(self._clock.monotonic())
        for root in self._roots:
            self._enqueue(root)

    def _end_pass(self, ended: _Pass) -> None:
        self._pass = None
        if self._owed is None:
            self._listed_at = ended.began
        SourceRelisted(source=self._connection.source, cause=ended.cause, found=ended.found).emit()

    def _set_next_pass(self, began: float) -> None:
        self._next_pass = began + self._period if self._period else None

    async def _tidy(self) -> None:
        """Delete what an earlier life with another configuration has left watched."""
        for url in await self._channel.subscriptions():
            if tail(url).startswith("inotify/") and self._watches.place(url) is None:
                await self._channel.delete(url)
        self._is_tidy = True

    def _enqueue(self, place: Place) -> None:
        if place.path not in self._queued:
            self._queued.add(place.path)
            self._jobs.append(place)

    # --- one directory --------------------------------------------------------------------------------

    async def _do(self, job: Place | _Leave) -> None:
        if isinstance(job, _Leave):
            for url in self._watches.drop_below(job.path):
                await self._channel.delete(url)
        elif self._watches.url(job.path) or await self._is_watched(job):
            self._armed.append(job)

    async def _list_first(self) -> None:
        place = self._armed[0]
        if await self._woken(self._watches.armed(place.path)):
            return
        self._armed.popleft()
        if place.path in self._replaced:
            self._replaced.discard(place.path)
            if await self._is_watched(place):
                self._armed.append(place)
            return
        self._queued.discard(place.path)
        is_another = False
        try:
            async for page in pages(self._connection.frontend, place.path, size=self._timing.page):
                is_another |= self._watches.is_another(place.path, page.pnfsid)
                await self._take(place, page)
        except (Missing, Forbidden) as error:
            self._refused(place, error)
            return
        if is_another:
            self._watches.drop(self._watches.url(place.path))
            self._enqueue(place)

    async def _is_watched(self, place: Place) -> bool:
        """Subscribe; False if that cannot be, and then it is done with."""
        try:
            await self._subscribe(place)
        except (Missing, Forbidden) as error:
            self._queued.discard(place.path)
            self._refused(place, error)
            return False
        return True

    async def _subscribe(self, place: Place) -> bool:
        """Whether the channel knew it before: then the watch has long settled."""
        try:
            made = await self._channel.subscribe("inotify", {"path": place.path, "flags": FLAGS})
        except (Missing, Forbidden) as error:
            if place.is_root:
                raise Rejected(f"watch {place.watch}: {place.path}: {error}") from error
            raise
        settle = self._timing.settle if made.is_new else 0.0
        self._watches.add(place, made.url, armed=self._clock.monotonic() + settle)
        return not made.is_new

    def _refused(self, place: Place, error: Missing | Forbidden) -> None:
        """One that has vanished is no news; one that we may not see is."""
        if place.is_root:
            raise Rejected(f"watch {place.watch}: {place.path}: {error}") from error
        self._watches.drop_below(place.path)
        if isinstance(error, Forbidden):
            WatchRefused(source=self._connection.source, path=place.path, error=str(error)).emit()

    async def _take(self, place: Place, page: Page) -> None:
        async for entry in page.entries():
            await self._ledger.has_room()
            path = join(place.path, entry.name)
            if entry.is_directory and place.recursive:
                self._enqueue(place.below(path))
            elif entry.is_file and self._connection.wants("created"):
                self._found(place, path, entry)

    def _found(self, place: Place, path: str, entry: Entry) -> None:
        now = self._clock.monotonic()
        check = Check(
            place=place,
            path=path,
            due=now + self._timing.longest_look,
            until=now + self._timing.patience,
            data=as_if_told(path, self._watches.url(place.path)),
        )
        if self._pass is not None:
            self._pass.found += 1
        if entry.is_complete:
            self._ledger.give(self._connection.facts.created(check, entry), None)
        else:
            self._ledger.look(check)

    async def _woken(self, until: float | None) -> bool:
        """Wait until a monotonic second; True if there was something to do before."""
        pause = None if until is None else until - self._clock.monotonic()
        if pause is not None and pause <= 0:
            return False
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True
