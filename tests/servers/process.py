"""A server as a process of ours: started, watched, stopped and started again on the same ports and data."""

import contextlib
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from tests.servers import polling
from tests.servers.commands import aborted, bound
from tests.servers.progress import step
from tests.servers.workspace import Workspace

START_SECONDS = 120.0
"""Generous: on two busy cores a JVM or an API server takes its time."""

STOP_SECONDS = 5.0

# The kernel ends a child with the *thread* that started it, so servers are started by one that stays.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


class StartError(RuntimeError):
    """A server did not become ready; the message holds the end of its log."""


class Server(ABC):
    """One server process. Its folder, its ports and so its data live as long as the workspace."""

    start_seconds = START_SECONDS

    def __init__(self, space: Workspace, name: str) -> None:
        self.space = space
        self.name = name
        self.directory = space.new_directory(name)
        self.log = self.directory / "log"
        self._pid_file = self.directory / "pid"
        self._process: subprocess.Popen[bytes] | None = None
        self._prepared = False
        space.at_end(self.kill)

    @abstractmethod
    def prepare(self) -> None:
        """Builds what is missing and writes configuration: once, before the first start."""

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """The command line."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it serves; an OSError means not yet."""

    def environment(self) -> Mapping[str, str]:
        """What its environment has beyond ours."""
        return {}

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id, for tests that signal it themselves."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def start(self) -> Self:
        """Starts it and returns when it serves.

        Raises:
            StartError: it ended, or did not serve in time.
        """
        assert not self.alive, f"{self.name} runs already"
        if not self._prepared:
            self.prepare()
            self._prepared = True
        with step(f"starting {self.name}"):
            self._process = _spawner.submit(self._spawn).result()
            self._pid_file.write_text(str(self._process.pid))
            try:
                polling.until(self._ready_or_ended, f"{self.name} to be ready", self.start_seconds)
            except (TimeoutError, StartError) as error:
                self.kill()
                raise StartError(f"{self.name}: {error}; the end of its log:\n{self._log_tail()}") from error
        return self

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                bound([str(word) for word in self.command()]),
                cwd=self.directory,
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _ready_or_ended(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise StartError(f"it ended with {self._process.returncode}")
        if aborted.is_set():
            raise StartError("the run was ended")
        return self.ready()

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Asks it to end, and ends it when it takes too long."""
        if self.alive:
            os.killpg(self.pid, signal.SIGTERM)
            assert self._process is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """Ends it and its process group at once, as a power cut would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        self._pid_file.unlink(missing_ok=True)

    def restart(self) -> Self:
        """Stops it and starts it again, on the same ports and data."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
