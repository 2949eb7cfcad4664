"""A directory of very many complete files, none of which is kept: each is made when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from .namespace import POOL, FileType, Inode, now_ms

_PREFIX = "crowd-"


class Crowd(dict[str, Inode]):
    """The entries of ``directory``: so many files of which only the number is kept, and others beside."""

    def __init__(self, directory: Inode, count: int) -> None:
        super().__init__(directory.children or {})
        self._directory = directory
        self._count = count
        self._made = now_ms()

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or self._number(name) is not None

    def __len__(self) -> int:
        return super().__len__() + self._count

    def __missing__(self, name: str) -> Inode:
        number = self._number(name)
        if number is None:
            raise KeyError(name)
        return self._member(number)

    def get(self, name: str, default: Any = None) -> Any:
        """See :class:`dict`."""
        try:
            return self[name]
        except KeyError:
            return default

    def values(self) -> Any:
        """See :class:`dict`."""
        return self.slice(0, None)

    def slice(self, first: int, end: int | None) -> list[Inode]:
        """The entries from the first to before the end, always in the same order."""
        own = list(super().values())
        members: Iterator[Inode] = map(self._member, range(max(0, first - len(own)), self._count))
        return list(islice(chain(own[first:], members), None if end is None else max(0, end - first)))

    def _number(self, name: object) -> int | None:
        if not isinstance(name, str) or not name.startswith(_PREFIX):
            return None
        number = name.removeprefix(_PREFIX)
        return int(number) if number.isdecimal() and int(number) < self._count else None

    def _member(self, number: int) -> Inode:
        pnfsid = f"0000{self._directory.pnfsid[-16:]}{number:016X}"
        name, made = f"{_PREFIX}{number}", self._made
        inode = Inode(pnfsid, FileType.REGULAR, name, self._directory, 0, made, made, made)
        inode.size, inode.locations = 0, (POOL,)
        return inode
