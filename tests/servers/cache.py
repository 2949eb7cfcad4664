"""What is built once per machine, outside the checkout."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.progress import step

UNUSED_DAYS = 30


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a file lock, between threads as well as between processes."""
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step(f"waiting for another run that holds {path.name}"):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Cache:
    """A folder of finished builds; a half-finished one is never seen under its final name."""

    def __init__(self, root: Path | None = None) -> None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.root = root or Path(os.environ.get("DCNIOS_TESTBED_CACHE") or Path(base) / "dcnios-testbed")
        self.root.mkdir(parents=True, exist_ok=True)

    def entry(self, family: str, key: str, build: Callable[[Path], None]) -> Path:
        """The folder of one build; `build` fills it when it is not there yet."""
        target = self.root / f"{family}-{key}"
        if not target.is_dir():
            with locked(self.root / f".{family}.lock"):
                if not target.is_dir():
                    self._build(family, target, build)
        os.utime(target)
        return target

    def _build(self, family: str, target: Path, build: Callable[[Path], None]) -> None:
        self._forget_unused(family)
        work = Path(tempfile.mkdtemp(dir=self.root, prefix=f".{family}-"))
        work.chmod(0o755)
        try:
            with step(f"building {target.name}"):
                build(work)
            work.rename(target)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def _forget_unused(self, family: str) -> None:
        """Removes what a crashed build left (we hold the lock, so nobody builds) and what is long unused."""
        for left in self.root.glob(f".{family}-*"):
            shutil.rmtree(left, ignore_errors=True)
        oldest = time.time() - UNUSED_DAYS * 86_400
        for entry in self.root.glob(f"{family}-*"):
            if entry.stat().st_mtime < oldest:
                shutil.rmtree(entry, ignore_errors=True)
