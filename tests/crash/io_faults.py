"""A file system that fails when it is told to, and writes down what it was asked: a library in C that stands
between a process and the real one (``LD_PRELOAD``), made by ``cc`` when it is first wanted."""

import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("io_faults.c")


def shim() -> Path:
    """The library, made anew when its source is newer. Skips the test where there is no compiler, but for CI,
    which must have one (Debian's package gcc)."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no C compiler: apt-get install gcc libc6-dev")
        pytest.skip("no C compiler (gcc)")
    made = Path(tempfile.gettempdir()) / f"dcnios-io-faults-{os.getuid()}-{_SOURCE.stat().st_mtime_ns}.so"
    if not made.exists():
        part = made.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [
                compiler,
                "-shared",
                "-fPIC",
                "-O1",
                "-Wall",
                "-Werror",
                "-o",
                part,
                _SOURCE,
                "-ldl",
                "-lpthread",
            ],
            check=True,
        )
        part.replace(made)
    return made


class Faults:
    """What goes wrong, for processes that were started with :attr:`env`. Can be changed while they run.

    Args:
        folder: For the rules and the log.
        under: Only files below this are concerned.
        record: Whether to write down all changes, for :mod:`tests.crash.power_cut`.
    """

    def __init__(self, folder: Path, under: Path, *, record: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._rules = folder / "rules"
        self.log = folder / "log"
        self.env = {
            "LD_PRELOAD": str(shim()),
            "IO_FAULTS_UNDER": str(under),
            "IO_FAULTS_RULES": str(self._rules),
        }
        if record:
            self.env["IO_FAULTS_LOG"] = str(self.log)

    def fail(self, *calls: str, number: int = errno.EIO, part: str = "") -> None:
        """From now on ``write``, ``fsync``, ``read`` or ``open`` fail for files whose path holds ``part``, or
        ends with it if that ends with ``$``."""
        text = "".join(f"{call} {number} {part}\n" for call in calls)
        aside = self._rules.with_suffix(".new")
        aside.write_text(text)
        aside.replace(self._rules)

    def heal(self) -> None:
        """Nothing fails any more."""
        self._rules.unlink(missing_ok=True)
