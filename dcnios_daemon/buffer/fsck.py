"""Checks a journal that nobody uses, and mends what can be mended without guessing.

The file itself is never written to. What is mended is a copy, which takes its place when it is whole and
sound; the file as it was is kept beside it. Where pages are damaged, the copy is made of the rows that can be
read (:mod:`dcnios_daemon.buffer.salvage`).
"""

import contextlib
import sqlite3
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from dcnios_daemon.buffer import store
from dcnios_daemon.buffer.queries import query
from dcnios_daemon.buffer.records import Head, unpack
from dcnios_daemon.buffer.salvage import Salvage, line
from dcnios_daemon.core.errors import JournalCorrupt, JournalError
from dcnios_daemon.core.event import Event

_MANY = 100
_BESIDE = ("-wal", "-shm")


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be."""

    what: str
    mended: bool = False
    remark: bool = False
    """It tells what was lost, or where something is now: there is nothing to mend about it."""


Check = Callable[[sqlite3.Connection, bool], Iterator[Finding]]


def fsck(path: Path, *, repair: bool = False, export: Path | None = None) -> list[Finding]:
    """Go through the whole journal. Blocking: call it off the loop.

    Looking takes some ten seconds for a million events, mending damaged pages some minutes.

    Args:
        path: The journal's file. No daemon may be using it.
        repair: Put a mended copy in its place, unless there is nothing to mend.
        export: Where to write the events that can be read, but not be run from the mended journal, as
            CloudEvents, one a line. By default, if there are any, beside the damaged file.

    Raises:
        JournalError: There is none, or a daemon is using it.
        JournalCorrupt: It is no journal, of another version, or there is nothing left of it.
        JournalUnavailable: The disk fails.
    """
    lock = store.Lock(path)
    try:
        if not path.exists() and not store.mended(path).exists():
            raise JournalError(
                f"there is no journal at {path}: is buffer.path right, has the daemon ever run?"
            )
        lock.take()
        if repair and store.mended(path).exists():
            _put_in_place(path, _name_to_keep(path))
        findings, sound = _look(path)
        return _mend(path, findings, export, sound=sound) if repair and findings else findings
    except (sqlite3.Error, OSError) as error:
        raise store.translated(error, path) from error
    finally:
        lock.give_back()


def _look(path: Path) -> tuple[list[Finding], bool]:
    """What is wrong, and whether all of it can be mended row by row. Nothing is written."""
    place, log = urllib.parse.quote(str(path.absolute())), path.with_name(path.name + "-wal")
    how = "mode=ro" if log.exists() else "immutable=1"  # which makes no files beside it
    with contextlib.closing(
        sqlite3.connect(f"file:{place}?{how}", uri=True, isolation_level=None)
    ) as connection:
        connection.text_factory = _text
        try:
            store.check(connection, path)
            findings = list(_structure(connection))
            if findings:
                return findings, False
            return [one for check in _CHECKS for one in check(connection, False)], True
        except sqlite3.DatabaseError as error:
            if not isinstance(store.translated(error, path), JournalCorrupt):
                raise
            return [Finding(f"the file is damaged: {error}")], False


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _structure(connection: sqlite3.Connection) -> Iterator[Finding]:
    for (said,) in connection.execute(f"PRAGMA integrity_check({_MANY})"):
        if said != "ok":
            yield Finding(said)
    for what, number in connection.execute(query("check_values")):
        yield Finding(f"{what} {number} is damaged")
    for number, head in connection.execute(query("check_heads")):
        try:
            unpack(Head, head)
        except (ValueError, TypeError) as error:
            yield Finding(f"event {number} cannot be read: {error}")


# -- mending --------------------------------------------------------------------------------------------


def _mend(path: Path, findings: list[Finding], export: Path | None, *, sound: bool) -> list[Finding]:
    mending = path.with_name(path.name + ".mending")
    told = path.with_name(path.name + ".unplaced")
    try:
        _clear(mending)
        with told.open("wb") as file:
            said, unplaced = _copy(path, mending, file.write, sound=sound)
        findings += [Finding(one, remark=True) for one in said]
        found = _mended_rows(mending)
        findings += [] if sound else found[:_MANY]
        if not sound and len(found) > _MANY:
            findings.append(Finding(f"and {len(found) - _MANY} rows more like these"))
        left, _ = _look(mending)
        if left:
            raise JournalCorrupt(f"{path} is too damaged to be mended ({left[0].what}): restore a backup")
        _clear(mending, but_the_file=True)
        mending.chmod(path.stat().st_mode & 0o666)
        store.sync(mending)
        store.sync(told)
        kept = _name_to_keep(path)
        if unplaced or export:
            place = export or kept.with_name(kept.name + ".events.jsonl")
            findings.append(_exported(told, place, unplaced))
        mending.replace(store.mended(path))
        _put_in_place(path, kept)
        findings.append(Finding(f"the journal as it was is kept as {kept}", remark=True))
    finally:
        _clear(mending)
        told.unlink(missing_ok=True)
    return [one if one.remark else msgspec.structs.replace(one, mended=True) for one in findings]


def _copy(path: Path, to: Path, write: Callable[[bytes], int], *, sound: bool) -> tuple[list[str], int]:
    """Make the copy. Returns what is to be said of it, and how many events it has no place for."""
    if sound:
        with (
            contextlib.closing(store.connect(path, create=False, upgrade=False)) as journal,
            contextlib.closing(sqlite3.connect(to)) as copy,
        ):
            journal.backup(copy)
        return [], 0
    unplaced = 0

    def tell(event: Event, why: str) -> None:
        nonlocal unplaced
        unplaced += 1
        write(line(event, why))

    salvage = Salvage(path, to)
    salvage.run(tell)
    return salvage.said, unplaced


def _mended_rows(path: Path) -> list[Finding]:
    """Mend what can be told row by row."""
    with contextlib.closing(store.connect(path, create=True)) as connection:
        connection.text_factory = _text
        connection.execute("BEGIN IMMEDIATE")
        findings = [one for check in _CHECKS for one in check(connection, True)]
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return findings


def _name_to_keep(path: Path) -> Path:
    """A name for the damaged file that nothing has."""
    kept = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    return kept if not kept.exists() else kept.with_name(f"{kept.name}-{time.time_ns()}")


def _put_in_place(path: Path, kept: Path) -> None:
    """Put the mended journal in the place of the damaged one, which is kept under that name.

    Interrupted anywhere, it can be done again; until it is done, nobody opens the journal (:mod:`store`).
    """
    for rest in _BESIDE:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + rest).rename(kept.with_name(kept.name + rest))
    with contextlib.suppress(FileNotFoundError):
        path.rename(kept)
    store.sync(path.parent)
    store.mended(path).replace(path)
    store.sync(path.parent)


def _exported(told: Path, place: Path, count: int) -> Finding:
    part = place.with_name(f".{place.name}.part")
    part.write_bytes(b"")
    part.chmod(0o600)
    with told.open("rb") as source, part.open("ab") as target:
        while block := source.read(1 << 20):
            target.write(block)
    store.sync(part)
    part.replace(place)
    store.sync(place.parent)
    return Finding(f"{count} events that the journal cannot run are in {place}", remark=True)


def _clear(mending: Path, *, but_the_file: bool = False) -> None:
    for rest in (*_BESIDE, "-journal", *(() if but_the_file else ("", ".lock"))):
        mending.with_name(mending.name + rest).unlink(missing_ok=True)


# -- row by row -----------------------------------------------------------------------------------------


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


_CHECKS: tuple[Check, ...] = (_orphans, _bodies, _open_counts, _keys, _counters, _totals, _next)
