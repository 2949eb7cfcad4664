"""Power cuts, made from a recording: what a disk may hold if the current fails at any moment.

:mod:`tests.crash.io_faults` records every change that a process makes to its files. :class:`Disk` plays them
back as a kernel with a page cache would: a write changes the cache; a page comes to the disk when its file
is synced, or earlier, whenever the kernel likes; after a sync that failed the kernel takes a page for clean,
whether or not it came to the disk. Names are on the disk when their directory is synced, until then in order.
When the power fails, of each page that is dirty all, some sectors or nothing is on the disk.
"""

import copy
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

PAGE, SECTOR = 4096, 512
_HEAD = struct.Struct("=cIIQQ")


class Change(msgspec.Struct, frozen=True):
    """What a process did to a file or directory."""

    kind: str
    """C made, W written, T cut to the length ``offset``, S synced, F not synced for an error, R renamed, U
    removed."""
    path: str
    other: str = ""
    offset: int = 0
    data: bytes = b""


def changes(log: Path) -> Iterator[Change]:
    """A recording, in order. What was cut off at its end by a kill is left out."""
    with log.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            kind, first, second, offset, length = _HEAD.unpack(head)
            size = first + second + (length if kind == b"W" else 0)
            body = file.read(size)
            if len(body) < size:
                return
            yield Change(
                kind.decode(),
                body[:first].decode(),
                body[first : first + second].decode(),
                offset,
                body[first + second :],
            )


class _File(msgspec.Struct, eq=False):
    """A file in the cache and on the disk."""

    cache: bytearray = msgspec.field(default_factory=bytearray)
    disk: bytearray = msgspec.field(default_factory=bytearray)
    dirty: set[int] = msgspec.field(default_factory=set)
    """Pages."""

    def bring(self, page: int) -> None:
        """A page comes to the disk."""
        self.put(page * PAGE, self.cache[page * PAGE : (page + 1) * PAGE])

    def put(self, offset: int, data: bytes | bytearray) -> None:
        if len(self.disk) < offset:
            self.disk.extend(bytes(offset - len(self.disk)))
        self.disk[offset : offset + len(data)] = data


class Disk:
    """A disk under a page cache.

    Args:
        dice: Decides what the kernel does by itself.
        eager: How likely it is that it brings a page to the disk, at each write.
    """

    def __init__(self, dice: random.Random, *, eager: float = 0.05) -> None:
        self._dice = dice
        self._eager = eager
        self._names: dict[str, _File] = {}
        self._names_on_disk: dict[str, _File] = {}
        self._names_to_come: list[Change] = []

    def play(self, change: Change) -> None:
        """Do what the process did."""
        file = self._names.get(change.path)
        match change.kind:
            case "C" | "U" | "R":
                self._rename(self._names, change)
                self._names_to_come.append(change)
            case "W" if file is not None:
                self._write(file, change.offset, change.data)
            case "T" if file is not None:
                self._cut(file, change.offset)
            case "S" | "F" if file is not None:
                self._sync(file, works=change.kind == "S")
            case "S":
                self._sync_names(change.path)

    def _rename(self, names: dict[str, _File], change: Change) -> None:
        """What is made is one file in the cache and on the disk."""
        if change.kind == "C":
            names[change.path] = (
                self._names.get(change.path, _File()) if names is not self._names else _File()
            )
        elif change.path in names:
            moved = names.pop(change.path)
            if change.kind == "R":
                names[change.other] = moved

    def _write(self, file: _File, offset: int, data: bytes) -> None:
        if len(file.cache) < offset:
            file.cache.extend(bytes(offset - len(file.cache)))
        file.cache[offset : offset + len(data)] = data
        file.dirty.update(range(offset // PAGE, (offset + len(data) - 1) // PAGE + 1))
        for page in [page for page in sorted(file.dirty) if self._dice.random() < self._eager]:
            file.bring(page)
            file.dirty.discard(page)

    def _cut(self, file: _File, length: int) -> None:
        del file.cache[length:]
        file.cache.extend(bytes(length - len(file.cache)))
        file.dirty = {page for page in file.dirty if page * PAGE < length} | {length // PAGE}

    def _sync(self, file: _File, *, works: bool) -> None:
        for page in sorted(file.dirty):
            if works or self._dice.random() < 0.5:
                file.bring(page)
        if works:
            del file.disk[len(file.cache) :]
            file.disk.extend(bytes(len(file.cache) - len(file.disk)))
        file.dirty.clear()

    def _sync_names(self, folder: str) -> None:
        self._names_to_come = [
            change for change in self._names_to_come if Path(change.path).parent != Path(folder)
        ]
        if not self._names_to_come:
            self._names_on_disk = dict(self._names)

    def cut(self, dice: random.Random) -> dict[str, bytes]:
        """What is on the disk after a power cut now, by path. The disk itself goes on."""
        names = dict(self._names_on_disk)
        for change in self._names_to_come[: dice.randint(0, len(self._names_to_come))]:
            if change.kind == "C" and change.path in self._names:
                names[change.path] = self._names[change.path]
            elif change.kind != "C":
                self._rename(names, change)
        return {path: self._torn(file, dice) for path, file in names.items()}

    @staticmethod
    def _torn(file: _File, dice: random.Random) -> bytes:
        left = _File(file.cache, copy.copy(file.disk))
        for page in sorted(file.dirty):
            how = dice.random()
            if how < 0.3:
                left.bring(page)
            elif how < 0.6:
                for sector in range(page * PAGE, (page + 1) * PAGE, SECTOR):
                    if dice.random() < 0.5 and sector < len(file.cache):
                        left.put(sector, file.cache[sector : sector + SECTOR])
        if dice.random() < 0.5:
            del left.disk[len(file.cache) :]
        return bytes(left.disk)


def cuts(
    log: Path, seed: int, *, points: int, settle: int = 0
) -> Iterator[tuple[int, dict[str, bytes], bytes]]:
    """Power cuts at random moments of a recording.

    Args:
        log: The recording.
        seed: Of the moments, and of what the disk does.
        points: How many.
        settle: Of the first changes, how many are passed by.

    Yields:
        The number of the change before the cut, the files, and all that had been written to ``acks`` before.
    """
    recording = list(changes(log))
    dice = random.Random(seed)
    moments = sorted(dice.choices(range(settle, len(recording)), k=points))
    disk, acks = Disk(dice), b""
    for number, change in enumerate(recording):
        if change.path.endswith("/acks"):
            acks += change.data
            continue
        disk.play(change)
        while moments and moments[0] <= number:
            moments.pop(0)
            yield number, disk.cut(random.Random(f"{seed} {number} {len(moments)}")), acks
