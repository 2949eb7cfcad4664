"""Which files in a directory become events, and when."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dcnios_daemon.core.errors import Disconnected, Rejected
from dcnios_daemon.core.event import Action
from dcnios_daemon.core.ports import Batch
from dcnios_daemon.core.routing import Router
from dcnios_daemon.sources.admission import admit
from dcnios_daemon.sources.directory import source as directory
from dcnios_daemon.sources.directory.settings import DirectorySettings
from dcnios_daemon.sources.directory.source import DirectorySource
from dcnios_daemon.telemetry.events import signal
from tests.clocks import ManualClock

HOUR = 3600 * 10**9


class Folder:
    """The folder, and the source that looks into it every few milliseconds.

    The clock by which files grow quiet stands until a test moves it, unless it asks for no quiet at all.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = ManualClock()
        self.source: DirectorySource
        self.cursor: str | None = None

    async def start(self, **settings: Any) -> None:
        """A new life, from the stored cursor."""
        given = {"path": self.root, "poll": 0.002, "quiet": 0} | settings
        self.source = DirectorySource(
            name="drop", settings=DirectorySettings.model_validate(given), clock=self.clock
        )
        await self.source.connect(self.cursor)

    async def read(self) -> Batch:
        async with asyncio.timeout(10):
            batch = await self.source.read()
        self.cursor = batch.cursor
        return batch

    async def names(self) -> list[str]:
        """What comes next."""
        return sorted(event.subject for event in (await self.read()).events)

    async def nothing_comes(self) -> None:
        """However often it looks."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await self.source.read()

    def write(self, name: str, content: str = "content") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "inbox")
    made.root.mkdir()
    return made


async def test_a_file_becomes_an_event_that_says_where_it_is(folder: Folder) -> None:
    path = folder.write("run 7.dat", "seven")
    os.utime(path, ns=(1_700_000_000_500_000_000,) * 2)
    await folder.start()
    (event,) = (await folder.read()).events
    assert (event.subject, event.size, event.time) == ("run 7.dat", 5, 1_700_000_000.5)
    assert (event.action, event.kind) == (Action.CREATED, "directory")
    assert json.loads(event.data) == {
        "path": str(path),
        "name": "run 7.dat",
        "size": 5,
        "modified": "2023-11-14T22:13:20.500Z",
    }


async def test_a_file_is_complete_once_it_was_left_alone(folder: Folder) -> None:
    await folder.start(quiet=2)
    path = folder.write("growing.dat", "a")
    await folder.nothing_comes()
    folder.clock.pass_time(1.9)
    await folder.nothing_comes()
    path.write_text("ab")
    await folder.nothing_comes()
    folder.clock.pass_time(1.9)
    await folder.nothing_comes()
    folder.clock.pass_time(0.2)
    (event,) = (await folder.read()).events
    assert event.size == 2


async def test_unfinished_and_hidden_names_wait_until_they_are_renamed(folder: Folder) -> None:
    await folder.start()
    names = ("a.part", "b.tmp", "c~", ".d", "e.filepart", ".git/f")
    for name in names:
        folder.write(name)
    (folder.root / "link").symlink_to("a.part")
    await folder.nothing_comes()
    (folder.root / "a.part").rename(folder.root / "a")
    assert await folder.names() == ["a"]
    await folder.nothing_comes()


async def test_a_file_written_again_is_a_new_event(folder: Folder) -> None:
    await folder.start()
    path = folder.write("a", "one")
    (first,) = (await folder.read()).events
    path.write_text("two")
    (second,) = (await folder.read()).events
    folder.write("a.part", "two").rename(path)
    (third,) = (await folder.read()).events
    assert len({first.key, second.key, third.key}) == 3


async def test_touching_its_rights_makes_no_new_file(folder: Folder) -> None:
    await folder.start()
    path = folder.write("a")
    assert await folder.names() == ["a"]
    path.chmod(0o600)
    await folder.nothing_comes()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["a.png", "b.txt"]),
        ("*.png", ["a.png"]),
        ("**/*", ["a.png", "b.txt", "deep/c.png", "deep/er/d.png"]),
        ("**/*.png", ["a.png", "deep/c.png", "deep/er/d.png"]),
        ("deep/*", ["deep/c.png"]),
    ],
)
async def test_the_pattern_says_which_and_how_deep(folder: Folder, pattern: str, found: list[str]) -> None:
    for name in ("a.png", "b.txt", "deep/c.png", "deep/er/d.png"):
        folder.write(name)
    await folder.start(pattern=pattern)
    assert await folder.names() == found


async def test_many_files_come_in_pages_and_each_cursor_is_a_place_to_go_on(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "PAGE", 3)
    monkeypatch.setattr(directory, "MARGIN", 0)
    wanted = {f"{number}" for number in range(10)}
    for name in wanted:
        folder.write(name)
    seen: set[str] = set()
    while seen != wanted:  # each page in a life of its own; what shares an instant may come twice
        await folder.start()
        batch = await folder.read()
        assert len(batch.events) <= 3
        assert {event.subject for event in batch.events} - seen, "no life may be in vain"
        seen |= {event.subject for event in batch.events}


async def test_after_a_restart_files_of_a_settled_past_are_not_given_again(folder: Folder) -> None:
    """Not even from the journal's point of view: it may have forgotten their keys long ago."""
    folder.write("old")
    await folder.start()
    assert await folder.names() == ["old"]
    folder.cursor = str(int(folder.cursor or 0) + directory.MARGIN + HOUR)  # as if newer files had come since
    await folder.start()
    await folder.nothing_comes()
    folder.write("old", "but written again")
    assert await folder.names() == ["old"]


async def test_files_that_were_growing_when_the_daemon_stopped_are_given_by_the_next_life(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "MARGIN", 0)
    await folder.start(quiet=2)
    folder.write("quiet")
    await folder.nothing_comes()
    folder.clock.pass_time(1.5)
    for name in ("growing", "growing later"):
        folder.write(name)
        await folder.nothing_comes()
    folder.clock.pass_time(1)
    assert await folder.names() == ["quiet"]
    await folder.start()
    assert await folder.names() == ["growing", "growing later"]


async def test_its_folder_is_made_the_first_time_and_missed_later(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "inbox")
    await folder.start()
    folder.write("a")
    assert await folder.names() == ["a"]
    (folder.root / "a").unlink()
    folder.root.rmdir()
    with pytest.raises(Disconnected, match="inbox"):
        await folder.read()
    with pytest.raises(Rejected, match="though it was before"):
        await folder.start()


async def test_a_mistyped_path_is_an_error(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "no" / "inbox")
    with pytest.raises(Rejected, match="inbox is not there, nor is"):
        await folder.start()
    (tmp_path / "file").write_text("")
    with pytest.raises(Rejected, match="cannot be read"):
        await Folder(tmp_path / "file").start()
    with pytest.raises(ValidationError, match="below the directory"):
        DirectorySettings(path=tmp_path, pattern="/data/*")


async def test_a_folder_below_that_refuses_us_holds_up_nothing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(signal, "say", lambda _level, event, fields: said.append(f"{event} {fields()}"))
    folder.write("private/a")
    folder.write("public/b")
    scandir = os.scandir

    def refusing(path: Any) -> Any:
        if "private" in str(path):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    await folder.start(pattern="**/*")
    assert await folder.names() == ["public/b"]
    await folder.nothing_comes()
    assert len([line for line in said if "private: Permission denied" in line]) == 1


async def test_names_may_be_any_bytes(folder: Folder) -> None:
    with open(os.fsencode(folder.root) + b"/\xff\xfe.dat", "wb"):  # noqa: ASYNC230, PTH123 - a Path is text
        pass
    folder.write("\N{CAT FACE} #+%.dat")
    await folder.start()
    batch = await folder.read()
    kept = [admit(event, Router({}), now=0.0).event.subject for event in batch.events]
    assert sorted(kept) == ["\\udcff\\udcfe.dat", "\N{CAT FACE} #+%.dat"]


async def test_a_cancelled_read_loses_nothing(folder: Folder) -> None:
    await folder.start()
    folder.write("a")
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await folder.source.read()
    assert await folder.names() == ["a"]


async def test_what_is_gone_is_forgotten(folder: Folder) -> None:
    await folder.start()
    for number in range(3):
        path = folder.write("same name", f"{number}")
        assert await folder.names() == ["same name"]
        path.unlink()
        await folder.nothing_comes()
    assert not folder.source._seen.known
