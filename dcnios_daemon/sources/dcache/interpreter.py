"""What follows from each inotify event: something to look at, to watch, to leave or to list. Pure.

dCache's pools, its name space and its NFS doors tell of their own accord: *closed* may come before *created*,
the second half of a rename before the first. So nothing here rests on order.
"""

from collections import OrderedDict
from typing import TypeVar

from dcnios_daemon.sources.dcache.checks import Check
from dcnios_daemon.sources.dcache.client.inotify import Note, join
from dcnios_daemon.sources.dcache.connection import Connection
from dcnios_daemon.sources.dcache.walker import Walker
from dcnios_daemon.sources.dcache.watches import Place

_V = TypeVar("_V")
_COOKIES = 10_000
"""Renames remembered until their other half comes."""


class Interpreter:
    """Understands one connection's events."""

    def __init__(self, connection: Connection, walker: Walker) -> None:
        self._connection = connection
        self._walker = walker
        self._ledger = connection.ledger
        self._left: OrderedDict[str, str] = OrderedDict()
        self._arrived: OrderedDict[str, Check] = OrderedDict()

    def left(self, cookie: str) -> str | None:
        """The path from which a rename took its file, if that was watched and has been told by now."""
        return self._left.get(cookie)

    def take(self, note: Note, place: Place, *, data: bytes, number: int) -> None:
        """An event of a watched directory; ``data`` is its JSON as it came."""
        happening = note.event
        match happening.flag:
            case "IN_Q_OVERFLOW":
                self._walker.owe("overflow")
            case "IN_IGNORED" | "IN_DELETE_SELF" | "IN_MOVE_SELF" if happening.name is None:
                self._itself(note, place)
            case flag if happening.name is not None and happening.is_directory:
                self._directory(flag, join(place.path, happening.name), place)
            case flag if happening.name is not None:
                check = self._check(place, join(place.path, happening.name), data=data, number=number)
                check.cookie = happening.cookie
                self._file(flag, check)

    def _itself(self, note: Note, place: Place) -> None:
        """No error for a root either: the event would come again at each new connection, and end it."""
        if place.is_root:
            self._walker.leave(place.path)
            self._walker.owe("root")
            return
        # Moved ones are told of by their parents. IN_IGNORED may be the late end of a subscription that we
        # deleted and, the directory being the same, have made again under the same URL: it says nothing.
        if note.event.flag == "IN_DELETE_SELF":
            self._connection.watches.drop(note.subscription)

    def _directory(self, flag: str, path: str, place: Place) -> None:
        if flag == "IN_MOVED_FROM":
            self._walker.leave(path)
        elif flag in {"IN_CREATE", "IN_MOVED_TO"} and place.recursive:
            self._walker.adopt(place.below(path), is_made=flag == "IN_CREATE")

    def _file(self, flag: str, check: Check) -> None:
        if flag == "IN_CLOSE_WRITE" and self._connection.wants("created"):
            self._ledger.look(check)
        elif flag == "IN_MOVED_TO" and self._connection.wants("created", "moved"):
            self._arrive(check)
        elif flag == "IN_MOVED_FROM" and check.cookie:
            _remember(self._left, check.cookie, check.path)
            if (arrived := self._arrived.get(check.cookie)) is not None:
                self._follow(check.path, arrived)
        elif flag == "IN_ATTRIB" and self._connection.wants("staged"):
            self._change(check)
        elif flag == "IN_DELETE" and self._connection.wants("removed"):
            channel = self._connection.channel.url
            self._ledger.give(self._connection.facts.removed(check, channel=channel), check.id)

    def _arrive(self, check: Check) -> None:
        """A file came to this path: perhaps renamed, perhaps the one event of an SRM upload."""
        check.is_upload = False
        self._ledger.look(check)
        if check.cookie:
            _remember(self._arrived, check.cookie, check)
            if (path := self._left.get(check.cookie)) is not None:
                self._follow(path, check)

    def _change(self, check: Check) -> None:
        """Each upload brings some of these: whoever is to look at the path anyway will see it."""
        waiting = self._ledger.waiting(check.path)
        if waiting is None or waiting.is_taken:
            check.is_upload, check.is_change = False, True
            self._ledger.look(check)

    def _follow(self, path: str, arrived: Check) -> None:
        """The rename took along an upload that was not looked at yet: one upload, under its new name."""
        upload = self._ledger.waiting(path)
        if upload is not None and upload.is_upload and not arrived.done:
            arrived.is_upload = True
            self._ledger.settle(upload)

    def _check(self, place: Place, path: str, *, data: bytes, number: int) -> Check:
        now, timing = self._connection.clock.monotonic(), self._connection.timing
        return Check(
            place=place,
            path=path,
            due=now + timing.grace,
            until=now + timing.patience,
            data=data,
            id=number,
        )


def _remember(memory: OrderedDict[str, _V], cookie: str, value: _V) -> None:
    memory[cookie] = value
    while len(memory) > _COOKIES:
        memory.popitem(last=False)
