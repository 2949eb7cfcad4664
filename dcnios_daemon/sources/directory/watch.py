"""Told by the kernel (inotify) that a look is worth while. Nothing rests on it: it may stay silent, be late
or lie, and all that changes is how soon a file is found.

The kernel knows what this machine writes. Of a network file system, or one that a program serves, it does not
hear what others write; there, and where it cannot be asked, looks are made by the clock alone.
"""

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dcnios_daemon.telemetry import events as telemetry

LOCAL = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "bcachefs", "tmpfs", "ramfs", "overlay"}
)
"""File systems that only this machine writes to, as ``/proc/self/mountinfo`` calls them (proc(5))."""
MOUNTS = Path("/proc/self/mountinfo")
_STEP = 50
"""Milliseconds without a change after which what was told is passed on,"""
_GROUP = 200
"""and the longest that it is held back."""
_BEAT = 1000
"""Milliseconds until the first word that it listens at all."""
_OCTAL = re.compile(r"\\([0-7]{3})")


class Watch:
    """Listens for one source.

    Args:
        source: Its name in the configuration.
        path: The directory.
        deep: Whether folders below count.
        told: Called on the event loop when something changed there.
    """

    def __init__(self, *, source: str, path: Path, deep: bool, told: Callable[[], None]) -> None:
        self._source = source
        self._path = path
        self._deep = deep
        self._told = told
        self._stop = threading.Event()
        self.listens = False
        """Whether changes are told now."""

    async def run(self) -> None:
        """Listen until cancelled; return where that cannot be, having said why."""
        loop = asyncio.get_running_loop()
        why = await asyncio.to_thread(deaf, self._path, deep=self._deep)
        if why is None:
            # A thread of its own: it is busy for as long as the source lives.
            with _executor(f"{self._source}: watch") as thread:
                try:
                    why = await loop.run_in_executor(thread, self._listen, loop)
                finally:
                    self._stop.set()
                    self.listens = False
        telemetry.SourcePolls(source=self._source, why=why).emit()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> str:
        """On the thread, until told to stop. Returns why it ended."""
        from watchfiles import watch  # noqa: PLC0415 - loaded only where there is such a source

        try:
            for changes in watch(
                self._path,
                watch_filter=None,
                debounce=_GROUP,
                step=_STEP,
                stop_event=self._stop,
                rust_timeout=_BEAT,
                yield_on_timeout=True,
                raise_interrupt=False,
                force_polling=False,
                recursive=self._deep,
                ignore_permission_denied=True,
            ):
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is there to be told
                    loop.call_soon_threadsafe(self._hear, bool(changes))
        except (OSError, RuntimeError, ValueError) as error:
            return f"the kernel will not tell of changes: {error}"
        return "the watch has ended"

    def _hear(self, changed: bool) -> None:  # noqa: FBT001 - from call_soon_threadsafe
        if self._stop.is_set():
            return
        first, self.listens = not self.listens, True
        if changed or first:  # what changed before it listened was not told
            self._told()


@contextlib.contextmanager
def _executor(name: str) -> Iterator[ThreadPoolExecutor]:
    thread = ThreadPoolExecutor(1, thread_name_prefix=name)
    try:
        yield thread
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


def deaf(path: Path, *, deep: bool) -> str | None:
    """Why the kernel cannot tell of all changes in a directory; None: it can. Reads files.

    Args:
        path: The directory.
        deep: Whether folders below it count, and what is mounted on them.
    """
    try:
        mounts = [_mount(line) for line in MOUNTS.read_text(errors="surrogateescape").splitlines()]
    except OSError:
        return "this system does not tell what is mounted where"
    here = os.path.realpath(path)
    above = [(len(point), order, kind) for order, (point, kind) in enumerate(mounts) if _holds(point, here)]
    kinds = [max(above)[2]] if above else ["an unknown file system"]
    kinds += [kind for point, kind in mounts if deep and _holds(here, point)]
    foreign = next((kind for kind in kinds if kind not in LOCAL), None)
    return None if foreign is None else f"{here} is on {foreign}, where others may write"


def _mount(line: str) -> tuple[str, str]:
    """Where it is mounted, and the file system's type."""
    before, _, after = line.partition(" - ")
    point = _OCTAL.sub(lambda digits: chr(int(digits[1], 8)), before.split(" ")[4])
    return point, after.partition(" ")[0]


def _holds(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
