"""What a listing shows: files that are complete become events, others are looked at until they are.

Whatever was there before is given again each time, for two reasons: the journal knows it by its key, at some
15 µs of processor time for each, and only what it is still offered does it never forget.
"""

from dcnios_daemon.sources.dcache.checks import Check
from dcnios_daemon.sources.dcache.client.inotify import join
from dcnios_daemon.sources.dcache.client.namespace import Entry
from dcnios_daemon.sources.dcache.connection import Connection
from dcnios_daemon.sources.dcache.facts import as_if_told
from dcnios_daemon.sources.dcache.watches import Place


class Finds:
    """Takes one connection's finds."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def take(self, place: Place, entry: Entry) -> bool:
        """An entry of the directory at this place; whether it makes an event, or may make one yet."""
        if not entry.is_file:
            return False
        was_staged = self._connection.wants("staged") and self._was_staged(place, entry)
        if not self._connection.wants("created"):
            return was_staged
        check = self._check(place, entry, flag="IN_CLOSE_WRITE")
        if entry.is_complete:
            self._connection.ledger.give(self._connection.facts.created(check, entry), None)
        elif not self._connection.ledger.unfinished.knows(entry, check.path):
            self._connection.ledger.look(check)
        return True

    def _was_staged(self, place: Place, entry: Entry) -> bool:
        """A page is some time old when its last entry is taken: so it is looked at before it is believed."""
        tape = self._connection.tape
        if not entry.is_online or not tape.keeps(entry):
            tape.see(entry)
            return False
        check = self._check(place, entry, flag="IN_ATTRIB")
        check.due -= self._connection.timing.longest_look
        check.is_upload, check.is_change = False, True
        self._connection.ledger.look(check)
        return True

    def _check(self, place: Place, entry: Entry, *, flag: str) -> Check:
        now, timing = self._connection.clock.monotonic(), self._connection.timing
        path = join(place.path, entry.name)
        return Check(
            place=place,
            path=path,
            due=now + timing.longest_look,
            until=now + timing.patience,
            data=as_if_told(path, self._connection.watches.url(place.path), flag=flag),
            found_at=self._connection.clock.now(),
        )
