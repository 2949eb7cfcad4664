"""The source: looks when it is told to or when it is time, gives what is complete, has moved what is done."""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Never

import msgspec

from dcnios_daemon.core.clock import Clock, SystemClock, iso
from dcnios_daemon.core.errors import Disconnected, Rejected
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Batch, Ended
from dcnios_daemon.sources.admission import encodable
from dcnios_daemon.sources.directory import tidy
from dcnios_daemon.sources.directory.look import Glance, Known, Look, look
from dcnios_daemon.sources.directory.settings import DirectorySettings, Processed
from dcnios_daemon.sources.directory.watch import Watch
from dcnios_daemon.telemetry import events as telemetry

KIND = "directory"
MARGIN = 3600 * 10**9
"""Nanoseconds before the cursor's instant from which files are given again after a restart."""
PAGE = 1000
"""Files in a batch, at most."""
WATCHED_POLL = 30.0
"""Seconds between looks where the kernel tells of changes: in case it did not."""
LEFT_FOR_REPLAY = 600.0
"""Seconds that a file stays after it came, even if it failed before: for who moves it back and replays it."""
_SHARE = 3
"""A look that was asked for comes after so many times what the last one took."""


class DirectorySource:
    """Implements :class:`~dcnios_daemon.core.ports.Source`, ``Working`` and ``Following``.

    Args:
        name: The source's name in the configuration.
        settings: Its block there.
        clock: Tells the time.
    """

    def __init__(self, *, name: str, settings: DirectorySettings, clock: Clock | None = None) -> None:
        self._name = name
        self._settings = settings
        self._clock = clock or SystemClock()
        self._glance = Glance(settings.path, settings.pattern, settings.quiet)
        self._seen = Look()
        """The last look. Of its complete files those that were not given since."""
        self._latest = 0
        """The latest change ever seen, nanoseconds since the epoch."""
        self._given_before = 0
        """At the first look: files that changed before this were given in an earlier life."""
        self._next_look = self._not_before = 0.0
        self._told = asyncio.Event()
        self._watch = Watch(source=name, path=settings.path, deep=self._glance.deep, told=self._told.set)
        self._ended: Ended | None = None
        self._said: frozenset[str] = frozenset()
        """What could not be read, once that was said."""
        self._kept: set[str] = set()
        """Why files could not be moved, likewise."""

    def follow(self, ended: Ended) -> None:
        """See :class:`~dcnios_daemon.core.ports.Following`."""
        self._ended = ended

    async def connect(self, cursor: str | None) -> None:
        """See that the directory is there."""
        self._latest = self._read_cursor(cursor)
        self._given_before = self._latest - MARGIN
        passed_over = await asyncio.to_thread(_prepare, self._settings, may_make=cursor is None)
        self._glance = msgspec.structs.replace(self._glance, passed_over=passed_over)

    async def read(self) -> Batch:
        """Look until there are complete files."""
        while not self._seen.complete:
            await self._until_due()
            began = self._clock.monotonic()
            seen = await asyncio.to_thread(
                look, self._glance, self._seen.known, now=began, given_before=self._given_before
            )
            self._adopt(seen, began)
        return self._take()

    async def work(self) -> None:
        """Listen for changes, and move what is done with."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run(), name=f"{self._name}: watch")
            if self._settings.processed is not None and self._ended is not None:
                group.create_task(
                    self._tidy(self._settings.processed, self._ended), name=f"{self._name}: tidy"
                )

    async def ack(self, batch: Batch) -> None:
        """Nobody is to be told."""

    async def pause(self) -> None:
        """Files wait by themselves."""

    async def resume(self) -> None:
        """Likewise."""

    async def aclose(self) -> None:
        """Nothing is held."""

    # --- looking ----------------------------------------------------------------------------------------

    async def _until_due(self) -> None:
        """Until it is time, or something changed and the last look is long enough ago."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._next_look - self._clock.monotonic())):
                await self._told.wait()
                await asyncio.sleep(max(0.0, self._not_before - self._clock.monotonic()))
        self._told.clear()

    def _adopt(self, seen: Look, began: float) -> None:
        if self._watch.listens and self._seen.root not in {(0, 0), seen.root}:
            raise Disconnected(f"{self._settings.path.absolute()} is another directory than before")
        now = self._clock.monotonic()
        poll = max(self._settings.poll, WATCHED_POLL) if self._watch.listens else self._settings.poll
        # A directory that takes long to look through may take half of our time, not all of it.
        self._next_look = max(began + poll, 2 * now - began)
        self._not_before = now + _SHARE * (now - began)
        if seen.growing_since is not None and self._watch.listens:
            quiet = max(self._not_before, seen.growing_since + self._settings.quiet)
            self._next_look = min(self._next_look, quiet)
        self._seen, self._given_before = seen, 0
        self._latest = max(self._latest, seen.latest)
        self._complain(seen.refused)

    def _take(self) -> Batch:
        seen = self._seen
        taken = [seen.complete.pop() for _ in range(min(PAGE, len(seen.complete)))]
        for _, path in taken:
            seen.known[path].given = True
        still_to_give = [changed for changed, _ in seen.complete[-1:]]
        if seen.growing is not None:
            still_to_give.append(seen.growing)
        cursor = min([self._latest, *still_to_give])
        events = tuple(self._event(path, seen.known[path]) for _, path in taken)
        return Batch(events=events, cursor=str(cursor))

    def _complain(self, refused: Sequence[str]) -> None:
        for line in frozenset(refused) - self._said:
            telemetry.InputMalformed(source=self._name, what="folder passed over", error=line).emit()
        self._said = frozenset(refused)

    def _key(self, path: str, version: tuple[int, int, int]) -> str:
        return event_key(self._name, path, *version)

    def _event(self, path: str, file: Known) -> Event:
        whole = encodable(str(self._settings.path.absolute() / path))
        facts = {
            "path": whole,
            "name": encodable(path),
            "size": file.size,
            "modified": iso(file.modified / 1e9),
        }
        return Event(
            key=self._key(path, file.version),
            source=self._name,
            kind=KIND,
            subject=path,
            action=Action.CREATED,
            time=file.modified / 1e9,
            size=file.size,
            data=msgspec.json.encode(facts),
            attributes={"path": whole},
        )

    def _read_cursor(self, cursor: str | None) -> int:
        if cursor is None or cursor.isdecimal():
            return int(cursor or 0)
        telemetry.InputMalformed(
            source=self._name, what="stored cursor", error=f"{cursor!r} is no instant"
        ).emit()
        return 0

    # --- tidying ----------------------------------------------------------------------------------------

    async def _tidy(self, processed: Processed, ended: Ended) -> Never:
        """Go through what was given, again and again, and move what is done with."""
        while True:
            given = [(path, known) for path, known in self._seen.known.items() if known.given]
            for start in range(0, len(given), tidy.PAGE):
                moved = await self._tidy_page(given[start : start + tidy.PAGE], processed, ended)
                await asyncio.sleep(0 if moved else tidy.PAUSE)
            await asyncio.sleep(tidy.PAUSE)

    async def _tidy_page(self, page: Sequence[tuple[str, Known]], processed: Processed, ended: Ended) -> int:
        keys = await asyncio.to_thread(lambda: [self._key(path, known.version) for path, known in page])
        well = await ended(keys)
        errands = [
            tidy.Errand(path, known.version, folder)
            for (path, known), key in zip(page, keys, strict=True)
            if key in well and (folder := self._folder(processed, known, well=well[key]))
        ]
        moved, complaints = await asyncio.to_thread(tidy.move, self._settings.path, errands)
        for line in set(complaints) - self._kept:
            telemetry.FilesKept(source=self._name, error=line).emit()
        self._kept |= set(complaints)
        if moved:
            telemetry.FilesMoved(source=self._name, moved=moved).emit()
        return moved

    def _folder(self, processed: Processed, known: Known, *, well: bool) -> Path | None:
        if well:
            return processed.move_to
        is_left = self._clock.monotonic() - known.since < LEFT_FOR_REPLAY
        return None if is_left else processed.failed_to


def _prepare(settings: DirectorySettings, *, may_make: bool) -> frozenset[str]:
    path = settings.path
    try:
        if may_make and path.parent.is_dir():
            path.mkdir(exist_ok=True)
        with os.scandir(path):
            pass
    except FileNotFoundError:
        where = f"nor is {path.parent.absolute()}" if not path.parent.is_dir() else "though it was before"
        raise Rejected(f"the directory {path.absolute()} is not there, {where}") from None
    except OSError as error:
        raise Rejected(f"the directory {path.absolute()} cannot be read: {error.strerror}") from error
    return tidy.prepare(settings)


def build(*, name: str, settings: DirectorySettings, instance: str) -> DirectorySource:  # noqa: ARG001 - all kinds are built alike
    """See :class:`~dcnios_daemon.sources.registry.SourceKind`."""
    return DirectorySource(name=name, settings=settings)
