"""Every trouble of the journal's disk, on every surface of the real daemon; no server is needed."""

import asyncio
import contextlib
import errno
import io
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dcnios_daemon.buffer.journal import SqliteJournal
from dcnios_daemon.core.clock import SystemClock
from tests.contract.journal_rig import admit
from tests.crash.io_faults import Faults
from tests.daemon import DaemonProcess, daemon, eventually


def _settings(path: Path, out: Path) -> dict[str, Any]:
    """Each attempt leaves a file named by it; one made twice would leave two lines in it. (What a SIGKILL of
    the daemon interrupts is another attempt's work.)"""
    script = f'echo run >> "{out}/ran-$DCNIOS_KEY-$DCNIOS_ATTEMPT"'
    run = {"kind": "process", "script": script}
    return {
        "sources": {"hooks": {"kind": "cloudevents"}},
        "routes": {"keep": {"from": ["hooks"], "run": run}},
        "buffer": {"path": str(path)},
    }


async def _post(process: DaemonProcess, number: int, *, size: int = 10) -> tuple[int, str]:
    headers = {
        "ce-id": str(number),
        "ce-source": "/test",
        "ce-type": "test",
        "ce-specversion": "1.0",
        "content-type": "application/octet-stream",
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{process.url}/sources/hooks", headers=headers, data=io.BytesIO(b"x" * size)) as reply,
    ):
        return reply.status, reply.headers.get("Retry-After", "")


async def _text(process: DaemonProcess, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(process.url + path) as reply:
        return reply.status, await reply.text()


async def _shut(process: DaemonProcess, words: str) -> None:
    """Everything that people and machines look at says that nothing is taken, and why."""
    answer = await _post(process, 1000)
    assert answer[0] == 503
    assert int(answer[1]) > 0

    async def told() -> bool:
        status, text = await _text(process, "/readyz")
        return status == 503 and words in json.loads(text)["reasons"].get("journal", "")

    await eventually(told, f"/readyz says {words}")
    assert words in (await process.get("/api/v1/status"))["reasons"]["journal"]
    assert "dcnios_gate_shut 1.0" in (await _text(process, "/metrics"))[1]
    assert [(await _text(process, path))[0] for path in ("/livez", "/")] == [200, 200]
    said = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    assert any(one["event"] == "journal.failed" and one["level"] == "error" for one in said)


async def _succeeded(process: DaemonProcess, count: int) -> None:
    async def enough() -> bool:
        return (await process.counts("keep")).get("succeeded", 0) >= count

    await eventually(enough, f"{count} succeeded")


def _ran(folder: Path) -> set[str]:
    """The keys of what has run, no attempt twice."""
    runs = {one.name: one.read_text() for one in folder.glob("ran-*")}
    assert set(runs.values()) <= {"run\n"}, runs
    return {name.split("-")[1] for name in runs}


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("write", errno.EIO),
        ("fsync", errno.EIO),
        ("write", errno.ENOSPC),
        ("write", errno.EROFS),
    ],
    ids=lambda one: one if isinstance(one, str) else errno.errorcode[one],
)
async def test_a_disk_that_fails_is_told_everywhere_and_the_daemon_goes_on_when_it_is_well(
    tmp_path: Path, call: str, number: int
) -> None:
    path = tmp_path / "state" / "journal.db"
    faults = await asyncio.to_thread(Faults, tmp_path / "faults", path.parent)
    settings = _settings(path, tmp_path)
    async with daemon(tmp_path, settings, env=faults.env) as process:
        answers = [(await _post(process, one))[0] for one in range(10)]
        await asyncio.to_thread(faults.fail, call, number=number, part="journal.db")
        answers += [(await _post(process, one))[0] for one in range(10, 15)]
        assert answers == [200] * 10 + [503] * 5
        await _shut(process, "journal.db: ")
        await asyncio.to_thread(faults.heal)
        await process.until_ready()
        assert "dcnios_gate_shut 0.0" in (await _text(process, "/metrics"))[1]
        assert "journal.recovered" in process.tail()
        assert [(await _post(process, one))[0] for one in range(20)] == [200] * 20
        await process.kill()
        await asyncio.to_thread(process.start)
        await process.until_ready()
        await _succeeded(process, 20)
    assert len(_ran(tmp_path)) == 20


async def _queue(process: DaemonProcess, *words: str) -> None:
    command = [sys.executable, "-m", "dcnios_daemon", "queue", *words, "--config", str(process.config)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)


async def _fill(process: DaemonProcess, count: int) -> None:
    """Accept so many large events, of which none runs."""
    await _queue(process, "pause", "keep")
    answers = [(await _post(process, one, size=1_000_000))[0] for one in range(count)]
    assert answers == [200] * count


async def test_a_disk_that_cannot_be_read_is_told_everywhere_and_nothing_runs_twice_or_never(
    tmp_path: Path,
) -> None:
    """Appends alone would not notice: what they need is in memory."""
    path = tmp_path / "state" / "journal.db"
    faults = await asyncio.to_thread(Faults, tmp_path / "faults", path.parent)
    async with daemon(tmp_path, _settings(path, tmp_path), env=faults.env) as process:
        await _fill(process, 40)
        await process.kill()
        await asyncio.to_thread(process.start)
        await process.until_ready()
        await asyncio.to_thread(faults.fail, "read", part="journal.db")
        await _queue(process, "resume", "keep")

        async def shut() -> bool:
            return (await _post(process, 1000))[0] == 503

        await eventually(shut, "the damage is met")
        await _shut(process, "journal.db: Input/output error")
        await asyncio.to_thread(faults.heal)
        await process.until_ready()
        assert "journal.recovered" in process.tail()
        await _succeeded(process, 40)
    assert len(_ran(tmp_path)) >= 40


async def test_a_file_that_takes_nothing_while_its_log_does_is_told_before_the_log_fills_the_disk(
    tmp_path: Path,
) -> None:
    """SQLite tells nobody that it cannot move its log into the file."""
    path = tmp_path / "state" / "journal.db"
    faults = await asyncio.to_thread(Faults, tmp_path / "faults", path.parent)
    async with daemon(tmp_path, _settings(path, tmp_path), env=faults.env) as process:
        await _fill(process, 1)
        await asyncio.to_thread(faults.fail, "write", part="journal.db$")
        accepted = 1
        while (await _post(process, accepted, size=1_000_000))[0] == 200:
            accepted += 1
            assert accepted < 400, "it takes and takes"
        assert accepted > 100
        await _shut(process, "journal.db: ")
        shown = (await process.get("/api/v1/status"))["journal"]["log_bytes"]
        assert shown > 100 << 20
        lines = (await _text(process, "/metrics"))[1].splitlines()
        [level] = [line.split()[1] for line in lines if line.startswith("dcnios_journal_log_bytes ")]
        assert float(level) == shown
        said = process.log.read_text()
        assert said.count('"journal.failed"') == 1, "it does not come and go"
        await asyncio.to_thread(faults.heal)
        await process.until_ready()
        await process.kill()
        await asyncio.to_thread(process.start)
        await process.until_ready()
        assert (await process.counts("keep"))["queued"] == accepted


class Ext4:
    """A real file system of 48 MiB in a file, that can meet an error."""

    def __init__(self, image: Path, at: Path) -> None:
        self.image, self.at = image, at

    def make(self) -> None:
        """Make and mount it. Skips the test where we may not."""
        make, mount = shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin"), shutil.which("mount")
        with self.image.open("wb") as file:
            file.truncate(48 << 20)
        self.at.mkdir()
        if not make or not mount:
            pytest.skip("no mkfs.ext4, or no mount")
        try:
            _command(make, "-q", str(self.image))
            self.mount()
        except subprocess.CalledProcessError:
            pytest.skip("may not mount a file system")

    def mount(self) -> None:
        _command("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.at))

    def fail(self) -> None:
        """As the kernel does when it meets an error: read-only from now on, whatever is open."""
        _command("mount", "-o", "remount,abort", str(self.at))

    def mend(self) -> None:
        """What an operator does. (``fsck`` says 1 for: it was wrong and is right now.)"""
        _command("umount", str(self.at))
        subprocess.run(["fsck.ext4", "-p", str(self.image)], check=False, capture_output=True)
        self.mount()


def _command(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Ext4]:
    """A file system of its own."""
    made = Ext4(tmp_path / "image", tmp_path / "disk")
    made.make()
    yield made
    subprocess.run(["umount", "--lazy", str(made.at)], check=True)


async def test_a_file_system_that_turns_itself_read_only_is_told_everywhere_and_loses_nothing(
    tmp_path: Path, ext4: Ext4
) -> None:
    """As ext4 does when it meets an error. Only unmounting ends it, so only a restart goes on."""
    path = ext4.at / "state" / "journal.db"
    process = DaemonProcess(tmp_path, _settings(path, tmp_path))
    await asyncio.to_thread(process.start)
    try:
        await process.until_ready()
        assert [(await _post(process, one))[0] for one in range(10)] == [200] * 10
        await asyncio.to_thread(ext4.fail)
        assert [(await _post(process, one))[0] for one in range(10, 15)] == [503] * 5
        await _shut(process, "journal.db: ")
        await process.stop()
        assert "Traceback" not in process.tail()
        await asyncio.to_thread(ext4.mend)
        await asyncio.to_thread(process.start)
        await process.until_ready()
        assert [(await _post(process, one))[0] for one in range(20)] == [200] * 20
        await _succeeded(process, 20)
        await process.stop()
    finally:
        await process.kill()
    assert len(_ran(tmp_path)) == 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_disk_filled_to_the_brim_loses_nothing(tmp_path: Path, small_disk: Path) -> None:
    path = small_disk / "state" / "journal.db"
    settings = _settings(path, tmp_path)
    async with daemon(tmp_path, settings) as process:
        assert [(await _post(process, one))[0] for one in range(10)] == [200] * 10
        filler = small_disk / "filler"

        def fill() -> None:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass

        await asyncio.to_thread(fill)

        async def full() -> bool:
            return (await _post(process, 19, size=1_000_000))[0] == 503

        await eventually(full, "refused for a full disk")

        async def told() -> bool:
            reasons = json.loads((await _text(process, "/readyz"))[1])["reasons"]
            return "disk" in reasons.get("journal", "")

        await eventually(told, "/readyz says so")
        await asyncio.to_thread(filler.unlink)
        await process.until_ready()
        assert [(await _post(process, one))[0] for one in range(20)] == [200] * 20
        await _succeeded(process, 20)
    assert len(_ran(tmp_path)) == 20


async def test_a_damaged_page_stops_everything_until_it_is_mended_and_nothing_runs_twice(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state" / "journal.db"
    await _backlog(path)
    await asyncio.to_thread(_hurt, path)
    process = DaemonProcess(tmp_path, _settings(path, tmp_path))
    await asyncio.to_thread(process.start)
    try:

        async def met() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                return "fsck --repair" in (await _text(process, "/readyz"))[1]
            return False

        await eventually(met, "the damage is met")
        await _shut(process, "fsck --repair")
        await process.stop()
        assert "Traceback" not in process.tail()
        ran = _ran(tmp_path)
        command = [sys.executable, "-m", "dcnios_daemon", "queue", "fsck", "--repair", "--config"]
        mended = await asyncio.to_thread(
            subprocess.run, [*command, str(process.config)], capture_output=True, text=True, check=False
        )
        assert mended.returncode == 0, mended.stderr
        await asyncio.to_thread(process.start)
        await process.until_ready()
        assert (await _post(process, 1))[0] == 200

        async def idle() -> bool:
            counts = await process.counts("keep")
            return bool(counts) and not any(
                counts.get(state) for state in ("queued", "submitting", "running")
            )

        await eventually(idle, "all that is left has run", within=60)
    finally:
        await process.kill()
    assert _ran(tmp_path) > ran
    assert len(_ran(tmp_path)) > 50


async def _backlog(path: Path) -> None:
    journal = SqliteJournal(
        path, max_events=1000, max_bytes=1 << 30, resume_at=0.8, dedupe_for=1000.0, clock=SystemClock()
    )
    await journal.open()
    for start in range(0, 120, 10):
        await journal.append(
            "hooks", admit(*range(start, start + 10), routes=("keep",), data=os.urandom(900)), None
        )
    await journal.aclose()


def _hurt(path: Path) -> None:
    """Overwrite some of the pages that hold events."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events'").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        page = file.read(4096)
        cells = int.from_bytes(page[3:5], "big")
        assert page[0] == 5
        for cell in range(3, cells, 6):  # the first is read when it is opened
            place = int.from_bytes(page[12 + 2 * cell : 14 + 2 * cell], "big")
            file.seek((int.from_bytes(page[place : place + 4], "big") - 1) * 4096)
            file.write(random.randbytes(4096))
