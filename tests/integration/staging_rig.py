"""What the staging tests share: names that hurt, and work directories."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from aiohttp import web

from dcnios_daemon.core.ports import Download, Upload
from dcnios_daemon.staging.document import Outlet, StagingPlan
from dcnios_daemon.staging.transfer import Patience

HASTY = Patience(tries=6, first=0.01, most=0.05)
"""For servers that fail on purpose."""

ODD_NAMES = (
    "plain.txt",
    "a b  c.txt",
    "plus+percent%20%zz#hash?query&amp;.txt",
    "quotes'\"`$(x)${filename}.txt",
    "🔬 é \u2028.txt",
    "semi;colon:at@=,[x]{y}|^~.txt",
    "/".join(["deep", "n" * 200, "n" * 200, "n" * 200, "n" * 200, "n" * 88 + ".tar.gz"]),
)
"""Object names of which each has broken someone's client; the last has 900 characters."""


def content_of(name: str) -> bytes:
    return f"content of {name}\r\n--boundary--\0".encode()


async def make_output(work: Path, files: Mapping[str, bytes]) -> None:
    def write() -> None:
        for name, content in files.items():
            path = work / "output" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    await asyncio.to_thread(write)


def read_input(work: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (work / "input").iterdir()}


def download_plan(download: Download, name: str = "in") -> StagingPlan:
    return StagingPlan(download=download, local_name=name)


def upload_plan(upload: Upload, **filters: tuple[str, ...]) -> StagingPlan:
    return StagingPlan(uploads=(Outlet(name="out", upload=upload, **filters),))


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def scripted(handler: Handler) -> AsyncIterator[str]:
    """A server that does what the handler says; gives its URL."""
    runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
