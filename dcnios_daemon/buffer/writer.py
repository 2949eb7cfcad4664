"""The one thread that touches the journal's file, and group commit.

Callers hand in jobs. The thread takes all that wait, runs them in one transaction, commits once, and tells
all callers with one call into the event loop; what arrives meanwhile goes into the next. Jobs of the same
body run together, in a handful of statements however many they are. Their order among each other is free:
each caller waits for its own before it asks for more. When a transaction fails, each of its jobs runs again
in one of its own, so that none is harmed by another: bodies change nothing but the transaction.
"""

import asyncio
import contextlib
import queue
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from dcnios_daemon.buffer import claims, housekeeping, store
from dcnios_daemon.buffer.books import Books
from dcnios_daemon.buffer.disk import Disk, told
from dcnios_daemon.buffer.gate import Watermarks
from dcnios_daemon.buffer.steady import SteadyTime
from dcnios_daemon.buffer.transaction import Transaction, load
from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import JournalCorrupt, JournalUnavailable

Body = Callable[[Transaction, Sequence[Any]], Sequence[Any]]
"""Serves many calls at once: gives a result, or an error to raise, for each."""

GROUP = 1000
"""The most jobs of one transaction."""
POLL_SECONDS = 1.0
"""How often to look for changes by other processes, and at a failing disk."""
_SWITCH_SECONDS = 0.00002


class Job:
    """One call: a body, its argument, and who waits for the result."""

    __slots__ = ("argument", "body", "error", "future", "result", "undo", "writes")

    def __init__(
        self, body: Body, argument: object, future: asyncio.Future[Any] | None, *, writes: bool = True
    ) -> None:
        self.body = body
        self.argument = argument
        self.future = future
        """None: nobody waits, but it must be done; it is tried until it is."""
        self.writes = writes
        self.undo: Callable[[Any], None] | None = None
        """What to do with the result if the caller went away. On the event loop."""
        self.result: Any = None
        self.error: BaseException | None = None


class News(msgspec.Struct):
    """What the thread tells the event loop after a transaction."""

    jobs: list[Job]
    books: Books
    full: str | None
    """Why nothing more has room; None while there is room."""
    failure: str | None
    """Why the disk takes nothing; None while it does."""
    log: int
    """Bytes of the log beside the file."""
    stuck: int
    """Bytes of it that cannot be moved into the file although it is too long."""
    changed: bool


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal was told to be like."""

    shared: bool
    marks: Watermarks
    dedupe_for: float
    history: int


class Writer:
    """Owns the connection. Everything but ``put`` and ``start`` happens on its thread."""

    def __init__(self, path: Path, terms: Terms, clock: Clock, tell: Callable[[News], None]) -> None:
        self._path = path
        self._terms = terms
        self._clock = clock
        self._tell = tell
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._owed: list[Job] = []
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._lock = store.Lock(path)
        self._connection: sqlite3.Connection
        self._books: Books
        self._steady: SteadyTime
        self._disk: Disk
        self._version = 0
        self._look_again = 0.0
        self._look_at_bytes = 0
        self._stopping = False
        self._failure: str | None = None
        self._damaged = False
        """The file is: nothing is written to it any more in this life."""
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self.commits = 0
        """Transactions that wrote something, since the start."""

    # -- from the event loop ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the file; the first news comes before this returns. Errors are ours."""
        self._thread.start()
        await asyncio.shield(self._opened)

    def put(self, job: Job | None) -> None:
        """Hand a job in; None ends the thread after the jobs before it."""
        self._jobs.put(job)

    async def ended(self) -> None:
        """Return once the file is closed."""
        await asyncio.shield(self._closed)

    # -- on the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        # A thread that waits for the interpreter asks for it after this long without a sign of life. A busy
        # event loop lets go and takes again at every system call, up to 30,000 times a second, and the wait
        # begins anew each time: unless it is shorter than that, this thread may starve. Beside such a loop,
        # with a core to spare, the worst seen in appends a second was 0 at the default of 5 ms, 3 at 0.1 ms,
        # 100 at 0.02 ms. It holds for the whole process; whether 5, 0.1 or 0.01 ms, the whole path's CPU per
        # event was the same within the noise of measuring.
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_SECONDS))
        try:
            self._open()
        except BaseException as error:  # noqa: BLE001 - handed to the caller of open
            self._lock.give_back()
            self._post(_settle, self._opened, None, told(error, self._path)[0])
            return
        self._report([], changed=False)
        self._post(_settle, self._opened, None, None)
        while not self._stopping:
            self._serve(self._wait_for_jobs())
        self._post(_settle, self._closed, None, self._close())

    def _open(self) -> None:
        if not self._terms.shared:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.take()
        self._connection = store.connect(self._path, create=not self._terms.shared)
        self._books = load(self._connection)
        self._version = self._data_version()
        self._disk = Disk(self._connection, self._path)
        self._steady = SteadyTime(self._clock, floor=self._books.meta["clock"])

    def _close(self) -> BaseException | None:
        try:
            if not self._terms.shared:
                # A disk that is full now loses nothing: what stays in the log is read from there next time.
                with contextlib.suppress(sqlite3.OperationalError):
                    self._disk.empty_log()
            self._connection.close()
        except sqlite3.Error as error:
            return store.translated(error, self._path)
        finally:
            self._lock.give_back()
        return None

    def _post(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop was closed under us: nobody is left to tell
            self._stopping = True

    def _wait_for_jobs(self) -> list[Job]:
        jobs: list[Job] = []
        try:
            job = self._jobs.get(timeout=self._patience())
            while job is not None:
                jobs.append(job)
                if len(jobs) == GROUP:
                    return jobs
                job = self._jobs.get_nowait()
            self._stopping = True
        except queue.Empty:
            pass
        return jobs

    def _patience(self) -> float:
        due = self._books.next_due
        if due is None or self._terms.shared or self._failure:
            return POLL_SECONDS
        return min(max(due - self._steady.now(), 0.0), POLL_SECONDS)

    def _serve(self, jobs: list[Job]) -> None:
        wanted = [job for job in jobs if job.future is None or not job.future.cancelled()]
        if time.monotonic() >= self._look_again or self._books.number("bytes") >= self._look_at_bytes:
            self._look_again = time.monotonic() + POLL_SECONDS
            self._look_at_bytes = self._books.number("bytes") + store.RESERVE // 16
            self._look_around()
        if not self._failure and self._owed:
            wanted, self._owed = [*self._owed, *wanted], []
        if self._damaged:
            wanted = self._refuse(wanted)
        self._attempt(wanted)

    def _attempt(self, jobs: list[Job]) -> None:
        """Run the jobs together, or, if that fails, each alone."""
        try:
            changed = self._transact(jobs)
        except BaseException as error:  # noqa: BLE001 - handed to the caller of the job
            self._roll_back()
            if len(jobs) > 1:
                for job in jobs:
                    self._attempt([job])
                return
            self._failed(self._disk.told(error), jobs)
            changed = False
        if jobs or changed or self._failure:
            self._report(jobs, changed=changed)

    def _report(self, jobs: list[Job], *, changed: bool) -> None:
        books = self._books
        full = self._terms.marks.look(books.number("events"), books.number("bytes"))
        disk = self._disk
        self._post(self._tell, News(jobs, books, full, self._failure, disk.log, disk.stuck, changed))

    def _transact(self, jobs: list[Job]) -> bool:
        """One transaction. Returns whether someone should look at the journal anew."""
        steady = self._steady.now()
        writes = any(job.writes for job in jobs) or self._chores_are_due(steady)
        self._connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        outside = self._notice_others()
        tx = Transaction(self._connection, self._books, now=self._clock.now(), steady=steady)
        if writes and not self._terms.shared:
            claims.promote(tx)
            housekeeping.forget(tx, self._terms.dedupe_for)
        for body, together in _by_body(jobs).items():
            results = body(tx, [job.argument for job in together])
            for job, result in zip(together, results, strict=True):
                job.error = result if isinstance(result, BaseException) else None
                job.result = result
        if writes and not self._terms.shared:
            housekeeping.prune(tx, self._terms.history)
        books = tx.close()
        self._connection.execute("COMMIT")
        self._books = books
        self.commits += writes
        return tx.changed or outside

    def _chores_are_due(self, steady: float) -> bool:
        books = self._books
        return not self._terms.shared and (
            (books.next_due is not None and self._steady.has_come(books.next_due))
            or housekeeping.expiry_is_due(books.next_expiry, dedupe_for=self._terms.dedupe_for, steady=steady)
        )

    def _notice_others(self) -> bool:
        """Whether another process has written since the last look; if so, read the books anew."""
        version = self._data_version()
        if version == self._version:
            return False
        self._version = version
        self._books = load(self._connection)
        return True

    def _data_version(self) -> int:
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    # -- a disk that fails ------------------------------------------------------------------------------

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._failure = str(store.translated(error, self._path))

    def _refuse(self, jobs: list[Job]) -> list[Job]:
        """Write nothing to a damaged file. Returns what only reads."""
        writing = [job for job in jobs if job.writes]
        if writing:
            self._failed(JournalUnavailable(self._failure), writing)
            self._report(writing, changed=False)
        return [job for job in jobs if not job.writes]

    def _failed(self, error: BaseException, jobs: list[Job]) -> None:
        if isinstance(error, JournalCorrupt):
            self._damaged = True
            error = JournalUnavailable(str(error))  # callers wait, and keep what they have, as for a disk
        if isinstance(error, JournalUnavailable):
            self._failure = str(error)
        for job in jobs:
            job.error = error
            if job.future is None:
                self._owed.append(job)

    def _look_around(self) -> None:
        """See whether the file is still the one that the path means, whether a disk that failed takes data
        again, and whether it has room for more events."""
        try:
            moved = self._disk.moved()
            if moved:
                self._failure = moved
            elif self._failure and not self._damaged:
                self._disk.probe()
                self._failure = None
                self._report([], changed=True)
            if not self._terms.shared:
                self._look_at_room()
        except (OSError, sqlite3.Error) as error:
            self._roll_back()
            self._failure = str(store.translated(error, self._path))
            # On a full disk the room that the log takes may be all that is missing.
            with contextlib.suppress(sqlite3.Error):
                self._disk.empty_log()

    def _look_at_room(self) -> None:
        """And at the log, which takes of it."""
        marks, disk = self._terms.marks, self._disk
        before = marks.shortage is None, disk.log, disk.stuck
        marks.shortage = disk.shortage(before=marks.shortage is not None)
        disk.tend_log()
        if (marks.shortage is None, disk.log, disk.stuck) != before:
            self._report([], changed=False)


def _by_body(jobs: Sequence[Job]) -> dict[Body, list[Job]]:
    together: dict[Body, list[Job]] = {}
    for job in jobs:
        together.setdefault(job.body, []).append(job)
    return together


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
