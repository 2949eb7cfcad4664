"""Which files are on tape only, as far as we know: what is online afterwards was staged. Pure.

dCache has no event for a file that is brought online: uploads, flushes, changes of rights and further
replicas say IN_ATTRIB all the same. So what was NEARLINE when it was last seen is remembered, by 8 bytes: a
tape store holds more files than we have memory for paths.
"""

from hashlib import blake2b

from dcnios_daemon.sources.dcache.client.namespace import Entry
from dcnios_daemon.telemetry.events import TapeMemoryFull

MOST = 200_000
"""Files remembered, in some 20 MB."""


class Tape:
    """One connection's memory.

    Args:
        source: The source's name.
        most: Files remembered.
    """

    def __init__(self, source: str, *, most: int = MOST) -> None:
        self._source = source
        self._most = most
        self._round = 0
        self._known: dict[int, int] = {}
        """To the round in which it was last seen."""
        self._is_full = False

    def keeps(self, entry: Entry) -> bool:
        """Whether it was on tape only when it was last seen: then that is kept until it is looked at."""
        is_known = _key(entry) in self._known
        if is_known:
            self._remember(_key(entry))
        return is_known

    def see(self, entry: Entry) -> bool:
        """Take note of where a file is now; whether it was on tape only and is online again."""
        if entry.is_online:
            return self._known.pop(_key(entry), None) is not None
        if entry.locality == "NEARLINE":
            self._remember(_key(entry))
        else:  # whatever ails its pools, it was not staged yet
            self.keeps(entry)
        return False

    def sweep(self) -> None:
        """All that is there has been seen since the last sweep: forget what was not."""
        for key in [key for key, seen in self._known.items() if seen != self._round]:
            del self._known[key]
        self._round += 1
        self._is_full = False

    def _remember(self, key: int) -> None:
        if key in self._known or len(self._known) < self._most:
            self._known[key] = self._round
        elif not self._is_full:
            self._is_full = True
            TapeMemoryFull(source=self._source, most=self._most).emit()


def _key(entry: Entry) -> int:
    return int.from_bytes(blake2b(entry.pnfsid.encode(), digest_size=8).digest())
