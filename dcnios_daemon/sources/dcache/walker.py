"""Goes through the watched directories: subscribes, lets the watch settle, lists, and goes on below.

A watch is armed some time after the server's yes, without a word when (``Inotify.updateZK``,
``EventNotifier``): so a directory is listed only after that time, and what the listing shows half-written is
looked at again. What is watched changes only here, one step after the other, so that none undoes another.

dCache has room for some 49,900 watches of all its users in one ZooKeeper node. So there is a bound of our
own; directories beyond it are listed on each pass like all others, but between passes nobody tells of them.
"""

import asyncio
from collections import deque
from collections.abc import Iterable

from dcnios_daemon.core.errors import Disconnected, Malformed, Rejected
from dcnios_daemon.sources.dcache.client.frontend import Forbidden, Missing
from dcnios_daemon.sources.dcache.client.inotify import flags, is_below, join, tail
from dcnios_daemon.sources.dcache.client.listing import pages
from dcnios_daemon.sources.dcache.connection import Connection
from dcnios_daemon.sources.dcache.finds import Finds
from dcnios_daemon.sources.dcache.passes import Pass, Passes
from dcnios_daemon.sources.dcache.visits import Leave, Visit
from dcnios_daemon.sources.dcache.watches import Place
from dcnios_daemon.telemetry.events import (
    DirectoriesWatched,
    ListingFailed,
    SourceRelisted,
    WatchesExhausted,
    WatchRefused,
)

_TRIES = 3
"""Times that a directory is listed in one pass if its listing breaks off."""


class Walker:
    """Keeps one connection's watches, and lists what it is told to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel = connection.channel
        self._watches = connection.watches
        self._ledger = connection.ledger
        self._clock = connection.clock
        self._timing = connection.timing
        self._finds = Finds(connection)
        self._roots = [
            Place(watch.path, name, recursive=watch.recursive, is_root=True)
            for name, watch in connection.settings.watch.items()
        ]
        self._jobs: deque[Visit | Leave] = deque()
        self._armed: deque[Visit] = deque()
        self._is_at_one = False
        """Whether a directory is being dealt with that is in neither queue."""
        self._queued: set[str] = set()
        """Paths in either queue."""
        self._replaced: set[str] = set()
        """Queued ones that may have become another directory since they were subscribed to."""
        self._unneeded: dict[str, str] = {}
        """Subscriptions, by tail, of directories that are elsewhere now or nowhere: deleted at the end of the
        walk, if it did not meet them again."""
        self._is_subscribing = False
        self._has_walked = connection.channel.is_new
        """Whether all that the channel knew before us has been met."""
        self._passes = Passes(self._clock, period=connection.settings.reconcile, timing=self._timing)
        self._is_tidy = connection.channel.is_new
        self._wake = asyncio.Event()
        self._stepped = asyncio.Event()

    # --- asked by others ------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether all that should be watched is."""
        return not (self._jobs or self._armed or self._is_at_one or self._passes.is_owed)

    def may_learn(self, subscription: str) -> bool:
        """Whether it may yet turn out what a subscription tells of that nobody knows now."""
        if not self._has_walked:
            return not self.is_idle
        return self._is_subscribing or tail(subscription) in self._unneeded

    async def stepped(self) -> None:
        """Return when it has gone on a little."""
        self._stepped.clear()
        await self._stepped.wait()

    def owe(self, cause: str) -> None:
        """Something may have been lost: list everything, after what is under way and a rest."""
        self._passes.owe(cause)
        self._ledger.owes_listing()
        self._wake.set()

    def adopt(self, place: Place, *, is_made: bool) -> None:
        """A directory has appeared at this place: one that was made there, or else moved there.

        Of a made one the walk may know already, if it is told late. Of a moved one it may know another state:
        what it was before it left and came back.
        """
        self._ledger.owes_listing()
        if place.path in self._queued:
            self._replaced.add(place.path)
            if not is_made:
                self._watches.unlist(place.path)
        elif is_made and self._watches.is_listed(place.path):
            self._enqueue(Visit(place, is_urgent=True, is_in_doubt=True))
        else:
            self._renew(place)
        self._wake.set()

    def leave(self, path: str) -> None:
        """The directory that was at this path was moved away."""
        self._jobs.append(Leave(path))
        self._wake.set()

    async def watch_roots(self) -> bool:
        """Subscribe to what the configuration names; whether the channel knew all of it before.

        Raises:
            Rejected: A path is not there or must not be seen.
        """
        return all([await self._subscribe(Visit(root)) for root in self._roots])

    def resume(self, listed_at: float) -> None:
        """Nothing was lost since the last full listing, so none is owed before its time."""
        self._passes.resume(listed_at)
        self._has_walked = True

    # --- the walk -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Walk for ever."""
        while True:
            self._wake.clear()
            self._is_at_one = True
            await self._step()
            self._is_at_one = False
            self._stepped.set()

    async def _step(self) -> None:
        if self._passes.begin():  # also before what is to be done anyway, which then counts for it
            self._ledger.owes_listing()
            for root in self._roots:
                self._enqueue(Visit(root))
        if self._jobs:
            job = self._jobs.popleft()
            if isinstance(job, Leave):
                self._forget_below(job.path)
            else:
                await self._visit(job)
        elif self._armed:
            await self._list_first()
        elif self._unneeded:
            _, url = self._unneeded.popitem()
            await self._channel.delete(url)
        else:
            self._is_at_one = False
            await self._rest()

    async def _rest(self) -> None:
        """Between walks."""
        if (ended := self._passes.end()) is not None:
            self._sum_up(ended)
        elif not self._is_tidy:
            await self._tidy()
        else:
            if self._passes.listed_at is not None:
                self._ledger.listed(self._passes.listed_at)
            self._stepped.set()
            await self._woken(self._passes.next)

    def _sum_up(self, ended: Pass) -> None:
        """Say what a pass has brought, and drop what it has not met: it vanished, and nobody told of it."""
        self._has_walked = True
        if ended.is_whole:
            self._release(self._watches.drop_unseen(ended.number))
            self._connection.tape.sweep()
        source, limit = self._connection.source, self._connection.settings.max_watches
        SourceRelisted(source=source, cause=ended.cause, found=ended.found).emit()
        DirectoriesWatched(source=source, watched=len(self._watches), unwatched=ended.unwatched).emit()
        if ended.unwatched:
            WatchesExhausted(source=source, max_watches=limit, unwatched=ended.unwatched).emit()

    async def _tidy(self) -> None:
        """Delete what an earlier life with another configuration has left watched."""
        urls = [url for url in await self._channel.subscriptions() if tail(url).startswith("inotify/")]
        self._release(url for url in urls if self._watches.place(url) is None)
        self._is_tidy = True

    def _release(self, urls: Iterable[str]) -> None:
        """Subscriptions that tell of nothing that we know."""
        self._unneeded.update({tail(url): url for url in urls})

    def _enqueue(self, visit: Visit) -> None:
        if visit.place.path not in self._queued:
            self._queued.add(visit.place.path)
            (self._jobs.appendleft if visit.is_urgent else self._jobs.append)(visit)

    def _renew(self, place: Place) -> None:
        """What told of this path may tell of another directory now, or of one that is no more."""
        if before := self._watches.url(place.path):
            self._watches.drop(before)
            self._release([before])
        self._enqueue(Visit(place, is_urgent=True))

    def _forget_below(self, path: str) -> None:
        """A directory has left. Perhaps another has taken its place already, told of before this."""
        places = [self._watches.at(path), *(root for root in self._roots if is_below(root.path, path))]
        self._release(self._watches.drop_below(path))
        for place in filter(None, places):
            self._enqueue(Visit(place))

    # --- one directory --------------------------------------------------------------------------------

    async def _visit(self, visit: Visit) -> None:
        if visit.is_in_doubt or visit.place.path in self._replaced:
            await self._watch(visit)
        elif self._watches.url(visit.place.path):
            self._arm(visit)
        elif len(self._watches) >= self._connection.settings.max_watches and not visit.place.is_root:
            visit.is_unwatched = True
            self._passes.unwatched()
            self._arm(visit)
        else:
            await self._watch(visit)

    async def _watch(self, visit: Visit) -> None:
        """Subscribe: the answer also says whether the directory that is there now was watched before."""
        path = visit.place.path
        self._replaced.discard(path)
        before = self._watches.url(path)
        try:
            await self._subscribe(visit)
        except (Missing, Forbidden) as error:
            self._queued.discard(path)
            self._refused(visit.place, error)
            return
        if before and tail(before) != tail(self._watches.url(path)):
            self._watches.drop(before)
            self._release([before])
        if visit.is_in_doubt and self._watches.is_listed(path, self._number):
            self._queued.discard(path)
        else:
            self._arm(visit)

    def _arm(self, visit: Visit) -> None:
        """List it when its watch has settled; at once, if it has and that is urgent."""
        is_first = visit.is_urgent and self._watches.armed(visit.place.path) <= self._clock.monotonic()
        (self._armed.appendleft if is_first else self._armed.append)(visit)

    async def _list_first(self) -> None:
        visit = self._armed[0]
        place = visit.place
        if await self._woken(max(self._watches.armed(place.path), visit.not_before)):
            return
        self._armed.popleft()
        if place.path in self._replaced:
            await self._watch(visit)
            return
        self._queued.discard(place.path)
        try:
            is_another = await self._list(visit)
        except (Missing, Forbidden) as error:
            self._refused(place, error)
        except (Disconnected, Malformed) as error:
            self._broke_off(visit, error)
        else:
            if is_another:
                self._renew(place)

    async def _list(self, visit: Visit) -> bool:
        """Take what is in a directory; whether it is another one than the one that we watch."""
        place, is_another = visit.place, False
        async for page in pages(self._connection.frontend, place.path, size=self._timing.page):
            is_another |= not visit.is_unwatched and self._watches.is_another(place.path, page.pnfsid)
            async for entry in page.entries():
                await self._ledger.has_room()
                if entry.is_directory and place.recursive:
                    child = place.below(join(place.path, entry.name))
                    if not self._has_met(child, entry.pnfsid):
                        self._enqueue(Visit(child, entry.pnfsid, is_urgent=visit.is_urgent))
                elif self._finds.take(place, entry) and self._passes.current is not None:
                    self._passes.current.found += 1
        self._watches.see(place.path, self._number)
        return is_another

    def _has_met(self, place: Place, pnfsid: str) -> bool:
        """Whether this pass has listed that directory, which had just appeared."""
        return bool(self._number) and self._watches.is_listed(place.path, self._number, pnfsid=pnfsid)

    @property
    def _number(self) -> int:
        """Of the pass under way; 0: there is none."""
        return 0 if self._passes.current is None else self._passes.current.number

    def _broke_off(self, visit: Visit, error: Disconnected | Malformed) -> None:
        """Try again after the others; a directory that cannot be listed must not keep us from those behind
        it. Whether the frontend is still there at all, the stream tells."""
        visit.tries += 1
        if visit.tries < _TRIES:
            visit.not_before = self._clock.monotonic() + self._timing.settle
            self._queued.add(visit.place.path)
            self._armed.append(visit)
            return
        ListingFailed(source=self._connection.source, path=visit.place.path, error=str(error)).emit()
        if self._passes.current is not None:
            self._passes.current.is_whole = False
        else:
            self.owe("incomplete")

    async def _subscribe(self, visit: Visit) -> bool:
        """Whether the channel knew it before: then the watch has long settled."""
        place = visit.place
        selector = {"path": place.path, "flags": flags(self._connection.settings.on)}
        self._is_subscribing = True
        try:
            made = await self._channel.subscribe("inotify", selector)
        except (Missing, Forbidden) as error:
            if place.is_root:
                raise Rejected(f"watch {place.watch}: {place.path}: {error}") from error
            raise
        finally:
            self._is_subscribing = False
        settle = self._timing.settle if made.is_new else 0.0
        self._watches.add(place, made.url, armed=self._clock.monotonic() + settle, pnfsid=visit.pnfsid)
        self._unneeded.pop(tail(made.url), None)
        return not made.is_new

    def _refused(self, place: Place, error: Missing | Forbidden) -> None:
        """One that has vanished is no news; one that we may not see is."""
        if place.is_root:
            raise Rejected(f"watch {place.watch}: {place.path}: {error}") from error
        self._release(self._watches.drop_below(place.path))
        if isinstance(error, Forbidden):
            WatchRefused(source=self._connection.source, path=place.path, error=str(error)).emit()

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
