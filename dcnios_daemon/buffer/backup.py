"""A copy of the journal as of one moment, made beside a daemon that goes on writing.

The copy is read in one transaction, which in SQLite's WAL mode keeps no writer waiting; without it, every
write of the daemon would make SQLite begin the copy anew. It bears its name only when it is whole, sound and
on disk.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from dcnios_daemon.buffer import store
from dcnios_daemon.buffer.queries import query
from dcnios_daemon.core.errors import JournalCorrupt, JournalError, JournalUnavailable

_PAGES = 1024
"""Copied between two reports of progress: 4 MiB."""
Progress = Callable[[int, int], None]
"""Told how many pages are copied, and of how many."""


class Backup(msgspec.Struct, frozen=True):
    """What was made."""

    path: str
    bytes: int
    events: int
    """Events with a delivery that is not settled."""


def backup(path: Path, to: Path, *, force: bool = False, progress: Progress | None = None) -> Backup:
    """Copy the journal to another file, which then is a journal that can be put in its place.

    Blocking: call it off the loop. A daemon may be using the journal; what it commits after the beginning is
    not in the copy.

    Args:
        path: The journal.
        to: The copy. Its directory must be there.
        force: Replace the file that is there.
        progress: Told how far it is.

    Raises:
        JournalError: There is no journal; or ``to`` is there and ``force`` was not given, or is a journal.
        JournalCorrupt: The journal is damaged: a copy would be no help.
        JournalUnavailable: A disk fails.
    """
    _may_be_written(path, to, force=force)
    try:
        with _part(to) as part:
            made = _copy(path, part, to, progress)
            store.sync(part)
            _name(part, to, force=force)
            store.sync(to.parent)
    except (sqlite3.Error, OSError) as error:
        ours = store.translated(error, path)
        if isinstance(ours, JournalUnavailable):
            raise JournalUnavailable(f"no backup of {path} at {to}: {error}") from error
        raise ours from error
    return made


def _may_be_written(path: Path, to: Path, *, force: bool) -> None:
    if path.exists() and to.exists() and to.samefile(path):
        raise JournalError(f"{to} is the journal itself: give the backup a name of its own")
    if (log := to.with_name(to.name + "-wal")).exists():
        raise JournalError(f"{log} is there: {to} seems to be a journal itself, give the backup another name")
    if to.exists() and not force:
        raise _taken(to)


def _taken(to: Path) -> JournalError:
    return JournalError(f"{to} is there already: --force replaces it")


@contextlib.contextmanager
def _part(to: Path) -> Iterator[Path]:
    part = to.with_name(f".{to.name}.{os.getpid()}.part")
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
    try:
        yield part
    finally:
        for rest in ("", "-wal", "-shm", "-journal"):
            part.with_name(part.name + rest).unlink(missing_ok=True)


def _copy(path: Path, part: Path, to: Path, progress: Progress | None) -> Backup:
    def tell(_: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    with (
        contextlib.closing(store.connect(path, create=False, upgrade=False)) as journal,
        contextlib.closing(sqlite3.connect(part, isolation_level=None)) as copy,
    ):
        journal.execute("BEGIN")
        events = int(dict(journal.execute(query("meta")).fetchall())["events"])
        copy.execute("PRAGMA synchronous = OFF")  # it is synced once, whole
        journal.backup(copy, pages=_PAGES, progress=tell, sleep=0)
    with contextlib.closing(store.connect(part, create=False, upgrade=False)) as copy:
        said = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if said != "ok":
        raise JournalCorrupt(
            f"{path} is damaged ({said}), so there is no backup at {to}: stop the daemon and run "
            "`dcnios queue fsck --repair`"
        )
    part.chmod(path.stat().st_mode & 0o666)
    return Backup(str(to), part.stat().st_size, events)


def _name(part: Path, to: Path, *, force: bool) -> None:
    if force:
        part.replace(to)
        return
    try:
        os.link(part, to)  # unlike a rename it fails if someone was quicker
    except FileExistsError as error:
        raise _taken(to) from error
    except OSError:  # a file system without links
        part.replace(to)
