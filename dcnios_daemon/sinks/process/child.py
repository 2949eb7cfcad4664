"""One run as a process group of its own, that cannot outlive the daemon.

Each group holds a small watcher shell that waits on a pipe of which only the daemon has the other end. When
the daemon goes, however it goes, the kernel closes that end, and the watcher kills its whole group. That
needs no ``prctl``, reaches grandchildren too, and works wherever there is a POSIX shell. The watcher is no
child of the run (it is handed to init), so that a run that waits for its children does not wait for it; and
while it lives, the group's number cannot come to mean another group.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from dcnios_daemon.sinks.process.folder import ProcessMark

TAIL = 2048
"""Bytes of output that are kept."""
_SIGNAL_CODES = 128
_DRAIN = 1.0
_PROC = Path("/proc")
_WRAPPER = (
    "exec 3<&0 </dev/null; "
    '(trap "" HUP INT TERM; (read -r _ <&3; kill -9 0) >/dev/null 2>&1 &); '
    'exec "$@" 3<&-'
)


class Lifeline:
    """The pipe by which children know that the daemon lives."""

    def __init__(self) -> None:
        self.end, self._ours = os.pipe()
        """What children are given."""

    def close(self) -> None:
        """Whatever still runs is killed by its watcher."""
        for descriptor in (self.end, self._ours):
            with contextlib.suppress(OSError):
                os.close(descriptor)


class _Tail(asyncio.Protocol):
    """Keeps the last bytes of what a run says."""

    def __init__(self) -> None:
        self.kept = bytearray()
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.kept += data[-TAIL:]
        del self.kept[:-TAIL]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed.set()


class Child:
    """A run that has begun."""

    def __init__(
        self, process: asyncio.subprocess.Process, tail: _Tail, output: asyncio.BaseTransport
    ) -> None:
        self._process = process
        self._tail = tail
        self._output = output

    @classmethod
    async def start(
        cls, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], lifeline: Lifeline
    ) -> Self:
        """Start the command; it runs when this returns.

        Raises:
            OSError: The machine has no room for a process, or takes no such arguments.
        """
        tail = _Tail()
        ours, theirs = os.pipe()
        try:
            pipe = os.fdopen(ours, "rb", buffering=0)
            output, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: tail, pipe)
            try:
                process = await asyncio.create_subprocess_exec(
                    "/bin/sh", "-c", _WRAPPER, "dcnios-run", *command,
                    stdin=lifeline.end, stdout=theirs, stderr=theirs,
                    cwd=cwd, env=environment, start_new_session=True,
                )  # fmt: skip
            except BaseException:
                output.close()
                raise
        finally:
            os.close(theirs)
        return cls(process, tail, output)

    @property
    def pid(self) -> int:
        """Its process id, which is also its group's."""
        return self._process.pid

    async def wait(self) -> int:
        """The exit code, as a shell would tell it: a signal is 128 and its number."""
        code = await self._process.wait()
        return code if code >= 0 else _SIGNAL_CODES - code

    async def end(self, grace: float) -> None:
        """Let the run end within ``grace`` seconds if it has not, then end all that is left of its group."""
        try:
            if self._process.returncode is None:
                self._signal(signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), grace)
        finally:
            self._signal(signal.SIGKILL)
        await self._process.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._tail.closed.wait(), _DRAIN)
        self._output.close()

    def log_tail(self) -> str:
        """The last of what it said, standard output and error together."""
        return self._tail.kept.decode(errors="replace")

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def mark_of(pid: int) -> ProcessMark | None:
    """Which process that is now; None where the system does not tell, or when there is none. Blocks."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return ProcessMark(pid, int(fields[19]))
    except (OSError, IndexError, ValueError):
        return None


def kill_leftovers(marks: Iterable[ProcessMark], outputs: Iterable[Path]) -> int:
    """Kill what is left of runs of an earlier life, known by their marks or by their ``TMP_OUTPUT_DIR``.

    Blocks. Watchers have killed almost all before; this is for those who lost theirs. Returns how many were
    found: 0 means that none is left.
    """
    groups = {mark.pid for mark in marks if mark_of(mark.pid) == mark}
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    wanted = {b"TMP_OUTPUT_DIR=" + os.fsencode(output) for output in outputs}
    strays = [pid for pid in _processes() if not wanted.isdisjoint(_environment(pid))]
    for pid in strays:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(groups) + len(strays)


def _processes() -> list[int]:
    return [int(entry.name) for entry in _PROC.glob("[0-9]*")] if _PROC.is_dir() else []


def _environment(pid: int) -> list[bytes]:
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
