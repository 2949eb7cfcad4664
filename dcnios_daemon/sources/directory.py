"""Files that appear in a directory, found by looking: works on every file system, network ones included.

A file is complete once its size and modification time stayed the same for a while; names that copying tools
give to unfinished files are passed over until they are renamed. A file is known by path, inode, size and
modification time, so that writing it again, or another of its name, is a new event.

After a restart the files are all still there. Which of them were given is told by one instant in the cursor:
the change time (``st_ctime``) up to which all files were given. The kernel sets it when a file comes into its
place or changes, and nobody can set it back. Files from an hour before it are given again, and known by
their keys.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Self

import msgspec
from pydantic import Field, model_validator

from dcnios_daemon.core.clock import Clock, SystemClock, iso
from dcnios_daemon.core.errors import Disconnected, Rejected
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Batch
from dcnios_daemon.core.routing import glob
from dcnios_daemon.core.settings import Settings
from dcnios_daemon.core.units import Duration
from dcnios_daemon.sources.admission import encodable
from dcnios_daemon.telemetry import events as telemetry

KIND = "directory"
MARGIN = 3600 * 10**9
"""Nanoseconds before the cursor's instant from which files are given again after a restart."""
PAGE = 1000
"""Files in a batch, at most."""
UNFINISHED = (".part", ".tmp", ".filepart", ".crdownload", "~")
"""How copying tools end the names of files that they still write."""


class DirectorySettings(Settings):
    """Files that appear in a directory."""

    path: Path
    """Made if only its last part is missing when the source runs for the first time."""
    pattern: Annotated[str, Field(min_length=1)] = "*"
    """Glob over the path below the directory; folders below are looked into if it holds a ``/``: ``**/*``.
    Names with a dot in front, and those of unfinished files (``.part``, ``.tmp``, ``~``), are passed over."""
    poll: Annotated[Duration, Field(gt=0)] = 1.0
    """Look this often."""
    quiet: Duration = 2.0
    """A file is complete once it was left alone for this long."""

    @model_validator(mode="after")
    def _below(self) -> Self:
        if self.pattern.startswith("/"):
            raise ValueError("pattern is matched against the path below the directory: no / in front")
        return self


class Sighting(msgspec.Struct, frozen=True):
    """A file as it was seen. Times in nanoseconds since the epoch."""

    inode: int
    size: int
    modified: int
    changed: int

    @property
    def version(self) -> tuple[int, int, int]:
        """What differs once the file is another. Not the change time: a chmod makes no new file."""
        return (self.inode, self.size, self.modified)


class Known(msgspec.Struct):
    """What is remembered of a path while there is a file."""

    version: tuple[int, int, int]
    since: float
    """When this version was first seen, monotonic."""
    given: bool = False


class DirectorySource:
    """Implements :class:`~dcnios_daemon.core.ports.Source`.

    Args:
        name: The source's name in the configuration.
        settings: Its block there.
        clock: Tells the time.
    """

    def __init__(self, *, name: str, settings: DirectorySettings, clock: Clock | None = None) -> None:
        self._name = name
        self._settings = settings
        self._clock = clock or SystemClock()
        self._known: dict[str, Known] = {}
        self._complete: list[tuple[str, Sighting]] = []
        """Found and not yet read, the latest change first."""
        self._latest = 0
        """The latest change ever seen, nanoseconds since the epoch."""
        self._growing: int | None = None
        """The earliest change of a file that was not complete at the last look."""
        self._given_before = 0
        """At the first look: files that changed before this were given in an earlier life."""
        self._next_look = 0.0
        self._refused: set[str] = set()
        """Folders below that cannot be read, once that was said."""

    async def connect(self, cursor: str | None) -> None:
        """See that the directory is there."""
        self._latest = self._read_cursor(cursor)
        self._given_before = self._latest - MARGIN
        await asyncio.to_thread(_prepare, self._settings.path, may_make=cursor is None)

    async def read(self) -> Batch:
        """Look until there are complete files."""
        while not self._complete:
            await asyncio.sleep(max(0.0, self._next_look - self._clock.monotonic()))
            began = self._clock.monotonic()
            seen, refused = await asyncio.to_thread(_look, self._settings)
            now = self._clock.monotonic()
            self._compare(seen, now=began)
            self._complain(refused)
            # A directory that takes long to look through may take half of our time, not all of it.
            self._next_look = max(began + self._settings.poll, 2 * now - began)
        return self._take()

    async def ack(self, batch: Batch) -> None:
        """Nobody is to be told."""

    async def pause(self) -> None:
        """Files wait by themselves."""

    async def resume(self) -> None:
        """Likewise."""

    async def aclose(self) -> None:
        """Nothing is held."""

    # ----------------------------------------------------------------------------------------------------

    def _compare(self, seen: dict[str, Sighting], *, now: float) -> None:
        """Find what is complete; forget what is gone."""
        self._known = {path: known for path, known in self._known.items() if path in seen}
        growing: list[int] = []
        for path, sighting in seen.items():
            known = self._known.get(path)
            if known is None or known.version != sighting.version:
                given = known is None and sighting.changed < self._given_before
                known = self._known[path] = Known(sighting.version, since=now, given=given)
            if known.given:
                continue
            if now - known.since >= self._settings.quiet:
                self._complete.append((path, sighting))
            else:
                growing.append(sighting.changed)
        self._given_before = 0
        self._complete.sort(key=lambda found: found[1].changed, reverse=True)
        self._growing = min(growing, default=None)
        self._latest = max([self._latest, *(sighting.changed for sighting in seen.values())])

    def _take(self) -> Batch:
        taken = [self._complete.pop() for _ in range(min(PAGE, len(self._complete)))]
        for path, _ in taken:
            self._known[path].given = True
        still_to_give = [sighting.changed for _, sighting in self._complete[-1:]]
        if self._growing is not None:
            still_to_give.append(self._growing)
        cursor = min([self._latest, *still_to_give])
        events = tuple(self._event(path, sighting) for path, sighting in taken)
        return Batch(events=events, cursor=str(cursor))

    def _complain(self, refused: Sequence[str]) -> None:
        for line in set(refused) - self._refused:
            telemetry.InputMalformed(source=self._name, what="folder passed over", error=line).emit()
        self._refused = set(refused)

    def _event(self, path: str, sighting: Sighting) -> Event:
        whole = encodable(str(self._settings.path.absolute() / path))
        facts = {
            "path": whole,
            "name": encodable(path),
            "size": sighting.size,
            "modified": iso(sighting.modified / 1e9),
        }
        return Event(
            key=event_key(self._name, path, *sighting.version),
            source=self._name,
            kind=KIND,
            subject=path,
            action=Action.CREATED,
            time=sighting.modified / 1e9,
            size=sighting.size,
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


def _prepare(path: Path, *, may_make: bool) -> None:
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


def _look(settings: DirectorySettings) -> tuple[dict[str, Sighting], list[str]]:
    """All finished-looking files that match, by their path below the directory; folders that refuse us.

    Raises:
        Disconnected: The directory itself cannot be read.
    """
    matches = glob(settings.pattern)
    refused: list[str] = []
    try:
        found = _walk(settings.path, "", refused if "/" in settings.pattern else None)
        return {path: sighting for path, sighting in found if matches(path)}, refused
    except OSError as error:
        raise Disconnected(f"cannot look into {settings.path}: {error.strerror}") from error


def _walk(root: Path, below: str, refused: list[str] | None) -> Iterator[tuple[str, Sighting]]:
    """Files under ``root/below``; into folders only where there is a list for those that refuse us."""
    with os.scandir(root / below) as entries:
        found = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in found:
        path = f"{below}{entry.name}"
        try:
            if entry.is_file(follow_symlinks=False):
                if not entry.name.endswith(UNFINISHED):
                    yield path, _sight(entry.stat(follow_symlinks=False))
            elif refused is not None and entry.is_dir(follow_symlinks=False):
                yield from _walk(root, f"{path}/", refused)
        except FileNotFoundError:
            continue  # gone since its folder was read
        except PermissionError as error:
            if refused is not None:
                refused.append(f"{root / path}: {error.strerror}")


def _sight(stat: os.stat_result) -> Sighting:
    return Sighting(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def build(*, name: str, settings: DirectorySettings, instance: str) -> DirectorySource:  # noqa: ARG001 - all kinds are built alike
    """See :class:`~dcnios_daemon.sources.registry.SourceKind`."""
    return DirectorySource(name=name, settings=settings)
