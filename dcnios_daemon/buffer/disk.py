"""The disk under an open journal: is it still that file, does it take data, has it room, does the log move?

Used by the writer's thread alone. What goes wrong is raised as it comes: ``OSError`` or ``sqlite3.Error``.
"""

import os
import sqlite3
from pathlib import Path

from dcnios_daemon.buffer import store
from dcnios_daemon.buffer.queries import query
from dcnios_daemon.core.errors import JournalCorrupt

_BLOCK = 1 << 20
_PROBE_BYTES = 1 << 16
LOG_BYTES = 128 << 20
"""A longer log is a sign that the file takes nothing, or that someone has been reading it for long."""


class Disk:
    """Looked at once a second, and when something has failed."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._identity = store.identity(path)
        self._unreadable: tuple[Path, int] | None = None
        """Where reading failed."""
        self.log = 0
        """Bytes of the log, at the last look."""
        self.stuck = 0
        """Bytes of it that cannot be moved into the file although it is too long."""

    def moved(self) -> str | None:
        """Why the file is not ours any more; None while it is."""
        if store.identity(self._path) == self._identity:
            return None
        return f"{self._path} was moved or replaced while in use: restart the daemon"

    def told(self, error: BaseException) -> BaseException:
        """A foreign error as ours, see :func:`told`."""
        ours = store.translated(error, self._path)
        if not isinstance(ours, JournalCorrupt):
            return ours
        unread = self._unread()
        if unread is not None:  # it is known where: no need to go through all of it again
            return store.translated(unread, self._path)
        ours, self._unreadable = told(error, self._path)
        return ours

    def _unread(self) -> OSError | None:
        """Why what could not be read still cannot."""
        if self._unreadable is not None:
            try:
                _read(*self._unreadable)
            except OSError as error:
                return error
            self._unreadable = None
        return None

    def probe(self) -> None:
        """See whether it gives and takes data, log and file both, and bring onto it what it may have only
        taken for written."""
        if (error := self._unread()) is not None:
            raise error
        for size in (_PROBE_BYTES, 0):
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(query("fill_probe"), {"bytes": size})
            self._connection.execute("COMMIT")
        store.settle_log(self._connection, self._path)
        self.tend_log()

    def shortage(self, *, before: bool) -> str | None:
        """See :func:`store.shortage`."""
        return store.shortage(self._connection, self._path, before=before)

    def tend_log(self) -> None:
        """Move a log that has grown too long into the file. SQLite would do it by itself, long before; where
        it cannot, it tells nobody.
        """
        self.log = store.log_size(self._path)
        self.stuck = self._move_log() if self.log > LOG_BYTES else 0

    def empty_log(self) -> None:
        """Move all of the log into the file, and cut it off."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _move_log(self) -> int:
        """Returns how many bytes stay behind: somebody still reads the file as it was before them."""
        (_, frames, moved) = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        (page,) = self._connection.execute("PRAGMA page_size").fetchone()
        stuck: int = (frames - moved) * page
        return stuck if stuck > LOG_BYTES else 0


def told(error: BaseException, path: Path) -> tuple[BaseException, tuple[Path, int] | None]:
    """A foreign error as ours, and where reading failed, if it did.

    SQLite calls it damage when a page cannot be read (EIO, ENXIO: ``SQLITE_IOERR_CORRUPTFS``). But what
    cannot be read now may be whole, and read again when a cable or a network is.
    """
    ours = store.translated(error, path)
    if isinstance(ours, JournalCorrupt):
        for file in (path, path.with_name(path.name + "-wal")):
            offset = 0
            try:
                while size := _read(file, offset):
                    offset += size
            except FileNotFoundError:
                continue
            except OSError as unread:
                return store.translated(unread, path), (file, offset)
    return ours, None


def _read(path: Path, offset: int) -> int:
    """Read a block. Returns its size."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return len(os.pread(file, _BLOCK, offset))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(file)
