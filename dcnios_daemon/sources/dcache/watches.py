"""Which directories are watched, and which subscription tells of which. Pure.

A watch follows the inode and never its path, so a path here is only as good as the last rename that was told;
whatever is derived from it is looked at before it becomes an event.
"""

import msgspec

from dcnios_daemon.sources.dcache.client.inotify import is_below, tail


class Place(msgspec.Struct, frozen=True):
    """A directory that is to be watched."""

    path: str
    watch: str
    """The watch's name in the configuration."""
    recursive: bool = False
    is_root: bool = False
    """Whether the configuration names it; else it lies below one that it names."""

    def below(self, path: str) -> "Place":
        """A directory in this one."""
        return msgspec.structs.replace(self, path=path, is_root=False)


class _Watched(msgspec.Struct):
    place: Place
    url: str
    armed: float
    pnfsid: str
    seen: int = 0
    """The number of the last pass that met it."""
    is_listed: bool = False
    """Whether that, or another listing since it is armed, has shown all of it."""


class Watches:
    """What is watched on the server now."""

    def __init__(self) -> None:
        self._by_tail: dict[str, _Watched] = {}
        self._by_path: dict[str, _Watched] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_tail)

    def add(self, place: Place, url: str, *, armed: float, pnfsid: str = "") -> None:
        """The subscription with this URL tells of the place, from the monotonic second ``armed`` on. If what
        was there before is known, its ``pnfsid`` is."""
        before = self._by_tail.get(tail(url))
        if before is not None:
            if before.place == place and self._by_path.get(place.path) is before:
                return
            self._unname(before)
        watched = _Watched(place, url, armed, pnfsid)
        self._by_tail[tail(url)] = watched
        self._by_path[place.path] = watched

    def place(self, subscription: str) -> Place | None:
        """What a subscription tells of."""
        watched = self._by_tail.get(tail(subscription))
        return None if watched is None else watched.place

    def at(self, path: str) -> Place | None:
        """The place at a path, if it is watched."""
        watched = self._by_path.get(path)
        return None if watched is None else watched.place

    def url(self, path: str) -> str:
        """The subscription that tells of a path; empty if none does."""
        watched = self._by_path.get(path)
        return "" if watched is None else watched.url

    def armed(self, path: str) -> float:
        """From when on everything in it is told."""
        watched = self._by_path.get(path)
        return 0.0 if watched is None else watched.armed

    def is_another(self, path: str, pnfsid: str) -> bool:
        """Whether the directory at this path is another one than when it was last asked, and so unwatched."""
        watched = self._by_path.get(path)
        if watched is None:
            return True
        before, watched.pnfsid = watched.pnfsid, pnfsid
        return before not in {"", pnfsid}

    def see(self, path: str, number: int) -> None:
        """It has been listed, in the pass with this number; 0: in none."""
        if (watched := self._by_path.get(path)) is not None:
            watched.is_listed = True
            watched.seen = number or watched.seen

    def unlist(self, path: str) -> None:
        """It may not be any more what was listed."""
        if (watched := self._by_path.get(path)) is not None:
            watched.is_listed = False

    def is_listed(self, path: str, number: int = 0, *, pnfsid: str = "") -> bool:
        """Whether nothing new can be in it that is not told: it has been listed since it is watched, if a
        ``number`` is given in the pass with this number, if a ``pnfsid`` is given as that directory."""
        watched = self._by_path.get(path)
        if watched is None or not watched.is_listed:
            return False
        return number in {0, watched.seen} and pnfsid in {"", watched.pnfsid}

    def drop_unseen(self, number: int) -> list[str]:
        """Forget what the pass with this number has not met; the URLs of their subscriptions."""
        return self._drop([watched for watched in self._by_tail.values() if watched.seen != number])

    def drop(self, subscription: str) -> None:
        """The server watches it no longer."""
        watched = self._by_tail.pop(tail(subscription), None)
        if watched is not None:
            self._unname(watched)

    def drop_below(self, path: str) -> list[str]:
        """Forget a directory and all below it; the URLs of their subscriptions, to be deleted."""
        return self._drop([each for each in self._by_tail.values() if is_below(each.place.path, path)])

    def _drop(self, gone: list[_Watched]) -> list[str]:
        for watched in gone:
            self.drop(watched.url)
        return [watched.url for watched in gone]

    def _unname(self, watched: _Watched) -> None:
        if self._by_path.get(watched.place.path) is watched:
            del self._by_path[watched.place.path]
