"""A database file read page by page, without SQLite, which goes no further than the first damaged page.

Follows https://www.sqlite.org/fileformat2.html: the file, the log over it as far as it was committed, trees
of pages, records. Nothing is believed: every number is checked before it is used; what does not fit raises
:class:`Damaged`, never anything else.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

_MAGIC = b"SQLite format 3\0"
_PAGE = 4096
"""Bytes of a page where the header does not say: what our journals have."""
_LOG_MAGIC = 0x377F0682
_LOG_HEADER, _FRAME_HEADER = 32, 24
_LEAF_TABLE, _INNER_TABLE, _LEAF_INDEX, _INNER_INDEX = 0x0D, 0x05, 0x0A, 0x02
_WORD = 0xFFFFFFFF
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


class Damaged(Exception):
    """A page is not what it should be."""


class Row(msgspec.Struct, frozen=True):
    """A record and its rowid (0 in trees without)."""

    rowid: int
    values: Sequence[Any]
    whole: bool = True
    """False: its end lay on pages that are lost; ``values`` holds what came before."""


class Page(msgspec.Struct):
    """What a page of a tree holds."""

    is_table: bool
    children: Sequence[int]
    rows: Sequence[Row]
    flaws: int = 0
    """Cells that cannot be read."""


class Image:
    """The pages of a file as of the last commit, its log included. Close it after use."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._log = None
        header = self._file.read(100)
        self.has_header = header.startswith(_MAGIC)
        said = int.from_bytes(header[16:18], "big")
        self.size = said if self.has_header and said in {1 << bit for bit in range(9, 16)} else _PAGE
        self.count = -(-path.stat().st_size // self.size)
        """How many pages there are."""
        self.log_lost = 0
        """Pages in the log that come after one that is no good."""
        self._frames: dict[int, int] = {}
        log = path.with_name(path.name + "-wal")
        if log.exists():
            self._log = log.open("rb")
            self._read_log(log.stat().st_size)
        self.taken = bytearray(self.count + 1)
        """1 for each page that was reached."""

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._log is not None:
            self._log.close()

    # -- pages ------------------------------------------------------------------------------------------

    def raw(self, number: int) -> bytes:
        """A page's bytes.

        Raises:
            Damaged: There is no such page, or the disk does not give it.
        """
        if not 1 <= number <= self.count:
            raise Damaged(f"there is no page {number}")
        place = self._frames.get(number)
        file, offset = (self._file, (number - 1) * self.size) if place is None else (self._log, place)
        try:
            file.seek(offset)  # type: ignore[union-attr]  # frames are there only with a log
            found = file.read(self.size)  # type: ignore[union-attr]
        except OSError as error:
            raise Damaged(f"page {number} cannot be read: {error}") from error
        if len(found) != self.size:
            raise Damaged(f"page {number} is cut off")
        return found

    def _read_log(self, size: int) -> None:
        """Find the latest committed copy of each page in the log. Nothing after a flaw counts."""
        if self._log is None or size < _LOG_HEADER:
            return
        header = self._log.read(_LOG_HEADER)
        magic, _, page, _, *salts, one, two = struct.unpack(">8I", header)
        order = ">" if magic & 1 else "<"
        sums = _checksum(header[:24], order, (0, 0))
        if magic & ~1 != _LOG_MAGIC or page != self.size or sums != (one, two):
            self.log_lost = (size - _LOG_HEADER) // (self.size + _FRAME_HEADER)
            return
        open_frames: dict[int, int] = {}
        length = self.size + _FRAME_HEADER
        for offset in range(_LOG_HEADER, size - length + 1, length):
            frame = self._log.read(length)
            number, pages, *rest = struct.unpack(">6I", frame[:_FRAME_HEADER])
            if rest[:2] != salts:
                return  # left over from an earlier round
            sums = _checksum(frame[_FRAME_HEADER:], order, _checksum(frame[:8], order, sums))
            if sums != (rest[2], rest[3]):
                self.log_lost = self._of_this_round(offset, size, salts)
                return
            open_frames[number] = offset + _FRAME_HEADER
            if pages:
                self._frames.update(open_frames)
                self.count = max(self.count, pages)
                open_frames.clear()

    def _of_this_round(self, start: int, size: int, salts: list[int]) -> int:
        """How many frames from here on bear the salts of those before. What a crash cut short does, too."""
        found, length = 0, self.size + _FRAME_HEADER
        if self._log is None:
            return 0
        for offset in range(start, size - length + 1, length):
            self._log.seek(offset)
            found += list(struct.unpack(">2I", self._log.read(16)[8:])) == salts
        return found

    # -- trees ------------------------------------------------------------------------------------------

    def page(self, number: int) -> Page:
        """A page of a tree. Cells that cannot be read are counted, not given.

        Raises:
            Damaged: It is none.
        """
        raw = self.raw(number)
        start = 100 if number == 1 else 0
        kind = raw[start]
        if kind not in {_LEAF_TABLE, _INNER_TABLE, _LEAF_INDEX, _INNER_INDEX}:
            raise Damaged(f"page {number} is of no kind")
        inner = kind in {_INNER_TABLE, _INNER_INDEX}
        cells = int.from_bytes(raw[start + 3 : start + 5], "big")
        first = start + (12 if inner else 8)
        if first + 2 * cells > self.size:
            raise Damaged(f"page {number} cannot have {cells} cells")
        places = struct.unpack(f">{cells}H", raw[first : first + 2 * cells])
        found = Page(kind in {_LEAF_TABLE, _INNER_TABLE}, [], [])
        children: list[int] = []
        rows: list[Row] = []
        for place in places:
            try:
                if place < first + 2 * cells:
                    raise Damaged("a cell lies over the list of cells")  # noqa: TRY301
                if inner:
                    children.append(_number(raw, place, 4))
                if kind != _INNER_TABLE:
                    rows.append(self._row(raw, place + 4 * inner, with_rowid=kind == _LEAF_TABLE))
            except Damaged:
                found.flaws += 1
        if inner:
            children.append(_number(raw, start + 8, 4))
        rising = [row.rowid for row in rows]
        if found.is_table and rising != sorted(set(rising)):
            raise Damaged(f"page {number} is out of order")
        found.children, found.rows = children, rows
        return found

    def _row(self, raw: bytes, place: int, *, with_rowid: bool) -> Row:
        length, place = _varint(raw, place)
        rowid = 0
        if with_rowid:
            rowid, place = _varint(raw, place)
        most = self.size - 35 if with_rowid else (self.size - 12) * 64 // 255 - 23
        least = (self.size - 12) * 32 // 255 - 23
        local = length
        if length > most:
            local = least + (length - least) % (self.size - 4)
            local = local if local <= most else least
        if place + local > self.size or length > self.count * self.size:
            raise Damaged("a record is longer than its page")
        payload = raw[place : place + local]
        if local < length:
            payload += self._overflow(_number(raw, place + local, 4), length - local)
        return Row(rowid - (1 << 64) if rowid >> 63 else rowid, *_record(payload, length))

    def _overflow(self, number: int, length: int) -> bytes:
        """The rest of a record, from the pages that it flowed over to; nothing after a flaw."""
        parts: list[bytes] = []
        chain: list[int] = []
        while length > 0:
            try:
                raw = self.raw(number)
            except Damaged:
                break
            if self.taken[number] or number in chain[-1:]:
                break
            last = length <= self.size - 4
            following = _number(raw, 0, 4)
            if last != (following == 0):
                break
            chain.append(number)
            parts.append(raw[4 : 4 + length])
            length -= self.size - 4
            number = following
        for one in chain if length <= 0 else ():
            self.taken[one] = 1
        return b"".join(parts)

    def free(self) -> bool:
        """Mark the pages that are free as taken. Returns whether the list of them is whole."""
        if not self.has_header:
            return False
        try:
            header = self.raw(1)
            number, said = _number(header, 32, 4), _number(header, 36, 4)
            found: list[int] = []
            while number and len(found) <= said:
                raw = self.raw(number)
                leaves = _number(raw, 4, 4)
                if leaves > self.size // 4 - 2:
                    return False
                found += [number, *struct.unpack(f">{leaves}I", raw[8 : 8 + 4 * leaves])]
                number = _number(raw, 0, 4)
        except Damaged:
            return False
        if len(found) != said or len(set(found)) != said or any(not 1 < one <= self.count for one in found):
            return False
        for one in found:
            self.taken[one] = 1
        return True

    def walk(self, root: int) -> Iterator[Page | Damaged]:
        """All pages below a root, in no order that matters; in the place of each that is no good its flaw."""
        left = [root]
        table: bool | None = None
        while left:
            number = left.pop()
            try:
                if not 1 <= number <= self.count or self.taken[number]:
                    raise Damaged(f"page {number} is in two places or nowhere")  # noqa: TRY301
                page = self.page(number)
                if table is not None and page.is_table != table:
                    raise Damaged(f"page {number} is another tree's")  # noqa: TRY301
            except Damaged as error:
                yield error
                continue
            table = page.is_table
            self.taken[number] = 1
            left.extend(page.children)
            yield page

    def strays(self) -> Iterator[Page]:
        """Pages of trees that no root leads to and that are not free."""
        for number in range(2, self.count + 1):
            if not self.taken[number]:
                try:
                    page = self.page(number)
                except Damaged:
                    continue
                if page.rows:
                    self.taken[number] = 1
                    yield page


def _checksum(data: bytes, order: str, start: tuple[int, int]) -> tuple[int, int]:
    one, two = start
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for first, second in zip(words, words, strict=True):
        one = (one + first + two) & _WORD
        two = (two + second + one) & _WORD
    return one, two


def _number(raw: bytes, place: int, length: int) -> int:
    if place + length > len(raw):
        raise Damaged("a number lies beyond its page")
    return int.from_bytes(raw[place : place + length], "big")


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    """A number of one to nine bytes, and the place after it."""
    value = 0
    for length in range(9):
        if place + length >= len(raw):
            raise Damaged("a number lies beyond its page")
        byte = raw[place + length]
        if length == 8:  # noqa: PLR2004 - the ninth byte counts whole
            return value << 8 | byte, place + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the last one
            return value, place + length + 1
    raise Damaged("unreachable")


def _record(payload: bytes, length: int) -> tuple[list[Any], bool]:
    """A record's values as far as they are there, and whether all are."""
    end, place = _varint(payload, 0)
    if end > len(payload):
        raise Damaged("a record's head is cut off")
    kinds = []
    while place < end:
        kind, place = _varint(payload, place)
        kinds.append(kind)
    if place != end or end + sum(map(_length, kinds)) != length:
        raise Damaged("a record's head does not fit its body")
    values: list[Any] = []
    for kind in kinds:
        size = _length(kind)
        if place + size > len(payload):
            return values, False
        values.append(_value(kind, payload[place : place + size]))
        place += size
    return values, True


def _length(kind: int) -> int:
    if kind >= 12:  # noqa: PLR2004 - blobs and texts
        return (kind - 12) // 2
    if kind in {10, 11}:
        raise Damaged("a value is of no kind")
    return 8 if kind == 7 else _INTEGERS.get(kind, 0)  # noqa: PLR2004 - a real number


def _value(kind: int, raw: bytes) -> Any:  # noqa: ANN401 - a column may hold anything
    if kind == 0:
        return None
    if kind in {8, 9}:
        return kind - 8
    if kind == 7:  # noqa: PLR2004 - a real number
        return struct.unpack(">d", raw)[0]
    if kind in _INTEGERS:
        return int.from_bytes(raw, "big", signed=True)
    return raw.decode("utf-8", "replace") if kind % 2 else raw
