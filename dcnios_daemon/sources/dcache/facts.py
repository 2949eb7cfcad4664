"""Events of a dCache source. Pure.

Identities: an upload is its PNFS-ID, so that stream and listings agree, a rename changes nothing and an
overwrite is a new one. A rename is its cookie. A removal, of which nothing else is left, is its place in the
stream; so is a staging, or the moment of the listing that showed it. The time of an upload is the file's
creation in the name space, which all ways of learning of it agree on; the modification time would be the
client's.
"""

from pathlib import PurePosixPath

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.sources.dcache.checks import Check
from dcnios_daemon.sources.dcache.client.inotify import Happening, Note
from dcnios_daemon.sources.dcache.client.namespace import Entry


class Facts:
    """Makes one source's events."""

    def __init__(self, *, source: str, clock: Clock) -> None:
        self._source = source
        self._clock = clock

    def created(self, check: Check, entry: Entry) -> Event:
        """A complete file."""
        return self._event(
            check,
            entry,
            action=Action.CREATED,
            key=event_key(self._source, "created", entry.pnfsid),
            time=entry.created / 1000 if entry.created > 0 else self._clock.now(),
            more={},
        )

    def moved(self, check: Check, entry: Entry, *, left: str) -> Event:
        """A file that was renamed from ``left`` to where it was looked at."""
        return self._event(
            check,
            entry,
            action=Action.MOVED,
            key=event_key(self._source, "moved", entry.pnfsid, check.cookie or ""),
            time=self._clock.now(),
            more={"from": left},
        )

    def staged(self, check: Check, entry: Entry, *, channel: str) -> Event:
        """A file that was on tape only and is online again."""
        told = f"at {check.found_at}" if check.id is None else check.id
        return self._event(
            check,
            entry,
            action=Action.STAGED,
            key=event_key(self._source, "staged", entry.pnfsid, channel, told),
            time=self._clock.now(),
            more={},
        )

    def removed(self, check: Check, *, channel: str) -> Event:
        """A file that is no more; nothing but its path is known."""
        return Event(
            key=event_key(self._source, "removed", channel, check.id or 0),
            source=self._source,
            kind="dcache",
            subject=check.path,
            action=Action.REMOVED,
            time=self._clock.now(),
            data=check.data,
            attributes={"via": "stream", "watch": check.place.watch},
        )

    def _event(
        self, check: Check, entry: Entry, *, action: Action, key: str, time: float, more: dict[str, str]
    ) -> Event:
        return Event(
            key=key,
            source=self._source,
            kind="dcache",
            subject=check.path,
            action=action,
            time=time,
            size=entry.size,
            data=check.data,
            attributes={
                "pnfsid": entry.pnfsid,
                "size": str(entry.size),
                "locality": entry.locality,
                "via": "listing" if check.id is None else "stream",
                "watch": check.place.watch,
                **more,
            },
        )


def as_if_told(path: str, subscription: str, *, flag: str = "IN_CLOSE_WRITE") -> bytes:
    """What the stream would have said of an upload, or else, that only a listing showed."""
    happening = Happening(mask=(flag,), name=PurePosixPath(path).name)
    return msgspec.json.encode(Note(event=happening, subscription=subscription))
