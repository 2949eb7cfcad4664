"""A look through the directory, and what is new in it. Pure but for the reading: it changes nothing that it
is given, so that it can run on a thread, and be left to itself when nobody waits for it any more.
"""

import contextlib
import heapq
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from dcnios_daemon.core.errors import Disconnected
from dcnios_daemon.core.routing import glob

UNFINISHED = (".part", ".tmp", ".filepart", ".crdownload", "~")
"""How copying tools end the names of files that they still write."""
_RUN = 5000


class Sighting(msgspec.Struct, frozen=True, gc=False):
    """A file as it was seen. Times in nanoseconds since the epoch."""

    inode: int
    size: int
    modified: int
    changed: int

    @property
    def version(self) -> tuple[int, int, int]:
        """What differs once the file is another. Not the change time: a chmod makes no new file."""
        return (self.inode, self.size, self.modified)


class Known(msgspec.Struct, gc=False):
    """What is remembered of a path while there is a file."""

    path: str
    """One text for all looks: a new one for each would leave the memory in shreds."""
    inode: int
    size: int
    modified: int
    since: float
    """When this version was first seen, monotonic."""
    given: bool = False

    @property
    def version(self) -> tuple[int, int, int]:
        """See :class:`Sighting`."""
        return (self.inode, self.size, self.modified)


class Glance(msgspec.Struct, frozen=True):
    """What to look for."""

    root: Path
    pattern: str
    quiet: float
    """Seconds."""
    passed_over: frozenset[str] = frozenset()
    """Folders below the root, as ``a/b``, whose files are none of ours."""

    @property
    def deep(self) -> bool:
        """Whether folders are looked into."""
        return "/" in self.pattern


class Look(msgspec.Struct):
    """What was found."""

    known: dict[str, Known] = msgspec.field(default_factory=dict)
    """By the path below the root, all that are there."""
    complete: list[tuple[int, str]] = msgspec.field(default_factory=list)
    """Not given yet: when it changed, in nanoseconds since the epoch, and its path; the latest first."""
    growing: int | None = None
    """The earliest change of a file that is not complete, nanoseconds since the epoch."""
    growing_since: float | None = None
    """When the first of those was first seen as it is, monotonic."""
    latest: int = 0
    """The latest change of any file, nanoseconds since the epoch."""
    refused: list[str] = msgspec.field(default_factory=list)
    """Folders that cannot be read, and why."""
    root: tuple[int, int] = (0, 0)
    """The directory itself: device and inode."""


def look(glance: Glance, known: Mapping[str, Known], *, now: float, given_before: int) -> Look:
    """Go through the directory once.

    Args:
        glance: What to look for.
        known: What is remembered of the last look.
        now: When this one began, monotonic.
        given_before: Files that are not known yet, and changed before this, were given in an earlier life.
            Nanoseconds since the epoch.

    Raises:
        Disconnected: The directory itself cannot be read.
    """
    matches = glob(glance.pattern)
    found = Look()
    try:
        itself = glance.root.stat()
        found.root = (itself.st_dev, itself.st_ino)
        for path, sighting in _walk(glance, "", found.refused):
            if matches(path):
                _compare(found, path, sighting, known.get(path), (now, glance.quiet, given_before))
    except OSError as error:
        raise Disconnected(f"cannot look into {glance.root}: {error.strerror}") from error
    found.complete = _sorted(found.complete)
    return found


def _sorted(found: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The latest first. Sorting lets no other thread run: so a handful at a time."""
    runs = [sorted(found[start : start + _RUN], reverse=True) for start in range(0, len(found), _RUN)]
    return list(heapq.merge(*runs, reverse=True))


def _compare(
    found: Look, path: str, sighting: Sighting, known: Known | None, terms: tuple[float, float, int]
) -> None:
    now, quiet, given_before = terms
    if known is None or known.version != sighting.version:
        given = known is None and sighting.changed < given_before
        known = Known(path, *sighting.version, since=now, given=given)
    found.known[known.path] = known
    found.latest = max(found.latest, sighting.changed)
    if known.given:
        return
    if now - known.since >= quiet:
        found.complete.append((sighting.changed, known.path))
        return
    found.growing = min(found.growing or sighting.changed, sighting.changed)
    found.growing_since = min(found.growing_since or known.since, known.since)


def _walk(glance: Glance, below: str, refused: list[str]) -> Iterator[tuple[str, Sighting]]:
    """Files under ``root/below``; into folders only where the pattern does."""
    folders = []
    with os.scandir(glance.root / below) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{below}{entry.name}"
            if entry.is_file(follow_symlinks=False):
                if not entry.name.endswith(UNFINISHED):
                    with contextlib.suppress(FileNotFoundError):  # gone since its folder was read
                        yield path, sight(entry.stat(follow_symlinks=False))
            elif glance.deep and entry.is_dir(follow_symlinks=False) and path not in glance.passed_over:
                folders.append(path)
    for folder in folders:
        try:
            yield from _walk(glance, f"{folder}/", refused)
        except FileNotFoundError:
            continue
        except PermissionError as error:
            refused.append(f"{glance.root / folder}: {error.strerror}")


def sight(stat: os.stat_result) -> Sighting:
    """What matters of a file's inode."""
    return Sighting(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
