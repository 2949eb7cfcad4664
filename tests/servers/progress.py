"""Says what takes long: a build of four silent minutes looks like a hang."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

QUIET_SECONDS = 2.0
REPEAT_SECONDS = 10.0

Writer = Callable[[str], None]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Output:
    write: Writer = staticmethod(_to_stderr)


def say(line: str) -> None:
    """Writes one line to where progress goes."""
    _Output.write(line)


@contextmanager
def written_by(writer: Writer) -> Iterator[None]:
    """Sends progress elsewhere for a while: pytest must lift its capture for each line."""
    before, _Output.write = _Output.write, writer
    try:
        yield
    finally:
        _Output.write = before


@contextmanager
def step(what: str) -> Iterator[None]:
    """Names a piece of work; it is spoken of only when it takes longer than two seconds."""
    started = time.monotonic()
    over = threading.Event()

    def tick() -> None:
        pause = QUIET_SECONDS
        while not over.wait(pause):
            say(f"  {what} … {time.monotonic() - started:.0f} s")
            pause = REPEAT_SECONDS

    threading.Thread(target=tick, daemon=True, name="progress").start()
    result = "failed after"
    try:
        yield
        result = "done in"
    finally:
        over.set()
        seconds = time.monotonic() - started
        if seconds >= QUIET_SECONDS:
            say(f"  {what}: {result} {seconds:.1f} s")
