"""The real daemon as a real process, for tests that kill it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import yaml

REPOSITORY = Path(__file__).parent.parent


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def eventually(holds: Callable[[], Awaitable[bool]], what: str, *, within: float = 30) -> None:
    """Ask until it holds. A process beside us has no event to wait for."""
    try:
        async with asyncio.timeout(within):
            while not await holds():  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise AssertionError(f"not within {within:g} s: {what}") from error


class DaemonProcess:
    """``dcnios run`` on a configuration in a folder of its own; can be killed and started again."""

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], *, env: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        daemon = {"instance": "test", "http": {"port": free_port()}, "shutdown_grace": "20s"}
        document = dict(settings) | {"daemon": daemon | settings.get("daemon", {})}
        document.setdefault("buffer", {}).setdefault("path", str(folder / "state" / "journal.db"))
        self.port: int = document["daemon"]["http"]["port"]
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "daemon.yaml"
        self.config.write_text(yaml.safe_dump(document, allow_unicode=True))
        self.log = folder / "daemon.log"
        self.lives = 0
        self._env = os.environ | dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs. A signal's number is below 0."""
        assert self._process is not None
        return self._process.poll()

    def start(self) -> None:
        """A new life."""
        self.lives += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dcnios_daemon", "run", "--config", str(self.config)],
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def kill(self) -> None:
        """SIGKILL: nothing of the daemon runs after this."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, and wait. Returns the exit code."""
        return await self._end(signal.SIGTERM)

    async def wait(self) -> int:
        """Until it ends by itself. Returns the exit code."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, 60)

    async def _end(self, number: signal.Signals) -> int:
        process = self._process
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        return await asyncio.to_thread(process.wait, 60)

    async def until_ready(self, within: float = 60) -> None:
        """Wait for ``/readyz`` to say yes; on failure show the log's end."""
        try:
            async with asyncio.timeout(within):
                while not await self._is_ready():
                    assert self._process is not None
                    assert self._process.poll() is None, f"the daemon ended\n{self.tail()}"
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise AssertionError(f"not ready within {within} s\n{self.tail()}") from error

    async def _is_ready(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/readyz") as reply:
                return reply.status == 200
        except aiohttp.ClientError:
            return False

    async def get(self, path: str) -> Any:
        """The JSON at a path of the API."""
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as reply:
            return await reply.json()

    async def counts(self, route: str) -> dict[str, int]:
        """State to count of a route's deliveries; empty while the daemon is away."""
        try:
            status = await self.get("/api/v1/status")
        except aiohttp.ClientError:
            return {}
        found: dict[str, int] = status["journal"]["deliveries"].get(route, {})
        return found

    def rss_mib(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def tail(self, size: int = 6000) -> str:
        """The end of the log."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else "(no log)"


@contextlib.asynccontextmanager
async def daemon(
    folder: Path, settings: Mapping[str, Any], *, env: Mapping[str, str] | None = None
) -> AsyncIterator[DaemonProcess]:
    """A ready daemon, stopped at the end."""
    process = DaemonProcess(folder, settings, env=env)
    await asyncio.to_thread(process.start)
    try:
        await process.until_ready()
        yield process
    finally:
        await process.kill()
