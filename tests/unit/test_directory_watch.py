"""Being told of changes by the kernel: sooner than by the clock, and never needed."""

import asyncio
from pathlib import Path
from typing import Any, Self

import pytest

from dcnios_daemon.core.errors import Disconnected
from dcnios_daemon.core.ports import Batch
from dcnios_daemon.sources.directory import source as directory
from dcnios_daemon.sources.directory import watch
from dcnios_daemon.sources.directory.settings import DirectorySettings
from dcnios_daemon.sources.directory.source import DirectorySource
from dcnios_daemon.telemetry.events import signal

ROOT = "22 1 0:20 / / rw,relatime shared:1 - {} /dev/x rw"


def mounts(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "mountinfo"
    monkeypatch.setattr(watch, "MOUNTS", file)
    return file


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay"])
def test_the_machine_s_own_file_systems_can_tell(table: Path, kind: str) -> None:
    mounts(table, ROOT.format(kind))
    assert watch.deaf(Path("/data/in"), deep=True) is None


@pytest.mark.parametrize("kind", ["nfs4", "nfs", "cifs", "lustre", "ceph", "fuse.sshfs", "virtiofs", "9p"])
def test_those_that_others_write_to_cannot(table: Path, kind: str) -> None:
    mounts(
        table,
        ROOT.format("ext4"),
        rf"30 22 0:30 / /data\040x rw - {kind} store:/a rw",
        "31 22 0:31 / /dat rw - ext4 x rw",
    )
    assert watch.deaf(Path("/data x/in"), deep=False) == f"/data x/in is on {kind}, where others may write"
    assert watch.deaf(Path("/data/in"), deep=False) is None
    assert watch.deaf(Path("/"), deep=False) is None
    assert watch.deaf(Path("/"), deep=True) is not None  # it is mounted below


def test_the_last_of_two_mounts_in_one_place_counts(table: Path) -> None:
    mounts(table, ROOT.format("ext4"), "30 22 0:30 / /in rw - ext4 x rw", "31 30 0:31 / /in rw - nfs4 y rw")
    assert watch.deaf(Path("/in"), deep=False) is not None


def test_where_nobody_knows_the_clock_rules(table: Path) -> None:
    assert watch.deaf(Path("/in"), deep=False) == "this system does not tell what is mounted where"


class Life:
    """A source with its work, in a folder; ``poll`` is an hour unless the test says otherwise."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        given = {"path": root, "poll": 3600, "quiet": 0.0} | settings
        self.source = DirectorySource(name="drop", settings=DirectorySettings(**given))

    async def __aenter__(self) -> Self:
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        await self.source.connect(None)
        self._work = self._group.create_task(self.source.work())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._work.cancel()
        await self._group.__aexit__(None, None, None)

    async def read(self) -> Batch:
        async with asyncio.timeout(20):
            return await self.source.read()


async def test_a_change_is_found_at_once_and_quiet_is_waited_for(tmp_path: Path) -> None:
    async with Life(tmp_path / "in", quiet=0.1, pattern="**/*") as life:
        for name in ("a", "deep/b", "deep/er/c"):
            path = life.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("x")
            (event,) = (await life.read()).events  # or in an hour
            assert event.subject == name


async def test_where_the_kernel_will_not_tell_the_source_goes_by_its_clock_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(signal, "say", lambda _level, event, fields: said.append(f"{event} {fields()}"))
    monkeypatch.setattr(watch, "LOCAL", frozenset())
    async with Life(tmp_path / "in", poll=0.01) as life:
        for name in ("a", "b"):
            (life.root / name).write_text("x")
            (event,) = (await life.read()).events
            assert event.subject == name
    assert any("source.polls" in line and "where others may write" in line for line in said)


async def test_a_kernel_that_is_out_of_watches_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import watchfiles  # noqa: PLC0415 - as the source does

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("OS file watch limit reached.")

    monkeypatch.setattr(watchfiles, "watch", refuse)
    async with Life(tmp_path / "in", poll=0.01) as life:
        (life.root / "a").write_text("x")
        assert (await life.read()).events
        assert not life.source._watch.listens


async def test_what_the_kernel_did_not_tell_is_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "WATCHED_POLL", 0.05)
    async with Life(tmp_path / "in", poll=0.01) as life:
        monkeypatch.setattr(life.source._told, "set", lambda: None)
        life.source._watch.listens = True
        (life.root / "a").write_text("x")
        assert (await life.read()).events


async def test_a_directory_that_was_replaced_is_watched_anew(tmp_path: Path) -> None:
    """The watch is on the old one, which nobody sees any more: the runner builds the source again."""
    async with Life(tmp_path / "in") as life:
        (life.root / "a").write_text("x")
        assert (await life.read()).events
        (tmp_path / "new").mkdir()
        life.root.rename(tmp_path / "old")
        (tmp_path / "new").rename(life.root)
        life.source._watch.listens = True
        life.source._told.set()
        with pytest.raises(Disconnected, match="another directory"):
            await life.read()
