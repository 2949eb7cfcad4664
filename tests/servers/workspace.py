"""One run's place on the machine: its folder, its ports, and the promise that both are gone afterwards."""

import fcntl
import os
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Self

from tests.servers.cache import Cache, locked
from tests.servers.commands import MissingPartError
from tests.servers.sweep import sweep

PORTS = range(20_000, 30_000)
"""Below the ephemeral ports: no outgoing connection may take a stopped server's port before its restart."""

REPOSITORY = Path(__file__).parents[2]


def state_root() -> Path:
    """Where all runs of this user have their folders. It is short, since Unix socket paths are."""
    root = Path(tempfile.gettempdir()) / f"dcnios-testbed-{os.getuid()}"
    root.mkdir(mode=0o711, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        raise MissingPartError(f"a folder of our own ({root} belongs to somebody else)")
    return root


def _try_lock(path: Path) -> IO[str] | None:
    handle = path.open("a")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle


class Workspace:
    """Use as a context manager. What an earlier, crashed run left is removed on entry.

    A reaper process waits beside us: when this interpreter is killed, it removes what we could not.
    """

    def __init__(self, cache: Cache | None = None) -> None:
        self.cache = cache or Cache()
        self._root = state_root()
        self._held = ExitStack()
        self._naming = threading.Lock()
        self.path = self._root / secrets.token_hex(3)

    def directory(self, name: str) -> Path:
        """A folder of this run, made when it is not there."""
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def new_directory(self, name: str) -> Path:
        """A folder of this run for one more thing of that name."""
        with self._naming:
            taken = len(list(self.path.glob(f"{name}*")))
            folder = self.path / (f"{name}-{taken + 1}" if taken else name)
            folder.mkdir()
        return folder

    def at_end(self, callback: Callable[[], None]) -> None:
        """Has something done when the workspace closes, before its files go."""
        self._held.callback(callback)

    def port(self) -> int:
        """A free port on 127.0.0.1, kept from other workspaces until this one closes."""
        leases = self._root / "ports"
        leases.mkdir(exist_ok=True)
        for port in random.sample(PORTS, len(PORTS)):
            lease = _try_lock(leases / str(port))
            if lease is None:
                continue
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    lease.close()
                    continue
            self._held.enter_context(lease)
            return port
        raise RuntimeError(f"no free port between {PORTS.start} and {PORTS.stop}")

    def __enter__(self) -> Self:
        with locked(self._root / ".lock"):
            self._sweep_stale()
            lock = _try_lock(self.path.with_suffix(".lock"))
            assert lock is not None
            self._held.enter_context(lock)
            self.path.mkdir()
        self._held.enter_context(self._reaper())
        self._held.callback(sweep, self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _sweep_stale(self) -> None:
        for lock in self._root.glob("*.lock"):
            if lock.name != ".lock" and (handle := _try_lock(lock)):
                with handle:
                    sweep(lock.with_suffix(""))

    @contextmanager
    def _reaper(self) -> Iterator[None]:
        """It sees the end of its standard input when we end, however that happens."""
        with subprocess.Popen(
            [sys.executable, "-m", "tests.servers.reaper", str(self.path)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            start_new_session=True,
        ):
            yield
