"""Server-sent events from bytes, without I/O.

It works on bytes because names may hold U+2028 or U+0085, which text functions take for line ends. dCache's
writer (Jersey's ``OutboundEventWriter``) ends lines with LF; CRLF is taken as well.
"""

import msgspec

LONGEST = 1 << 20
"""Bytes of one frame. Names have at most 255 bytes: this is generous."""


class Frame(msgspec.Struct, frozen=True):
    """One event of the stream."""

    kind: str
    """The ``event:`` field: ``inotify``, ``metronome``, ``SYSTEM``."""
    id: str | None
    data: bytes
    """All ``data:`` lines, joined by LF."""
    cut: bool = False
    """It was longer than we keep: ``data`` is not all of it."""


class Decoder:
    """Give it chunks of any size in order; it gives whole frames. Bounded in memory by ``longest``."""

    def __init__(self, *, longest: int = LONGEST) -> None:
        self._longest = longest
        self._line = bytearray()
        self._line_is_cut = False
        self._size = 0
        self._clear()

    def _clear(self) -> None:
        self._kind = ""
        self._id: str | None = None
        self._data: list[bytes] = []
        self._kept = 0
        self._cut = False

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that this chunk completes."""
        frames = []
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._extend(end)
            frame = self._end_line()
            if frame is not None:
                frames.append(frame)
        self._extend(rest)
        return frames

    def _extend(self, part: bytes) -> None:
        room = self._longest - len(self._line)
        self._line += part[:room]
        self._line_is_cut |= len(part) > room

    def _end_line(self) -> Frame | None:
        line, is_cut = bytes(self._line), self._line_is_cut
        self._line.clear()
        self._line_is_cut = False
        if line.endswith(b"\r") and not is_cut:
            line = line[:-1]
        if not line and not is_cut:
            return self._end_frame()
        field, _, value = line.partition(b":")
        self._take(field, value.removeprefix(b" "), is_cut=is_cut)
        return None

    def _take(self, field: bytes, value: bytes, *, is_cut: bool) -> None:
        if field == b"data":
            room = self._longest - self._kept
            self._cut |= is_cut or len(value) > room
            if room > 0:
                self._data.append(value[:room])
                self._kept += min(len(value), room) + 1
        elif field == b"event":
            self._kind = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")

    def _end_frame(self) -> Frame | None:
        frame = None
        if self._data:
            frame = Frame(self._kind or "message", self._id, b"\n".join(self._data), self._cut)
        self._clear()
        return frame
