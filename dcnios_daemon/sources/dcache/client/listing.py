"""All that is in a directory, however much that is.

The frontend builds an answer whole, in its heap, so no call asks for more than a page. dCache does not order
entries, and counts anew for each page (``DirectoryStreamImpl``): while entries come and go, pages skip and
repeat. So a directory of more than one page is gone over again, until that brings nothing new. Of our own
memory a page takes its bytes, and entries are made of them one by one.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

import msgspec

from dcnios_daemon.core.errors import Malformed
from dcnios_daemon.sources.dcache.client.frontend import Frontend, Missing
from dcnios_daemon.sources.dcache.client.namespace import Entry, query
from dcnios_daemon.sources.dcache.client.pace import Caller

_T = TypeVar("_T")
PAGE = 12_000
"""Entries asked for at once: some 4 MB, of which the reply, its parts and the entries are held together."""
_ROUNDS = range(2, 6)
"""How often a directory of several pages is gone over, at least and at most."""
_BREATH = 1_000
"""Entries after which others are let run."""
_OMITTED = 0.1
"""What part of a page may be missing without its being the last: dCache omits, after counting, what vanished
meanwhile."""
_BITS = 1 << 24

_entry = msgspec.json.Decoder(Entry)


class _Answer(msgspec.Struct, frozen=True):
    file_type: str = msgspec.field(default="", name="fileType")
    pnfsid: str = msgspec.field(default="", name="pnfsId")
    children: list[msgspec.Raw] = []


_answer = msgspec.json.Decoder(_Answer)


class _Seen:
    """About which entries have been met in this directory: 2 MB, and wrong now and then, which only makes
    one round too few of many."""

    def __init__(self) -> None:
        self._bits = bytearray(_BITS // 8)
        self.new = 0
        """Entries that were not met before."""

    def add(self, entry: Entry) -> None:
        index, bit = divmod(hash((entry.pnfsid, entry.name)) % _BITS, 8)
        if not self._bits[index] >> bit & 1:
            self._bits[index] |= 1 << bit
            self.new += 1


class Page:
    """A part of a directory."""

    def __init__(self, pnfsid: str, children: list[msgspec.Raw], seen: _Seen | None) -> None:
        self.pnfsid = pnfsid
        """The directory's own, as of this call: it may be another directory than a page ago."""
        self._children = children
        self._seen = seen

    async def entries(self) -> AsyncIterator[Entry]:
        """What is in it, in no order; once, since their memory is given back on the way.

        Raises:
            Malformed: One cannot be read.
        """
        while self._children:
            for _ in range(min(_BREATH, len(self._children))):
                entry = _decoded(_entry, self._children.pop(), self.pnfsid)
                if self._seen is not None:
                    self._seen.add(entry)
                yield entry
            await asyncio.sleep(0)


async def pages(
    frontend: Frontend, path: str, *, size: int = PAGE, caller: Caller = "walk"
) -> AsyncGenerator[Page, None]:
    """A directory's entries, in one call where there are fewer than ``size``; else entries may come twice.

    Each page must be used up before the next. Pages that were given are true even if a later call fails.

    Raises:
        Missing: There is no such directory.
        Forbidden, Disconnected, Rejected, Malformed: See :meth:`Frontend.call`.
    """
    seen: _Seen | None = None
    for number in range(_ROUNDS.stop - 1):
        before, offset, is_last = seen.new if seen else 0, 0, False
        while not is_last:
            answer = await _ask(frontend, path, f"limit={size}&offset={offset}", caller)
            is_last = len(answer.children) <= size * (1 - _OMITTED)
            if is_last and not offset and not number:
                yield Page(answer.pnfsid, answer.children, None)
                return
            seen, offset = seen or _Seen(), offset + size
            page = Page(answer.pnfsid, answer.children, seen)
            del answer
            yield page
            del page
        if number + 1 >= _ROUNDS.start and (seen is None or seen.new == before):
            return


async def _ask(frontend: Frontend, path: str, part: str, caller: Caller) -> _Answer:
    url = query(frontend, path, f"children=true&{part}")
    answer = _decoded(_answer, (await frontend.call("GET", url, caller=caller, is_long=True)).body, path)
    if answer.file_type not in {"", "DIR"}:
        raise Missing(f"{path} is no directory")
    return answer


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes | msgspec.Raw, path: str) -> _T:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise Malformed(f"{path}: the frontend's answer cannot be read: {error}") from error
