"""The name space in memory: inodes, directories, paths. Knows nothing of events or HTTP.

Kept small per file, so that 100,000 files in 1,000 directories cost little.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

POOL = "pool_a"


class FileType(StrEnum):
    """What an inode is (``fileType`` in section 5)."""

    REGULAR = "REGULAR"
    DIR = "DIR"


class Locality(StrEnum):
    """Where a file's data are (``fileLocality`` in section 5)."""

    ONLINE = "ONLINE"
    NEARLINE = "NEARLINE"
    BOTH = "ONLINE_AND_NEARLINE"
    UNAVAILABLE = "UNAVAILABLE"
    NONE = "NONE"


class NamespaceError(Exception):
    """A name space operation that cannot be done."""


class NoSuchFileError(NamespaceError):
    """The path does not exist."""


class NotDirectoryError(NamespaceError):
    """The path exists but is no directory."""


class FileExistsInWayError(NamespaceError):
    """The target exists already."""


class NotEmptyError(NamespaceError):
    """The directory has entries."""


@dataclass(slots=True, eq=False)
class Inode:
    """A file or directory; what watches are bound to (section 3: watches follow the inode)."""

    pnfsid: str
    kind: FileType
    name: str
    parent: Inode | None
    owner: int
    created: int
    mtime: int
    ctime: int
    size: int | None = None
    data: bytes = b""
    locations: tuple[str, ...] = ()
    on_tape: bool = False
    children: dict[str, Inode] | None = None
    early_404: int = 0
    stale_stats: int = 0

    @property
    def is_dir(self) -> bool:
        """Whether this is a directory."""
        return self.kind is FileType.DIR

    @property
    def locality(self) -> Locality:
        """Where the data are, as the pool manager sees it."""
        if self.size is None:
            return Locality.NONE if not self.locations else Locality.UNAVAILABLE
        if self.locations:
            return Locality.BOTH if self.on_tape else Locality.ONLINE
        return Locality.NEARLINE if self.on_tape else Locality.UNAVAILABLE

    def path(self) -> str:
        """Return the absolute path at this moment."""
        names: list[str] = []
        here: Inode | None = self
        while here is not None and here.parent is not None:
            names.append(here.name)
            here = here.parent
        return "/" + "/".join(reversed(names))

    def attached(self) -> bool:
        """Whether the inode is still reachable from the root."""
        here = self
        while here.parent is not None:
            if (here.parent.children or {}).get(here.name) is not here:
                return False
            here = here.parent
        return here.name == ""


def split(path: str) -> list[str]:
    """Return the names on ``path``; ``..`` never leads out of the root."""
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            del names[-1:]
        elif name not in {"", "."}:
            names.append(name)
    return names


def join(*paths: str) -> str:
    """Return one absolute, normalised path."""
    return "/" + "/".join(split("/".join(paths)))


def now_ms() -> int:
    """Return the wall-clock time in milliseconds, the unit of ``mtime`` and ``creationTime``."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Namespace:
    """The tree below ``/``."""

    rng: random.Random
    root: Inode = field(init=False)

    def __post_init__(self) -> None:
        """Make the root directory."""
        self.root = self._inode(FileType.DIR, "", None, owner=0)

    def _inode(self, kind: FileType, name: str, parent: Inode | None, *, owner: int) -> Inode:
        now = now_ms()
        pnfsid = f"0000{self.rng.getrandbits(128):032X}"
        children: dict[str, Inode] | None = {} if kind is FileType.DIR else None
        return Inode(pnfsid, kind, name, parent, owner, now, now, now, children=children)

    def find(self, path: str) -> Inode:
        """Return what is at ``path``."""
        here = self.root
        for name in split(path):
            if here.children is None or name not in here.children:
                raise NoSuchFileError(path)
            here = here.children[name]
        return here

    def exists(self, path: str) -> bool:
        """Whether something is at ``path``."""
        try:
            self.find(path)
        except NoSuchFileError:
            return False
        return True

    def parent_of(self, path: str) -> tuple[Inode, str]:
        """Return the directory that holds ``path`` and the last name."""
        names = split(path)
        if not names:
            raise FileExistsInWayError(path)
        parent = self.find("/".join(names[:-1]))
        if parent.children is None:
            raise NotDirectoryError(parent.path())
        return parent, names[-1]

    def create(self, path: str, kind: FileType, *, owner: int = 0) -> Inode:
        """Make a new entry; its parent must exist and its name be free."""
        parent, name = self.parent_of(path)
        if name in _entries(parent):
            raise FileExistsInWayError(path)
        inode = self._inode(kind, name, parent, owner=owner)
        _entries(parent)[name] = inode
        parent.mtime = parent.ctime = inode.created
        return inode

    def detached(self, name: str, *, owner: int = 0) -> Inode:
        """Make a file that is in no visible directory yet (an SRM upload, section 3)."""
        return self._inode(FileType.REGULAR, name, None, owner=owner)

    def attach(self, inode: Inode, path: str) -> Inode | None:
        """Put ``inode`` at ``path`` and return what it replaced; its mtime stays (section 5)."""
        parent, name = self.parent_of(path)
        entries = _entries(parent)
        victim = entries.get(name)
        if victim is not None and victim is not inode and (victim.is_dir or inode.is_dir):
            raise FileExistsInWayError(path)
        if inode.is_dir and (inode is parent or _is_below(parent, inode)):
            message = f"{inode.path()} cannot move below itself"
            raise FileExistsInWayError(message)
        self.detach(inode)
        entries.pop(name, None)
        entries[name] = inode
        inode.name, inode.parent = name, parent
        parent.mtime = inode.ctime = now_ms()
        return None if victim is inode else victim

    def detach(self, inode: Inode) -> None:
        """Take ``inode`` out of its directory."""
        if inode.parent is not None and (inode.parent.children or {}).get(inode.name) is inode:
            del _entries(inode.parent)[inode.name]
            inode.parent.mtime = now_ms()

    def remove(self, inode: Inode) -> None:
        """Delete a file or an empty directory."""
        if inode.parent is None:
            raise NotEmptyError(inode.path())
        if inode.children:
            raise NotEmptyError(inode.path())
        self.detach(inode)

    def walk(self) -> Iterator[Inode]:
        """Yield every inode below the root."""
        pending = [self.root]
        while pending:
            for inode in list(_entries(pending.pop()).values()):
                yield inode
                if inode.is_dir:
                    pending.append(inode)


def _entries(directory: Inode) -> dict[str, Inode]:
    if directory.children is None:
        raise NotDirectoryError(directory.path())
    return directory.children


def _is_below(inode: Inode, ancestor: Inode) -> bool:
    here: Inode | None = inode
    while here is not None:
        if here is ancestor:
            return True
        here = here.parent
    return False
