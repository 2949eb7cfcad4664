"""How the daemon's phases end, and what systemd is told."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dcnios_daemon import lifecycle
from dcnios_daemon.core.errors import JournalCorrupt


class Supervisor:
    """The socket that systemd would listen on."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    async def hears(self) -> str:
        async with asyncio.timeout(5):
            return (await asyncio.get_running_loop().sock_recv(self._socket, 100)).decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def supervisor(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Supervisor]:
    """Listens where NOTIFY_SOCKET says."""
    path = str(tmp_path / "notify")
    abstract = f"dcnios-test-{os.getpid()}"
    made = Supervisor(path if request.param == "path" else f"\0{abstract}")
    monkeypatch.setenv("NOTIFY_SOCKET", path if request.param == "path" else f"@{abstract}")
    yield made
    made.close()


async def test_systemd_is_told(supervisor: Supervisor) -> None:
    lifecycle.notify("READY=1")
    assert await supervisor.hears() == "READY=1"


async def test_the_watchdog_is_told_before_half_of_its_patience_is_over(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(lifecycle.watchdog())
        heard = []
        for _ in range(3):
            assert await supervisor.hears() == "WATCHDOG=1"
            heard.append(loop.time())
        task.cancel()
    assert heard[2] - heard[0] < 0.2


async def test_a_watchdog_that_means_another_process_is_left_alone(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(lifecycle.watchdog())
        await asyncio.sleep(0.01)
        lifecycle.notify("READY=1")
        assert await supervisor.hears() == "READY=1"
        task.cancel()


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-listens-here"])
def test_a_supervisor_that_is_not_there_harms_nobody(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    lifecycle.notify("READY=1")


async def _returns() -> None:
    return


async def _breaks() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_corrupt())


async def _corrupt() -> None:
    raise JournalCorrupt("state/journal.db: page 7 is damaged")


async def _cancelled_within() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (_returns, "it returned"),
        (_breaks, "JournalCorrupt: state/journal.db: page 7 is damaged"),
        (_cancelled_within, "CancelledError: "),
    ],
)
async def test_an_eternal_task_that_ends_ends_the_daemon_and_says_why(work: object, said: str) -> None:
    life = lifecycle.Life(grace=60)
    with capture_logs() as logs:
        async with life.phase("sinks") as start, asyncio.timeout(5):
            start("sink job", work())  # type: ignore[operator]
            await life.until_stop()
    assert life.exit_code == 1
    [failed] = [line for line in logs if line["event"] == "daemon.task_failed"]
    assert (failed["task"], failed["error"]) == ("sink job", said)


async def test_leaving_a_phase_is_no_failure() -> None:
    life = lifecycle.Life(grace=60)
    async with life.phase("sinks") as start:
        start("sink job", asyncio.Event().wait())
        await asyncio.sleep(0)
    assert (life.exit_code, life.stopping) == (0, False)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes with which the process would have ended at once."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


async def test_the_second_signal_ends_it_at_once(ended: list[int]) -> None:
    life = lifecycle.Life(grace=60)
    with life.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(life.until_stop(), 5)
        assert not ended
        os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(5):
            while not ended:  # noqa: ASYNC110 - the loop tells nobody about signals
                await asyncio.sleep(0)
    assert ended[0] == 1


async def test_a_task_that_swallows_its_cancellation_is_left_behind_at_the_deadline(ended: list[int]) -> None:
    release = asyncio.Event()

    async def deaf() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    life = lifecycle.Life(grace=0.05)
    loop = asyncio.get_running_loop()
    loop.call_later(0.2, release.set)
    async with life.phase("sinks") as start:
        start("deaf", deaf())
        await asyncio.sleep(0)
        life.stop("test")
    assert ended == [1]


async def test_hangup_calls_reload_and_nothing_else() -> None:
    life, called = lifecycle.Life(grace=60), asyncio.Event()
    with life.signals(reload=called.set):
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(called.wait(), 5)
    assert not life.stopping
