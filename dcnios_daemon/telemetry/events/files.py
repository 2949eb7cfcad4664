"""What sources of files say of directories and files: watched, listed, on tape, moved away when done with."""

from dcnios_daemon.telemetry import metrics
from dcnios_daemon.telemetry.events.signal import Signal


class WatchRefused(Signal):
    """A directory or file below a watched one may not be seen: nothing comes from there."""

    name = "source.watch_refused"
    level = "warning"
    source: str
    path: str
    error: str


class DirectoriesWatched(Signal):
    """How many directories of a source are watched, and for how many there is no watch left."""

    name = "source.watches"
    level = "debug"
    source: str
    watched: int
    unwatched: int

    def measure(self) -> None:
        """See :class:`Signal`."""
        metrics.WATCHES.labels(self.source).set(self.watched)
        metrics.UNWATCHED.labels(self.source).set(self.unwatched)


class WatchesExhausted(Signal):
    """There are more directories than may be watched: of the others only listings tell. Said once a pass."""

    name = "source.watches_exhausted"
    level = "warning"
    source: str
    max_watches: int
    unwatched: int
    advice: str = "raise max_watches, or watch fewer directories; until then only listings find what is there"


class ListingFailed(Signal):
    """A directory could not be listed, time and again. The others are; it is tried again after a rest."""

    name = "source.listing_failed"
    level = "warning"
    source: str
    path: str
    error: str


class TapeMemoryFull(Signal):
    """More files are on tape only than are remembered: that the others are staged is not noticed. Said once
    a pass."""

    name = "source.tape_memory_full"
    level = "error"
    source: str
    most: int
    advice: str = "watch fewer directories for staged, or give them to several sources"


class FilesMoved(Signal):
    """Files that are done with were moved away."""

    name = "source.files_moved"
    level = "debug"
    source: str
    moved: int


class FilesKept(Signal):
    """Files that are done with could not be moved away; they stay, and it is tried again."""

    name = "source.files_kept"
    level = "warning"
    source: str
    error: str
