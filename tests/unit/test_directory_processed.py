"""Files that are done with are moved away: which, where to, and what that must never do."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import ValidationError

from dcnios_daemon.core.errors import Rejected
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Source
from dcnios_daemon.sources.directory import source as directory
from dcnios_daemon.sources.directory import tidy
from dcnios_daemon.sources.directory.check import check
from dcnios_daemon.sources.directory.settings import DirectorySettings, Processed
from dcnios_daemon.sources.directory.source import DirectorySource
from tests.contract.source_rig import NAME, Bench, Rig


class Inbox(Rig):
    """A directory whose files are moved away."""

    def __init__(self, root: Path, **processed: Path) -> None:
        super().__init__()
        self.root = root
        self.processed = Processed(**({"move_to": root / "done"} | processed))
        root.mkdir()

    def build(self) -> Source:
        settings = DirectorySettings(
            path=self.root, pattern="**/*", poll=0.01, quiet=0.0, processed=self.processed
        )
        return DirectorySource(name=NAME, settings=settings)

    async def happen(self, count: int) -> None:
        for _ in range(count):
            self.write(f"{len(self.happened)}.dat")

    def write(self, name: str, content: str = "content") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_text(content)
        part.rename(path)
        self.happened.append(name)
        return path

    def identify(self, event: Event) -> str:
        return event.subject


class Site:
    """The inbox under the runner; a test says what became of its events."""

    def __init__(self, rig: Inbox) -> None:
        self.rig = rig
        self.bench = Bench(rig)

    def running(self) -> Any:
        return self.bench.running()

    async def accepted(self, name: str, *, ends: bool | None = None) -> None:
        """Wait for its event; say how its deliveries ended, if they did."""
        await self.bench.journal.until(lambda: bool(self.keys(name)))
        if ends is not None:
            self.bench.journal.ends[self.keys(name)[-1]] = ends

    def keys(self, name: str) -> list[str]:
        return [event.key for event in self.bench.journal.events if event.subject == name]

    def files(self) -> set[str]:
        return {
            path.relative_to(self.rig.root).as_posix() for path in self.rig.root.rglob("*") if path.is_file()
        }

    async def until(self, *names: str) -> None:
        """Wait until exactly these files are there."""
        try:
            async with asyncio.timeout(10):
                while await asyncio.to_thread(self.files) != set(names):  # noqa: ASYNC110 - files call nobody
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"there are {self.files()}") from None


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidy, "PAUSE", 0.005)
    monkeypatch.setattr(directory, "LEFT_FOR_REPLAY", 0.0)


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    yield Site(Inbox(tmp_path / "inbox"))


async def test_a_file_goes_once_all_its_deliveries_succeeded(site: Site) -> None:
    site.rig.write("a.dat")
    site.rig.write("deep/er/b.dat")
    async with site.running():
        await site.accepted("a.dat")
        await site.accepted("deep/er/b.dat", ends=True)
        await site.until("a.dat", "done/deep/er/b.dat")
        await site.accepted("a.dat", ends=True)
        await site.until("done/a.dat", "done/deep/er/b.dat")
        site.rig.write("c.dat")
        await site.bench.all_accepted()
    assert len(site.bench.journal.events) == 3  # nothing is an event because it was moved


async def test_failed_ones_stay_unless_there_is_a_place_for_them(tmp_path: Path) -> None:
    site = Site(Inbox(tmp_path / "inbox"))
    site.rig.write("bad.dat")
    site.rig.write("good.dat")
    async with site.running():
        await site.accepted("bad.dat", ends=False)
        await site.accepted("good.dat", ends=True)
        await site.until("bad.dat", "done/good.dat")
    site.rig.processed = Processed(move_to=tmp_path / "inbox/done", failed_to=tmp_path / "failed")
    async with site.running():
        await site.until("done/good.dat")
    assert (tmp_path / "failed/bad.dat").read_text() == "content"


async def test_a_failed_one_that_was_moved_back_waits_for_its_replay(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.rig.processed = Processed(move_to=site.rig.root / "done", failed_to=tmp_path / "failed")
    site.rig.write("bad.dat")
    async with site.running():
        await site.accepted("bad.dat", ends=False)
        await site.until()
    monkeypatch.setattr(directory, "LEFT_FOR_REPLAY", 3600.0)
    async with site.running():
        (tmp_path / "failed/bad.dat").rename(site.rig.root / "bad.dat")
        site.rig.write("next.dat")
        await site.accepted("next.dat", ends=True)
        await site.until("bad.dat", "done/next.dat")
        await site.accepted("bad.dat", ends=True)  # it was replayed
        await site.until("done/bad.dat", "done/next.dat")
    assert len(site.keys("bad.dat")) == 1


async def test_nothing_there_is_written_over(site: Site) -> None:
    async with site.running():
        for content in ("one", "two", "three"):
            site.rig.write("a.dat", content)
            number = len(site.rig.happened)
            await site.bench.journal.until(lambda: len(site.bench.journal.events) == number)  # noqa: B023 - at once
            await site.accepted("a.dat", ends=True)
            await site.until(*[f"done/a.dat{end}" for end in ("", ".1", ".2")[:number]])
    contents = [(site.rig.root / f"done/a.dat{end}").read_text() for end in ("", ".1", ".2")]
    assert contents == ["one", "two", "three"]


async def test_what_ended_while_the_daemon_was_away_is_moved_by_the_next_life(site: Site) -> None:
    for number in range(5):
        site.rig.write(f"{number}.dat")
    async with site.running():
        await site.bench.all_accepted()
    for number in range(5):
        await site.accepted(f"{number}.dat", ends=True)
    async with site.running():
        await site.until(*[f"done/{number}.dat" for number in range(5)])
    assert len(site.bench.journal.events) == 5


async def test_many_are_asked_about_page_by_page(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidy, "PAGE", 3)
    await site.rig.happen(10)
    async with site.running():
        await site.bench.all_accepted()
        for number in range(0, 10, 2):
            await site.accepted(f"{number}.dat", ends=True)
        await site.until(*[f"{'' if number % 2 else 'done/'}{number}.dat" for number in range(10)])


async def test_a_place_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    for folder, words in [
        (Path("/proc/dcnios"), "cannot be moved to /proc/dcnios"),
        (Path("/dev/shm"), "another file system"),
        (tmp_path / "no/such", "cannot be moved"),
    ]:
        settings = DirectorySettings(path=tmp_path, processed=Processed(move_to=folder))
        with pytest.raises(Rejected, match=words):
            await DirectorySource(name=NAME, settings=settings).connect(None)
    (tmp_path / "alias").symlink_to(tmp_path)
    settings = DirectorySettings(path=tmp_path, processed=Processed(move_to=tmp_path / "alias"))
    with pytest.raises(Rejected, match="the directory itself"):
        await DirectorySource(name=NAME, settings=settings).connect(None)
    with pytest.raises(ValidationError, match="directory itself"):
        DirectorySettings(path=tmp_path, processed=Processed(move_to=tmp_path))


# --- one move ------------------------------------------------------------------------------------------


def errand(file: Path, folder: Path) -> tidy.Errand:
    return tidy.Errand(file.name, tidy._version(file), folder)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "done").mkdir()
    made = tmp_path / "a.dat"
    made.write_text("given")
    return made


def test_a_name_that_a_crash_left_taken_is_used_by_its_file_alone(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    other = tmp_path / "other" / file.name
    other.parent.mkdir()
    other.write_text("somebody else's")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            tidy.move(tmp_path, [errand(file, tmp_path / "done")])
    content = file.read_text()
    assert tidy.move(other.parent, [errand(other, tmp_path / "done")]) == (1, [])
    assert tidy.move(tmp_path, [errand(file, tmp_path / "done")]) == (1, [])
    moved = {path.name: path.read_text() for path in (tmp_path / "done").iterdir()}
    assert moved == {file.name: content, f"{file.name}.1": "somebody else's"}


def test_a_file_that_is_another_by_now_is_left_alone(tmp_path: Path, file: Path) -> None:
    job = errand(file, tmp_path / "done")
    file.write_text("written again")
    assert tidy.move(tmp_path, [job]) == (0, [])
    assert file.read_text() == "written again"
    assert not list((tmp_path / "done").iterdir())


def test_one_that_is_replaced_in_the_last_moment_is_put_back(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an upload that nobody has seen yet would be taken for one that is done with."""
    job = errand(file, tmp_path / "done")
    rename = os.rename

    def replaced_first(source: Path, target: Path) -> None:
        (tmp_path / "new").write_text("new upload")
        rename(tmp_path / "new", file)
        rename(source, target)

    monkeypatch.setattr(os, "rename", replaced_first)
    assert tidy.move(tmp_path, [job]) == (0, [])
    assert file.read_text() == "new upload"
    assert not list((tmp_path / "done").iterdir())


def test_a_move_that_fails_leaves_no_trace_and_says_why(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "rename", refuse)
    assert tidy.move(tmp_path, [errand(file, tmp_path / "done")]) == (
        0,
        [f"{tmp_path}/done: Operation not permitted"],
    )
    assert file.exists()
    assert not list((tmp_path / "done").iterdir())


def test_one_that_somebody_took_is_nobody_s_trouble(tmp_path: Path, file: Path) -> None:
    job = errand(file, tmp_path / "done")
    file.unlink()
    assert tidy.move(tmp_path, [job]) == (0, [])


async def test_check_says_what_is_missing(tmp_path: Path) -> None:
    async def says(folder: Path) -> list[str]:
        settings = DirectorySettings(path=tmp_path, processed=Processed(move_to=folder))
        return list(await check(name="drop", settings=settings, instance="i", targets={}))

    assert await says(tmp_path / "done") == []
    assert "sources.drop.processed" in (await says(tmp_path / "no/such"))[0]
    assert "another file system" in (await says(Path("/dev/shm")))[0]
