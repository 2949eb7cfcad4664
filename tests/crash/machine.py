"""Two parts of the machine that go wrong: the disk that holds the journal, and the wall clock."""

import contextlib
import hashlib
import mmap
import os
import struct
from pathlib import Path

from tests.servers.commands import CommandError, MissingPartError, run, tool
from tests.servers.workspace import Workspace

_SOURCE = Path(__file__).with_name("wall_clock.c")


class SmallDisk:
    """A tmpfs that can be filled up; where we may not mount one, a plain folder that cannot."""

    def __init__(self, space: Workspace, *, mebibytes: int) -> None:
        self.path = space.directory("journal")
        self.missing = ""
        """Why it cannot be filled."""
        self._filler = self.path / "filler"
        try:
            options = f"size={mebibytes}m"
            run([tool("mount", "mount"), "-t", "tmpfs", "-o", options, "dcnios-crash", str(self.path)])
            space.at_end(self._unmount)
        except (CommandError, MissingPartError) as error:
            self.missing = f"no small disk may be mounted here: {str(error).splitlines()[-1]}"

    def fill(self) -> None:
        """Leave no byte free."""
        with self._filler.open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"\0" * 65536)

    def free(self) -> None:
        """Give it all back."""
        self._filler.unlink(missing_ok=True)

    def _unmount(self) -> None:
        run([tool("umount", "mount"), "--lazy", str(self.path)])


class WallClock:
    """The daemon's wall clock, to be set while it runs; where there is no C compiler it stays right."""

    def __init__(self, space: Workspace) -> None:
        self.env: dict[str, str] = {}
        """What the daemon's environment needs."""
        self.missing = ""
        file = space.directory("clock") / "shift"
        file.write_bytes(struct.pack("d", 0.0))
        try:
            library = space.cache.entry("wall-clock", _version(), _build) / "wall_clock.so"
        except MissingPartError as error:
            self.missing = f"the clock cannot be set without {error}"
            return
        handle = os.open(file, os.O_RDWR)
        self._shift = mmap.mmap(handle, 8)
        os.close(handle)
        space.at_end(self._shift.close)
        self.env = {"LD_PRELOAD": str(library), "WALL_CLOCK_SHIFT": str(file)}

    def set(self, seconds: float) -> None:
        """So many seconds ahead of the machine's own; below 0: behind."""
        self._shift[:] = struct.pack("d", seconds)


def _version() -> str:
    return hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]


def _build(target: Path) -> None:
    compiler = tool("cc", "a C compiler")
    run([compiler, "-O2", "-shared", "-fPIC", "-o", str(target / "wall_clock.so"), str(_SOURCE), "-ldl"])
