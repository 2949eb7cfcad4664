"""What is kept on disk of one order, so that a later life of the daemon knows what became of it.

The folder is there before anything runs; the marker is on disk before the run begins; the result is on disk
before it is reported; the folder goes once the report is settled. Whatever moment the daemon dies at, one of
these says what may have happened. Everything here blocks: call it off the event loop.
"""

import enum
import os
import shutil
from pathlib import Path

import msgspec

from dcnios_daemon.core.ports import Outcome

_RESULT = "result.json"
_BEGUN = "begun"
_PROCESS = "process.json"
_PRIVATE = 0o700


class Standing(enum.Enum):
    """How far an order has come, by what is on disk."""

    FRESH = enum.auto()
    """Nothing has run."""
    BEGUN = enum.auto()
    """It may have run."""
    ENDED = enum.auto()
    """There is a result."""


class ProcessMark(msgspec.Struct, frozen=True):
    """A process, told from a later one with the same id by when it began (clock ticks since boot)."""

    pid: int
    began: int


class OrderFolder:
    """The folder of one order, named as the order."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The order's name."""
        return self.path.name

    @property
    def work(self) -> Path:
        """The run's work directory, with ``input`` and ``output`` in it."""
        return self.path / "work"

    @property
    def event_file(self) -> Path:
        """The payload."""
        return self.path / "event.json"

    @property
    def script_file(self) -> Path:
        """The script, where the route has one."""
        return self.path / "script.sh"

    def prepare(self, payload: bytes, script: str | None) -> Standing:
        """Make it, on disk, or find how far it has come. Safe to repeat while it is fresh."""
        self.work.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
        self.path.chmod(_PRIVATE)
        standing = self.standing()
        if standing is Standing.FRESH:
            self.event_file.write_bytes(payload)
            if script is not None:
                self.script_file.write_text(script, encoding="utf-8")
            _sync(self.path.parent)
        return standing

    def standing(self) -> Standing:
        """How far it has come."""
        if (self.path / _RESULT).exists():
            return Standing.ENDED
        return Standing.BEGUN if (self.path / _BEGUN).exists() else Standing.FRESH

    def begin(self) -> None:
        """Mark, on disk, that from now on it may have run."""
        self._write(_BEGUN, b"")

    def write_mark(self, mark: ProcessMark) -> None:
        """Keep which process runs it."""
        (self.path / _PROCESS).write_bytes(msgspec.json.encode(mark))

    def read_mark(self) -> ProcessMark | None:
        """Which process ran it, if that is known."""
        try:
            return msgspec.json.decode((self.path / _PROCESS).read_bytes(), type=ProcessMark)
        except (OSError, msgspec.MsgspecError):
            return None

    def write_result(self, outcome: Outcome) -> None:
        """Keep how it ended, on disk and whole."""
        self._write(_RESULT, msgspec.json.encode(outcome))

    def read_result(self) -> Outcome | None:
        """How it ended; None when there is nothing (readable)."""
        try:
            return msgspec.json.decode((self.path / _RESULT).read_bytes(), type=Outcome)
        except (OSError, msgspec.MsgspecError):
            return None

    def remove(self) -> None:
        """Delete it, with whatever a run left there in whatever state.

        Raises:
            OSError: Something in it resists.
        """
        try:
            shutil.rmtree(self.path)
        except PermissionError:
            _open_up(self.path)
            shutil.rmtree(self.path)

    def _write(self, name: str, content: bytes) -> None:
        part = self.path / f".{name}.part"
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path / name)
        _sync(self.path)


def order_folders(root: Path) -> list[OrderFolder]:
    """The folders of all orders that are not settled, by name."""
    return [OrderFolder(path) for path in sorted(root.iterdir()) if path.is_dir()]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_up(folder: Path) -> None:
    """Undo what a run did to its own folders' rights."""
    folder.chmod(_PRIVATE)
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            _open_up(child)
