"""What a walk through the directories still has to do."""

import msgspec

from dcnios_daemon.sources.dcache.watches import Place


class Visit(msgspec.Struct):
    """A directory that is to be watched and listed."""

    place: Place
    pnfsid: str = ""
    """What its parent's listing showed there."""
    is_urgent: bool = False
    """Whether it has just appeared, and the stream may wait for it."""
    is_in_doubt: bool = False
    """Whether it may be another directory than the one that is watched there."""
    is_unwatched: bool = False
    """Whether there was no watch left for it."""
    tries: int = 0
    not_before: float = 0.0
    """A monotonic second."""


class Leave(msgspec.Struct, frozen=True):
    """A directory that was moved away."""

    path: str
