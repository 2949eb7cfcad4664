"""What was answered is there after a power cut at any moment, and the journal is sound."""

import json
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dcnios_daemon.buffer import store
from dcnios_daemon.buffer.fsck import fsck
from dcnios_daemon.core.names import event_key
from tests.crash.io_faults import Faults
from tests.crash.power_cut import Change, Disk, cuts

REPOSITORY = Path(__file__).parent.parent.parent


def live(folder: Path, faults: Faults, seed: int, first: int, steps: int, end: str = "") -> int:
    """One life of a journal, recorded. Returns its exit code."""
    command = [
        sys.executable,
        "-m",
        "tests.crash.power_cut_life",
        str(folder),
        str(seed),
        str(first),
        str(steps),
    ]
    done = subprocess.run(
        [*command, end], env=os.environ | faults.env, cwd=REPOSITORY, check=False, timeout=60
    )
    return done.returncode


def look(image: dict[str, bytes], acks: bytes, folder: Path) -> list[str]:
    """Put what is on the disk into a folder, open it as a daemon would; say what is not as was answered."""
    folder.mkdir()
    for name, data in image.items():
        if name.endswith(("journal.db", "journal.db-wal", "journal.db-journal")):
            (folder / Path(name).name).write_bytes(data)
    path = folder / "journal.db"
    answers = [json.loads(line) for line in acks.splitlines()]
    if not path.exists():
        return ["there is no journal"] if answers else []
    try:
        with closing(store.connect(path, create=True)) as journal:
            found = _unlike(journal, answers)
        return found + [finding.what for finding in fsck(path)]
    except sqlite3.DatabaseError as error:
        return [f"not sound: {error}"]


def _unlike(journal: sqlite3.Connection, answers: list[dict[str, Any]]) -> list[str]:
    keys = {key for (key,) in journal.execute("SELECT key FROM keys")}
    states = dict(journal.execute("SELECT id, state FROM deliveries").fetchall())
    (place,) = journal.execute("SELECT max(CAST(cursor AS INTEGER)) FROM cursors").fetchone()
    (sound,) = journal.execute("PRAGMA integrity_check").fetchone()
    last = max((number for one in answers for number in one.get("append", [])), default=0)
    lost = [number for one in answers for number in one.get("append", []) if _key(number) not in keys]
    undone = [one["finish"] for one in answers if "finish" in one and states.get(one["finish"], 5) < 4]
    unclaimed = [number for one in answers for number in one.get("claim", []) if states.get(number, 5) < 2]
    said = {
        "not sound": sound != "ok",
        f"acknowledged and lost: {lost}": lost,
        f"had ended and has not: {undone}": undone,
        f"was claimed and is not: {unclaimed}": unclaimed,
        f"the place {place} is before {last}": last > 0 and (place is None or place < last - 24),
    }
    return [what for what, is_so in said.items() if is_so]


def _key(number: int) -> bytes:
    return bytes.fromhex(event_key("uploads", number))


def wrong(faults: Faults, tmp_path: Path, *, seed: int, points: int) -> list[tuple[int, list[str]]]:
    found = []
    for number, (moment, image, acks) in enumerate(cuts(faults.log, seed, points=points)):
        said = look(image, acks, tmp_path / f"cut-{number}")
        if said:
            found.append((moment, said))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir()
    return made


@pytest.mark.parametrize("seed", [1, 2])
def test_what_was_answered_survives_a_power_cut_at_any_moment(
    tmp_path: Path, folder: Path, seed: int
) -> None:
    faults = Faults(tmp_path / "faults", folder, record=True)
    assert live(folder, faults, seed, 0, 60, "kill") == 9
    assert live(folder, faults, seed + 100, 10_000, 20) == 0
    assert wrong(faults, tmp_path, seed=seed, points=110) == []


def test_what_was_refused_when_fsync_failed_harms_nothing_that_is_answered_later(
    tmp_path: Path, folder: Path
) -> None:
    """The kernel keeps what it could not write, and believes it to be on the disk. The next life reads it
    there; what it answers must not rest on it."""
    faults = Faults(tmp_path / "faults", folder, record=True)
    for number in range(4):
        assert live(folder, faults, number, 1000 * number, 6, "fsync") == 9
    assert live(folder, faults, 9, 9000, 6, "kill") == 9
    assert wrong(faults, tmp_path, seed=3, points=80) == []


def test_a_disk_that_fails_now_and_then_takes_nothing_that_was_answered(tmp_path: Path, folder: Path) -> None:
    faults = Faults(tmp_path / "faults", folder, record=True)
    assert live(folder, faults, 5, 0, 6, "shaky") == 9
    assert wrong(faults, tmp_path, seed=5, points=60) == []


def test_a_journal_that_does_not_wait_for_the_disk_would_be_caught(tmp_path: Path, folder: Path) -> None:
    faults = Faults(tmp_path / "faults", folder, record=True)
    assert live(folder, faults, 1, 0, 20, "lies") == 0
    assert any(
        "lost" in " ".join(said) or "not sound" in said[0]
        for _, said in wrong(faults, tmp_path, seed=1, points=30)
    )


def test_a_write_is_on_the_disk_for_certain_only_after_a_sync() -> None:
    def after(*more: Change) -> set[bytes]:
        left = set()
        for seed in range(40):
            disk = Disk(random.Random(seed))
            for change in (
                Change("C", "/d/f"),
                Change("S", "/d"),
                Change("W", "/d/f", data=b"x" * 8192),
                *more,
            ):
                disk.play(change)
            left.add(disk.cut(random.Random(seed))["/d/f"])
        return left

    assert len(after()) > 3
    assert len(after(Change("F", "/d/f"))) > 1
    assert after(Change("S", "/d/f")) == {b"x" * 8192}
    assert after(Change("F", "/d/f"), Change("S", "/d/f")) != {b"x" * 8192}
