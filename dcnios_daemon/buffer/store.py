"""The journal's file: made, locked, opened, closed, and its errors put into our words."""

import errno
import fcntl
import os
import sqlite3
from pathlib import Path

from dcnios_daemon.buffer.queries import migration, schema
from dcnios_daemon.core.errors import JournalCorrupt, JournalError, JournalUnavailable

SCHEMA = 2
APPLICATION = 0x64634E4A
"""Marks the file as a journal of ours ("dcNJ")."""
BUSY_SECONDS = 5.0
"""How long to wait for another process that is writing."""
RESERVE = 64 << 20
"""Bytes of the disk (of a small one a quarter) that new events may not take. Settling needs them: what it
frees is free only after it was written to the log, and the log into the file. On a disk filled to the brim
nothing would ever go on."""
_BLOCK = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 4000",  # pages; a hot page is then copied once for many commits
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -16384",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA mmap_size = 0",  # mapped pages would count as our memory
    "PRAGMA secure_delete = OFF",
)
# sqlite3 looks for an adapter of each bytes object, and not finding one takes longer than binding it.
sqlite3.register_adapter(bytes, bytes)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


class Lock:
    """Held by the one process that dispatches from a journal."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._path = journal.with_name(journal.name + ".lock")
        self._file: int | None = None

    def take(self) -> None:
        """Take it, and leave our process id in the file for whoever finds it taken.

        Raises:
            JournalError: Another process holds it.
            OSError: The file cannot be made.
        """
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(file, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(file)
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            raise JournalError(
                f"{self._journal} is in use by process {holder}: stop that one, or give this one its own "
                "buffer.path"
            ) from error
        self._file = file
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())

    def give_back(self) -> None:
        """Let others have it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def connect(path: Path, *, create: bool, upgrade: bool = True) -> sqlite3.Connection:
    """Open the file, making it first if it is not there and ``create`` says so.

    Args:
        path: The file.
        create: The caller holds the :class:`Lock` and may make it.
        upgrade: Bring a file of an older version up to date; else it is opened as it is.

    Raises:
        JournalError: It is not there; or it is of an older version and a daemon of that version has it.
        JournalCorrupt: It is not ours, damaged, or of a newer version.
        sqlite3.Error: The disk fails.
        OSError: A directory cannot be made.
    """
    if mended(path).exists():
        raise JournalError(f"{path} was being mended: run `dcnios queue fsck --repair` again to end that")
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        raise JournalError(f"there is no journal at {path}: is buffer.path right, has the daemon ever run?")
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        _prepare(connection, path, create=create, upgrade=upgrade)
    except BaseException:
        connection.close()
        raise
    return connection


def settle_log(connection: sqlite3.Connection, path: Path) -> None:
    """See that all of the log is on the disk, by writing it anew where it stands.

    When fsync fails, a kernel keeps in memory what it could not write, and takes it for written: a later
    fsync brings nothing of it to the disk. Whoever opens the log then reads a transaction that nobody has on
    disk, and puts more behind it, all of which a power cut would take away.

    Raises:
        OSError: The disk fails.
        sqlite3.Error: Likewise.
    """
    log = path.with_name(path.name + "-wal")
    connection.execute("BEGIN IMMEDIATE")  # nobody else writes to it meanwhile
    try:
        file = os.open(log, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    else:
        try:
            offset = 0
            while block := os.pread(file, _BLOCK, offset):
                offset += os.pwrite(file, block, offset)
            os.fsync(file)
        except OSError as error:
            if error.errno not in _FULL:  # where even this takes room; settling must go on there
                raise
        finally:
            os.close(file)
    finally:
        connection.execute("ROLLBACK")


def log_size(path: Path) -> int:
    """Bytes of the log beside the file.

    Raises:
        OSError: The disk fails.
    """
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except FileNotFoundError:
        return 0


def mended(path: Path) -> Path:
    """Where a mended journal lies between being whole and being in its place."""
    return path.with_name(path.name + ".mended")


def sync(path: Path) -> None:
    """Bring a file, or what a directory says of its files, onto the disk.

    Raises:
        OSError: The disk fails.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def identity(path: Path) -> tuple[int, int]:
    """Which file a path means: device and inode.

    Raises:
        OSError: None.
    """
    status = path.stat()
    return status.st_dev, status.st_ino


def shortage(connection: sqlite3.Connection, path: Path, *, before: bool) -> str | None:
    """Why no more events should be taken, although the disk is not full yet; None while they may be.

    Args:
        connection: The journal; free pages inside its file count as room.
        path: Its file.
        before: Whether there was a shortage at the last look: it ends somewhat above where it begins.

    Raises:
        OSError: The disk fails.
        sqlite3.Error: Likewise.
    """
    disk = os.statvfs(path.parent)
    room = disk.f_bavail * disk.f_frsize
    room += _pragma(connection, "freelist_count") * _pragma(connection, "page_size")
    kept = min(RESERVE, disk.f_blocks * disk.f_frsize // 4)
    if room >= kept * (1.25 if before else 1):
        return None
    return f"{room >> 20} MiB of disk left for {path}: the last {kept >> 20} MiB are for settling"


def _prepare(connection: sqlite3.Connection, path: Path, *, create: bool, upgrade: bool) -> None:
    if create and _is_empty(connection):
        _make(connection, path)
    check(connection, path)
    if upgrade and version(connection) < SCHEMA:
        _upgrade(connection, path, owned=create)
    connection.execute("PRAGMA journal_mode = WAL")
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    if create:
        settle_log(connection, path)


def _is_empty(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return tables == 0 and _pragma(connection, "application_id") == 0


def _make(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in one transaction: a crash leaves a journal or an empty file, nothing between."""
    connection.execute("PRAGMA auto_vacuum = NONE")
    connection.executescript(
        f"BEGIN IMMEDIATE;\n{schema()}\nPRAGMA application_id = {APPLICATION};\n"
        f"PRAGMA user_version = {SCHEMA};\nCOMMIT;"
    )
    sync(path.parent)


def check(connection: sqlite3.Connection, path: Path) -> None:
    """See that it is a journal of a version that is known here.

    Raises:
        JournalCorrupt: It is not.
        sqlite3.Error: It cannot be read.
    """
    if _pragma(connection, "application_id") != APPLICATION:
        raise JournalCorrupt(f"{path} is a database, but no journal: give buffer.path a file of its own")
    found = version(connection)
    if not 1 <= found <= SCHEMA:
        raise JournalCorrupt(
            f"{path} has schema version {found}, this program knows {SCHEMA}: "
            "run the version of dcnios that wrote it, or newer"
        )


def version(connection: sqlite3.Connection) -> int:
    """The version of the schema that the file has."""
    return _pragma(connection, "user_version")


def _upgrade(connection: sqlite3.Connection, path: Path, *, owned: bool) -> None:
    """Bring the tables up to date in one transaction: a crash leaves the old version or the new one. Columns
    are added and nothing is rewritten, so that it takes no longer with a backlog."""
    lock = Lock(path)
    if not owned:
        try:
            lock.take()
        except JournalError as error:
            raise JournalError(
                f"{path} has schema version {version(connection)} and is in use by an older dcnios: restart "
                "the daemon with this version, then come again"
            ) from error
    try:
        steps = "\n".join(migration(to) for to in range(version(connection) + 1, SCHEMA + 1))
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{steps}\nUPDATE meta SET n = {SCHEMA} WHERE name = 'schema';\n"
            f"PRAGMA user_version = {SCHEMA};\nCOMMIT;"
        )
    finally:
        lock.give_back()


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def translated(error: BaseException, path: Path) -> BaseException:
    """A foreign error as ours; anything else as it is."""
    if isinstance(error, OSError):
        return JournalUnavailable(f"{error.filename or path}: {error.strerror or error}")
    if not isinstance(error, sqlite3.DatabaseError) or isinstance(
        error, sqlite3.ProgrammingError | sqlite3.IntegrityError
    ):
        return error
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _DAMAGED:
        return JournalCorrupt(
            f"{path}: {error}. Stop the daemon and run `dcnios queue fsck --repair`, which keeps the file as "
            "it is and brings out what can be read; else restore a backup, or start with none"
        )
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return JournalUnavailable(f"{path}: another process has been writing for {BUSY_SECONDS:.0f} seconds")
    return JournalUnavailable(f"{path}: {error}")
