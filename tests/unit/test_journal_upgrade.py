"""A journal of an older version: found as it was left, brought up to date, in one step or not at all."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dcnios_daemon.buffer import store
from dcnios_daemon.buffer.fsck import fsck
from dcnios_daemon.buffer.journal import SqliteJournal
from dcnios_daemon.buffer.queries import migration
from dcnios_daemon.core.errors import JournalError, JournalUnavailable
from dcnios_daemon.core.ports import Dead, State, Succeed
from tests.clocks import ManualClock
from tests.contract.journal_rig import admit, bad, good, make_event, make_journal, numbers

OLD_SCHEMA = Path(__file__).parent.parent / "resources" / "journal-schema-1.sql"
"""The tables as version 1 made them."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@contextlib.asynccontextmanager
async def opened(path: Path, clock: ManualClock, *, shared: bool = False) -> AsyncIterator[SqliteJournal]:
    journal = make_journal("sqlite", path, clock)
    assert isinstance(journal, SqliteJournal)
    await journal.open(shared=shared)
    try:
        yield journal
    finally:
        await journal.aclose()


async def _backlog(path: Path, clock: ManualClock) -> None:
    """Ten events on two routes, in every state there is."""
    async with opened(path, clock) as journal:
        await journal.append("uploads", admit(*range(10), routes=("a", "b")), "page 7")
        await journal.append("uploads", admit(10, routes=()), None)
        one, two, three, four, *_ = await journal.claim("a", 5)
        await journal.finish([one.delivery], good(one), Succeed())
        await journal.finish([two.delivery], bad(two), Dead())
        await journal.release([three.delivery], after=50, note="busy")
        await journal.started([four.delivery])
        await journal.drop([one.id for one in await journal.deliveries(route="b", limit=2)], "no")


def made_by_version_1(path: Path, like: Path) -> None:
    """The same rows in the old tables."""
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("PRAGMA journal_mode = WAL")
        old.executescript(OLD_SCHEMA.read_text())
        old.execute("ATTACH ? AS new", (str(like),))
        tables = old.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            columns = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
            old.execute(f"DELETE FROM main.{table}")
            old.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
        old.execute("UPDATE main.meta SET n = 1 WHERE name = 'schema'")
        old.execute(f"PRAGMA main.application_id = {store.APPLICATION}")
        old.execute("PRAGMA main.user_version = 1")


@pytest.fixture
async def old(tmp_path: Path, clock: ManualClock) -> Path:
    new, path = tmp_path / "new" / "journal.db", tmp_path / "old" / "journal.db"
    await _backlog(new, clock)
    await asyncio.to_thread(made_by_version_1, path, new)
    return path


async def _version(path: Path) -> int:
    def look() -> int:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return store.version(connection)

    return await asyncio.to_thread(look)


async def test_everything_in_a_version_1_file_is_found(old: Path, tmp_path: Path, clock: ManualClock) -> None:
    assert await _version(old) == 1
    async with opened(tmp_path / "new" / "journal.db", clock) as new, opened(old, clock) as journal:
        assert await journal.stats() == await new.stats()
        assert await journal.deliveries(limit=100) == await new.deliveries(limit=100)
        assert await journal.in_flight() == await new.in_flight()
        assert [(one.sink, one.keep) for one in await journal.in_flight()] == [("", None)] * 2
        assert await journal.cursor("uploads") == "page 7"
        assert (await journal.append("uploads", admit(*range(10), routes=("a", "b")), None)).accepted == 0
        assert (await journal.show(make_event(4).key))[0] == make_event(4)
        assert numbers(await journal.claim("a", 100, sink="job", keep=60)) == [5, 6, 7, 8, 9]
        clock.pass_time(50)
        assert numbers(await journal.claim("a", 100)) == [2]
    assert await _version(old) == store.SCHEMA
    assert await asyncio.to_thread(fsck, old) == []


async def test_an_upgraded_file_has_the_tables_of_a_new_one(
    old: Path, tmp_path: Path, clock: ManualClock
) -> None:
    async with opened(old, clock):
        pass
    columns = []
    for path in (old, tmp_path / "new" / "journal.db"):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
            columns.append(
                [connection.execute(f"PRAGMA table_info({name})").fetchall() for (name,) in tables]
            )
            columns.append(connection.execute("SELECT n FROM meta WHERE name = 'schema'").fetchall())
    assert columns[:2] == columns[2:]


async def test_an_upgrade_that_fails_leaves_the_old_version(
    old: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await asyncio.to_thread(migration, 2)
    with monkeypatch.context() as broken:
        broken.setattr(store, "migration", lambda _: whole + "INSERT INTO nowhere VALUES (1);")
        with pytest.raises(JournalUnavailable):
            await make_journal("sqlite", old, clock).open()
    assert await _version(old) == 1
    async with opened(old, clock) as journal:
        assert (await journal.stats()).events == 10


async def test_commands_bring_it_up_to_date_when_no_daemon_runs(old: Path, clock: ManualClock) -> None:
    async with opened(old, clock, shared=True) as beside:
        assert len(await beside.deliveries(state=State.DEAD)) == 1
    assert await _version(old) == store.SCHEMA


async def test_commands_leave_it_alone_while_an_older_daemon_has_it(old: Path, clock: ManualClock) -> None:
    lock = store.Lock(old)
    await asyncio.to_thread(lock.take)
    with pytest.raises(JournalError, match=r"version 1 and is in use by an older dcnios: restart"):
        await make_journal("sqlite", old, clock).open(shared=True)  # type: ignore[call-arg]
    lock.give_back()
    assert await _version(old) == 1


async def test_looking_through_it_changes_nothing(old: Path) -> None:
    assert await asyncio.to_thread(fsck, old) == []
    assert await _version(old) == 1
