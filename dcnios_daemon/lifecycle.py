"""Phases, signals, deadlines: how the daemon starts, and how it ends in order or at once.

The journal is durable, so ending at once loses nothing; ending in order is a courtesy to the neighbours.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from dcnios_daemon.telemetry import events as telemetry

Start = Callable[[str, Coroutine[Any, Any, object]], None]
"""``start(name, coroutine)``: run something that must not end before the phase does."""


class Life:
    """One life of the daemon: why it should end, and what became of it."""

    def __init__(self, *, grace: float) -> None:
        self.grace = grace
        """Seconds from the wish to stop until the end at once."""
        self.exit_code = 0
        self._stopping = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether the end was asked for."""
        return self._stopping.is_set()

    async def until_stop(self) -> None:
        """Return once the end is asked for."""
        await self._stopping.wait()

    def stop(self, why: str) -> None:
        """Ask for the end. Asked twice, or not done within the grace, it ends at once."""
        if self.stopping:
            self._end_at_once(f"asked again ({why})")
        telemetry.StopAsked(why=why).emit()
        self._stopping.set()
        notify("STOPPING=1")
        asyncio.get_running_loop().call_later(self.grace, self._end_at_once, "grace is over")

    def fail(self, task: str, error: BaseException | None) -> None:
        """Something eternal ended: the daemon ends too, and its supervisor restarts it."""
        said = "; ".join(_words(error)) if error else "it returned"
        telemetry.TaskFailed(task=task, error=said).emit()
        self.exit_code = 1
        if not self.stopping:
            self.stop(f"{task} ended")

    def _end_at_once(self, why: str) -> None:
        telemetry.PhaseEntered(phase="ended at once", detail=why).emit()
        os._exit(1)

    @contextlib.contextmanager
    def signals(self, *, reload: Callable[[], None] | None = None) -> Iterator[None]:
        """While inside: SIGTERM and SIGINT ask for the end, SIGHUP calls ``reload``."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, number.name)
        if reload is not None:
            loop.add_signal_handler(signal.SIGHUP, reload)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    @contextlib.asynccontextmanager
    async def phase(self, name: str) -> AsyncIterator[Start]:
        """Run eternal tasks. Leaving cancels them and waits; one that ends by itself ends the life."""
        telemetry.PhaseEntered(phase=name).emit()
        tasks: list[asyncio.Task[None]] = []
        leaving = asyncio.Event()
        async with asyncio.TaskGroup() as group:

            def start(task: str, work: Coroutine[Any, Any, object]) -> None:
                tasks.append(group.create_task(self._guard(task, work, leaving), name=task))

            try:
                yield start
            finally:
                leaving.set()
                for running in tasks:
                    running.cancel()

    async def _guard(self, task: str, work: Coroutine[Any, Any, object], leaving: asyncio.Event) -> None:
        try:
            await work
        except asyncio.CancelledError as error:
            if not leaving.is_set():  # something within was cancelled, and nobody asked for this one's end
                self.fail(task, error)
            raise
        except Exception as error:  # noqa: BLE001 - whatever ends an eternal task ends the daemon, with its name
            self.fail(task, error)
        else:
            self.fail(task, None)


def _words(error: BaseException) -> Iterator[str]:
    """What went wrong, without the groups that tasks wrap it in."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _words(inner)
    else:
        yield f"{type(error).__name__}: {error}"


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)): ``READY=1``, ``STOPPING=1``, ``WATCHDOG=1``. Elsewhere: nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        with contextlib.suppress(OSError):  # a supervisor that does not listen is no reason to fall
            channel.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


async def watchdog() -> None:
    """Tell systemd that the event loop is alive, twice as often as it asks; for ever. Unasked: nothing."""
    asked = os.environ.get("WATCHDOG_USEC", "")
    microseconds = int(asked) if asked.isdecimal() else 0
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))  # sd_watchdog_enabled(3): it may mean another
    if not microseconds or pid != str(os.getpid()):
        await asyncio.Event().wait()
    pause = microseconds / 2e6
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(pause)
