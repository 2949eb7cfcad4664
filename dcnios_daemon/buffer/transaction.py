"""One transaction on the journal: the statements, and the books that will be true once it is on disk."""

import itertools
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from dcnios_daemon.buffer.books import Books
from dcnios_daemon.buffer.queries import STEPS, query, repeated
from dcnios_daemon.buffer.records import Code

T = TypeVar("T")
_KEY_BYTES = 20
_QUEUED = int(Code.QUEUED)


class Transaction:
    """Handed to the bodies that read and write. Not kept beyond its end."""

    def __init__(self, connection: sqlite3.Connection, books: Books, *, now: float, steady: float) -> None:
        self._connection = connection
        self._before = books
        self.books = books.copy()
        self.now = now
        """Wall time, seconds since the epoch."""
        self.steady = steady
        """The journal's own time, see :mod:`dcnios_daemon.buffer.steady`."""
        self.moment = max(steady, math.nextafter(books.meta.get("clock", 0), math.inf))
        """The same, but later than in every transaction before: it tells which of two came first."""
        self.changed = False
        """Whether deliveries may have become claimable or counts have changed."""
        self._remembered: dict[str, None] = {}
        self._routes: set[int] = set()
        self._waiting_touched = False

    # -- statements -------------------------------------------------------------------------------------

    def run(self, name: str, /, **values: object) -> sqlite3.Cursor:
        """Run the statement of that name."""
        return self._connection.execute(query(name), values)

    def value(self, name: str, /, **values: object) -> Any:  # noqa: ANN401 - a column may hold anything
        """The first column of the first row; None without a row."""
        row = self.run(name, **values).fetchone()
        return None if row is None else row[0]

    def listed(self, kind: type[T], name: str, /, **values: object) -> list[T]:
        """What a statement gives as one JSON array, typed."""
        return msgspec.json.decode(self.value(name, **values), type=list[kind])  # type: ignore[valid-type]

    def run_rows(self, name: str, rows: Sequence[Sequence[object]]) -> None:
        """Run a statement that has a VALUES group for all rows, many at a time."""
        if rows:
            self.run_flat(name, list(itertools.chain.from_iterable(rows)), columns=len(rows[0]))

    def run_flat(self, name: str, values: Sequence[object], *, columns: int) -> None:
        """The same for the values of all rows, one row after the other."""
        start = 0
        for step in _steps(len(values) // columns):
            end = start + step * columns
            self._connection.execute(repeated(name, step), values[start:end])
            start = end

    def run_keys(self, name: str, keys: Sequence[bytes]) -> Iterator[Sequence[Any]]:
        """Run a statement that ends in ``IN (?)`` for all keys, many at a time; gives all its rows."""
        start = 0
        for step in _steps(len(keys)):
            yield from self._connection.execute(repeated(name, step), keys[start : start + step])
            start += step

    def to_wall(self, moment: float) -> float:
        """A moment of the journal's own time as the wall clock will show it."""
        return moment - self.steady + self.now

    # -- the books --------------------------------------------------------------------------------------

    def number(self, name: str) -> int:
        """The small number of a route or source, given now if it is new."""
        known = self.books.names.get(name)
        if known is None:
            known = self.books.names[name] = len(self.books.names)
            self.run("add_name", id=known, name=name)
        return known

    def add(self, name: str, n: float) -> int:
        """Change one of the single numbers. Returns what it was."""
        before = self.books.number(name)
        self.books.meta[name] = before + n
        return before

    def count(self, route: int, code: int, n: int) -> None:
        """Note that ``n`` more deliveries of the route are in this state."""
        if code <= Code.WAITING:
            self._waiting_touched = self._waiting_touched or code == Code.WAITING
            self._routes.add(route)
            code = _QUEUED
        place = (route, code)
        self.books.counts[place] = self.books.counts.get(place, 0) + n

    def promoted(self) -> None:
        """Note that retries have come due."""
        self._waiting_touched = True

    def remember(self, key: str) -> None:
        """From now on the time runs after which the key may be forgotten."""
        self._remembered[key] = None

    def hold(self, key: str) -> None:
        """Its time does not run from this transaction on after all."""
        self._remembered.pop(key, None)

    def close(self) -> Books:
        """Write the books down. Nothing but the commit may follow. Returns them."""
        books, before = self.books, self._before
        if self._remembered:
            self.run("remember", at=self.moment, keys=bytes.fromhex("".join(self._remembered)))
            books.next_expiry = self.moment if books.next_expiry is None else books.next_expiry
        if books.meta != before.meta or self._waiting_touched:
            books.meta["clock"] = self.moment
        counts = [(*place, n) for place, n in books.counts.items() if before.counts.get(place) != n]
        if counts:
            self.run_rows("set_counters", counts)
        if books.meta != before.meta:
            self.run_rows("set_meta", list(books.meta.items() - before.meta.items()))
        self._look_at_queues()
        return books

    def _look_at_queues(self) -> None:
        if self._routes:
            oldest = self.listed(tuple[int, float | None], "oldest", routes=as_json(sorted(self._routes)))
            for route, accepted in oldest:
                self.books.oldest.pop(route, None)
                if accepted is not None:
                    self.books.oldest[route] = accepted
        if self._waiting_touched:
            self.books.next_due = self.value("next_due")


def load(connection: sqlite3.Connection) -> Books:
    """The books as they are on disk, in time that depends on the number of routes only."""
    books = Books(names={}, counts={}, meta={}, oldest={}, next_due=None, next_expiry=None)
    tx = Transaction(connection, books, now=0, steady=0)
    books.meta = dict(tx.run("meta").fetchall())
    books.names = msgspec.json.decode(tx.value("names"), type=dict[str, int])
    counters = tx.listed(tuple[int, int, int], "counters")
    books.counts = {(route, state): n for route, state, n in counters}
    routes = as_json(sorted({route for route, _, _ in counters}))
    for route, accepted in tx.listed(tuple[int, float | None], "oldest", routes=routes):
        if accepted is not None:
            books.oldest[route] = accepted
    books.next_due = tx.value("next_due")
    books.next_expiry = tx.value("next_expiry")
    return books


def as_json(rows: object) -> str:
    """Rows as a parameter of a statement."""
    return msgspec.json.encode(rows).decode()


def split_keys(packed: bytes) -> list[bytes]:
    """The keys of a row of ``remembered``."""
    return [packed[start : start + _KEY_BYTES] for start in range(0, len(packed), _KEY_BYTES)]


def _steps(rows: int) -> Iterable[int]:
    while rows:
        step = next(step for step in STEPS if step <= rows)
        yield step
        rows -= step
