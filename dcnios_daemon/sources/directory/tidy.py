"""Moves files away that are done with. It keeps no list of its own: what lies in the directory and was given
is what may be moved, and the journal knows what became of it. So a restart forgets nothing, and a crash at
any moment leaves a file either here or there. What a crash leaves of a name that was taken for it, a symbolic
link that says for which file, is used by the next start.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from dcnios_daemon.core.errors import Rejected
from dcnios_daemon.sources.directory.look import sight
from dcnios_daemon.sources.directory.settings import DirectorySettings

PAGE = 1000
"""Files that the journal is asked about at a time."""
PAUSE = 1.0
"""Seconds between two questions, unless the last one had something moved."""
_NAMES = 10_000
"""How many names are tried for a file whose own is taken."""


class Errand(msgspec.Struct, frozen=True):
    """A file to be moved."""

    path: str
    """Below the directory."""
    version: tuple[int, int, int]
    """As it was given; another is another file."""
    folder: Path
    """Where to."""


def prepare(settings: DirectorySettings) -> frozenset[str]:
    """See that files can go where they are to go. Returns which folders below the directory those are.

    Raises:
        Rejected: They cannot; says why.
    """
    if settings.processed is None:
        return frozenset()
    return frozenset(_below(settings.path, folder) for folder in settings.processed.folders) - {""}


def _below(root: Path, folder: Path) -> str:
    try:
        folder.mkdir(exist_ok=True)
        is_same = folder.stat().st_dev == root.stat().st_dev
    except OSError as error:
        raise Rejected(f"files cannot be moved to {folder.absolute()}: {error.strerror}") from error
    if not is_same:
        raise Rejected(f"{folder.absolute()} is on another file system than {root.absolute()}")
    here, there = Path(os.path.realpath(root)), Path(os.path.realpath(folder))
    if here == there:
        raise Rejected(f"{folder.absolute()} is the directory itself")
    return there.relative_to(here).as_posix() if there.is_relative_to(here) else ""


def move(root: Path, errands: Sequence[Errand]) -> tuple[int, list[str]]:
    """Move files. Returns how many were, and what went wrong with others."""
    moved, complaints = 0, []
    for errand in errands:
        try:
            moved += _move(root / errand.path, errand)
        except FileNotFoundError:
            continue  # somebody took it
        except OSError as error:
            complaints.append(f"{errand.folder}: {error.strerror}")
    return moved, complaints


def _move(file: Path, errand: Errand) -> bool:
    if _version(file) != errand.version:
        return False
    target = _reserve(errand.folder / errand.path, errand.version)
    try:
        os.rename(file, target)  # noqa: PTH104 - names may be any bytes
    except OSError:
        target.unlink()
        raise
    if _version(target) == errand.version:
        return True
    _put_back(target, file)
    return False


def _version(file: Path) -> tuple[int, int, int]:
    return sight(file.lstat()).version


def _reserve(wanted: Path, version: tuple[int, int, int]) -> Path:
    """That name or the next free one, taken for this file: what is there is never written over.

    A symbolic link to nowhere takes it, because making one is atomic with what it says. Of an empty file
    nobody could tell after a crash whose it is.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    mark = "dcnios-moves-here:" + "-".join(map(str, version))
    for number in range(_NAMES):
        target = wanted.with_name(f"{wanted.name}.{number}") if number else wanted
        try:
            target.symlink_to(mark)
        except FileExistsError:
            if not _says(target, mark):
                continue
        return target
    raise FileExistsError(0, f"{_NAMES} files are called {wanted.name} already")


def _says(target: Path, mark: str) -> bool:
    try:
        return target.readlink() == Path(mark)
    except OSError:
        return False


def _put_back(target: Path, file: Path) -> None:
    """It was replaced in the last moment, by one that is still to be given. If its place is taken by a third
    one already, it has been written over: then it stays where it is.
    """
    with contextlib.suppress(FileExistsError):
        os.link(target, file)
        target.unlink()
