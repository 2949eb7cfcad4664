"""What is taken from a run's output folder."""

import os
from pathlib import Path

import pytest

from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.staging.output import results


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "output").mkdir()
    (tmp_path / "input").mkdir()
    (tmp_path / "input/in.txt").write_text("in")
    (tmp_path / "plan.json").write_text("leave")
    return tmp_path


def _names(work: Path) -> list[str]:
    return [result.name for result in results(work / "output", allowed=(work / "input",))]


def test_all_files_sorted_with_their_folders(work: Path) -> None:
    for name in ("b", "a/z", "a/b/c", ".hidden", "é", "Z"):
        path = work / "output" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (work / "output/empty folder").mkdir()
    found = results(work / "output", allowed=())
    assert [result.name for result in found] == [".hidden", "Z", "a/b/c", "a/z", "b", "é"]
    assert [result.size for result in found] == [7, 1, 5, 3, 1, 2]


def test_names_that_are_no_text_are_kept(work: Path) -> None:
    Path(os.fsdecode(os.fsencode(work / "output") + b"/\xff")).write_text("x")
    assert _names(work) == ["\udcff"]


def test_a_folder_that_is_not_there_has_nothing(work: Path) -> None:
    (work / "output").rmdir()
    assert _names(work) == []


def test_links_to_the_runs_own_files_are_followed(work: Path) -> None:
    (work / "output/real").write_text("real")
    (work / "output/link").symlink_to("real")
    (work / "output/in").symlink_to(work / "input/in.txt")
    found = {
        result.name: result.path.read_text() for result in results(work / "output", allowed=(work / "input",))
    }
    assert found == {"real": "real", "link": "real", "in": "in"}


@pytest.mark.parametrize("target", ["../plan.json", "/etc/passwd", "nowhere", "../input", "."])
def test_other_links_are_told_and_nothing_goes_out(work: Path, target: str) -> None:
    (work / "output/folder").mkdir()
    (work / "output/folder/x").symlink_to(Path("..") / target if target.startswith(".") else target)
    with pytest.raises(StoreError, match="folder/x: a link to"):
        results(work / "output", allowed=(work / "input",))


def test_pipes_hold_no_result(work: Path) -> None:
    os.mkfifo(work / "output/pipe")
    assert _names(work) == []
