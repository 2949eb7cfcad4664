"""Names for sources and routes out of other people's names, which may be longer and hold other characters."""

import hashlib
import re
from collections.abc import Iterable

_LONGEST = 31
_HASH = 8


class Names:
    """Gives each its own name. The same questions in the same order get the same answers."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def give(self, wanted: str) -> str:
        """The name itself where it may be one and is free; else its beginning and a hash of all of it.

        >>> Names().give("thermal-detector-interlink-for-vega")
        'thermal-detector-inter-d3d7cf6b'
        """
        slug = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")
        slug = slug if slug[:1].isalpha() else f"x-{slug}".rstrip("-")
        name, count = slug, 0
        while name in self._taken or len(name) > _LONGEST:
            told = f"{wanted}\0{count}" if count else wanted
            digest = hashlib.sha256(told.encode()).hexdigest()[:_HASH]
            name, count = f"{slug[: _LONGEST - _HASH - 1].rstrip('-')}-{digest}", count + 1
        self._taken.add(name)
        return name
