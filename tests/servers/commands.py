"""Runs the commands that build things: quietly, at low priority, and never longer than this interpreter."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


class MissingPartError(RuntimeError):
    """Something that this machine would need is not there; the message names it."""


class CommandError(RuntimeError):
    """A command failed; the message holds the end of what it wrote."""


aborted = threading.Event()
"""Set when the whole run is to end: nothing new is started then."""

_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()


def tool(name: str, part: str) -> str:
    """Finds a program.

    Raises:
        MissingPartError: it is not installed; `part` says how people call it.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise MissingPartError(f"{part} ({name} is not on PATH)")
    return found


def need_root(purpose: str) -> None:
    """Refuses early what only root can do.

    Raises:
        MissingPartError: we are not root.
    """
    if os.geteuid() != 0:
        raise MissingPartError(f"root ({purpose})")


def bound(argv: Sequence[str]) -> list[str]:
    """The command, made to die with the thread that starts it (so start servers from one that stays)."""
    return [tool("setpriv", "util-linux"), "--pdeathsig", "KILL", "--", *argv]


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: Iterable[bytes] | None = None,
) -> str:
    """Runs a command to its end and returns what it wrote.

    Raises:
        CommandError: it failed, or `abort` ended it.
    """
    with subprocess.Popen(
        bound(["nice", *argv]),
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        with _lock:
            _running.add(process)
            if aborted.is_set():
                process.kill()
        try:
            if stdin is not None:
                _feed(process, stdin)
            output = process.communicate()[0].decode(errors="replace")
        finally:
            with _lock:
                _running.discard(process)
    if process.returncode != 0:
        tail = "\n".join(output.splitlines()[-25:])
        raise CommandError(f"{' '.join(argv)[:300]} ended with {process.returncode}:\n{tail}")
    return output


def _feed(process: subprocess.Popen[bytes], chunks: Iterable[bytes]) -> None:
    assert process.stdin is not None
    try:
        for chunk in chunks:
            process.stdin.write(chunk)
        process.stdin.close()
    except BrokenPipeError:
        pass  # its exit status and output say more than our broken pipe
    finally:
        process.stdin = None


def abort() -> None:
    """Ends the commands that run now: an interrupted start must not sit out a build of minutes."""
    with _lock:
        aborted.set()
        for process in _running:
            os.killpg(process.pid, signal.SIGKILL)
