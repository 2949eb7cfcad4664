"""Checks a journal that nobody uses, and mends what can be mended without guessing."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from dcnios_daemon.buffer import store
from dcnios_daemon.buffer.queries import query
from dcnios_daemon.buffer.records import Head, unpack
from dcnios_daemon.core.errors import JournalCorrupt

_MANY = 100


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be."""

    what: str
    mended: bool = False


Check = Callable[[sqlite3.Connection, bool], Iterator[Finding]]


def fsck(path: Path, *, repair: bool = False) -> list[Finding]:
    """Go through the whole journal; takes seconds per million events. Blocking: call it off the loop.

    Args:
        path: The journal's file. No daemon may be using it.
        repair: Mend counters, indexes, missing keys and orphaned rows; drop deliveries whose event is lost.

    Raises:
        JournalError: There is none, or a daemon is using it.
        JournalCorrupt: It is no journal, of another version, or too damaged to be read.
        JournalUnavailable: The disk fails.
    """
    lock = store.Lock(path)
    try:
        if path.exists():
            lock.take()
        return _checked(path, repair=repair)
    except (sqlite3.Error, OSError) as error:
        ours = store.translated(error, path)
        if isinstance(ours, JournalCorrupt):
            ours = _too_damaged(path, str(error))
        raise ours from error
    finally:
        lock.give_back()


def _too_damaged(path: Path, words: str) -> JournalCorrupt:
    return JournalCorrupt(
        f"{path} is too damaged to be mended ({words}). Restore a backup, or move it away to start empty"
    )


def _checked(path: Path, *, repair: bool) -> list[Finding]:
    connection = store.connect(path, create=False, upgrade=repair)
    try:
        findings = list(_structure(connection, repair))
        if repair and any(not finding.mended for finding in findings):
            words = "; ".join(finding.what for finding in findings[:3])
            raise _too_damaged(path, words)  # pages that cannot be trusted are not written to
        connection.execute("BEGIN IMMEDIATE" if repair else "BEGIN")
        for check in (_orphans, _bodies, _heads, _open_counts, _keys, _counters, _totals, _next):
            findings.extend(check(connection, repair))
        connection.execute("COMMIT")
        return findings
    finally:
        connection.close()


def _structure(connection: sqlite3.Connection, repair: bool) -> Iterator[Finding]:  # noqa: FBT001 - a Check
    said = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_MANY})")]
    if said == ["ok"]:
        return
    if repair:
        connection.execute("REINDEX")
        left = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_MANY})")]
        yield from (Finding(one, mended=True) for one in said if one not in left)
        said = [one for one in left if one != "ok"]
    yield from (Finding(one) for one in said)


def _rows(connection: sqlite3.Connection, name: str) -> list[tuple[int, ...]]:
    return connection.execute(query(name)).fetchall()


def _orphans(connection: sqlite3.Connection, repair: bool) -> Iterator[Finding]:  # noqa: FBT001 - a Check
    for name, what in (
        ("check_lone_deliveries", "delivery {} has no event"),
        ("check_lone_events", "event {} has no delivery"),
    ):
        for (number,) in _rows(connection, name):
            yield Finding(what.format(number), mended=repair)
    if repair:
        for name in ("mend_lone_deliveries", "mend_lone_events", "drop_lone_events"):
            connection.execute(query(name))


def _bodies(connection: sqlite3.Connection, repair: bool) -> Iterator[Finding]:  # noqa: FBT001 - a Check
    for (number,) in _rows(connection, "check_lost_bodies"):
        yield Finding(f"delivery {number} waits, but its event's body is lost", mended=repair)
    for (number,) in _rows(connection, "check_kept_bodies"):
        yield Finding(f"event {number} is settled, but its body is still there", mended=repair)
    if repair:
        connection.execute(query("mend_lost_bodies"))
        connection.execute(query("mend_kept_bodies"))


def _heads(connection: sqlite3.Connection, _repair: bool) -> Iterator[Finding]:  # noqa: FBT001 - a Check
    for number, head in connection.execute(query("check_heads")):
        try:
            unpack(Head, head)
        except (ValueError, TypeError) as error:
            yield Finding(f"event {number} cannot be read ({error}): drop its deliveries")


def _open_counts(connection: sqlite3.Connection, repair: bool) -> Iterator[Finding]:  # noqa: FBT001 - a Check
    for number, stored, counted in _rows(connection, "check_open"):
        yield Finding(f"event {number} has {counted} open deliveries, not {stored}", mended=repair)
    if repair:
        connection.execute(query("mend_open"))


def _keys(connection: sqlite3.Connection, repair: bool) -> Iterator[Finding]:  # noqa: FBT001 - a Check
    for (number,) in _rows(connection, "check_keys"):
        yield Finding(f"the key of event {number} is not remembered: it could come twice", mended=repair)
    if repair:
        connection.execute(query("mend_keys"))


def _counters(connection: sqlite3.Connection, repair: bool) -> Iterator[Finding]:  # noqa: FBT001 - a Check
    for route, state, stored, counted in _rows(connection, "check_counters"):
        yield Finding(f"route {route} has {counted} deliveries in state {state}, not {stored}", mended=repair)
        if repair:
            connection.execute("INSERT OR REPLACE INTO counters VALUES (?, ?, ?)", (route, state, counted))


def _totals(connection: sqlite3.Connection, repair: bool) -> Iterator[Finding]:  # noqa: FBT001 - a Check
    for name, stored, counted in _rows(connection, "check_totals"):
        yield Finding(f"there are {counted} {name}, not {stored}", mended=repair)
        if repair:
            connection.execute("UPDATE meta SET n = ? WHERE name = ?", (counted, name))


def _next(connection: sqlite3.Connection, repair: bool) -> Iterator[Finding]:  # noqa: FBT001 - a Check
    for name, stored, least in _rows(connection, "check_next"):
        yield Finding(f"the next {name} would be {stored}, which is taken", mended=repair)
        if repair:
            connection.execute("UPDATE meta SET n = ? WHERE name = ?", (least, name))
