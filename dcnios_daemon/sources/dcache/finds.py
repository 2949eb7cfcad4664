"""What a listing shows: files that are complete become events, others are looked at until they are.

Whatever was there before is given again each time, for two reasons: the journal knows it by its key, at some
15 µs of processor time for each, and only what it is still offered does it never forget.
"""

from dcnios_daemon.sources.dcache.connection import Connection
from dcnios_daemon.sources.dcache.facts import as_if_told
from dcnios_daemon.sources.dcache.inotify import join
from dcnios_daemon.sources.dcache.ledger import Check
from dcnios_daemon.sources.dcache.namespace import Entry
from dcnios_daemon.sources.dcache.watches import Place


class Finds:
    """Takes one connection's finds."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_wanted = connection.wants("created")

    def take(self, place: Place, entry: Entry) -> bool:
        """An entry of the directory at this place; whether it makes an event, or may make one yet."""
        if not (entry.is_file and self._is_wanted):
            return False
        now, timing = self._connection.clock.monotonic(), self._connection.timing
        path = join(place.path, entry.name)
        check = Check(
            place=place,
            path=path,
            due=now + timing.longest_look,
            until=now + timing.patience,
            data=as_if_told(path, self._connection.watches.url(place.path)),
        )
        if entry.is_complete:
            self._connection.ledger.give(self._connection.facts.created(check, entry), None)
        else:
            self._connection.ledger.look(check)
        return True
