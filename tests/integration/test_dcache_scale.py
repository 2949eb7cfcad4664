"""Very many files, with the daemon as a process of its own: all taken, once, in flat memory.

``ENTRIES=1000000 pytest -s tests/integration/test_dcache_scale.py -k one_directory`` lists a million;
``-s`` shows the figures.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.daemon import REPOSITORY, DaemonProcess, eventually
from tests.fakes.dcache import FakeDcache

MOST_MEMORY = 120 * 1024
"""KiB of RSS that the daemon may ever have."""
ENTRIES = int(os.environ.get("ENTRIES", "200000"))


def _settings(url: str, *, recursive: bool) -> dict[str, Any]:
    source = {
        "kind": "dcache",
        "url": url,
        "watch": {"data": {"path": "/data", "recursive": recursive}},
        "username": "u",
        "password": "p",
        "reconcile": "1h",
    }
    return {
        "daemon": {"log": {"level": "warning"}},
        "sources": {"detector": source},
        "limits": {"rate": "100000/s", "in_flight": 5000},
        "routes": {"all": {"from": ["detector"], "run": {"kind": "dry-run", "image": "x"}}},
    }


@contextlib.asynccontextmanager
async def _running(folder: Path, url: str, *, recursive: bool) -> AsyncIterator[DaemonProcess]:
    process = DaemonProcess(folder, _settings(url, recursive=recursive))
    await asyncio.to_thread(process.start)
    try:
        await process.until_ready()
        yield process
    finally:
        await process.kill()


async def _done(process: DaemonProcess, count: int, *, within: float) -> None:
    """Exactly so many deliveries have succeeded."""

    async def enough() -> bool:
        return (await process.counts("all")).get("succeeded", 0) >= count

    await eventually(enough, f"{count} deliveries", within=within)
    assert await process.counts("all") == {"succeeded": count}


def _peak(process: DaemonProcess) -> int:
    """The most memory that it ever had, in KiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def _report(what: str, began: float, **figures: object) -> None:
    took = {"seconds": round(time.monotonic() - began, 1)}
    told = ", ".join(f"{name} {value}" for name, value in (took | figures).items())
    sys.stdout.write(f"\n{what}: {told}\n")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("expires", [True, False], ids=["channel gone", "channel kept"])
async def test_a_hundred_thousand_files_in_a_thousand_directories_appear_while_the_daemon_is_down(
    tmp_path: Path, *, expires: bool
) -> None:
    """With the channel kept, the stream tells of each directory too, before the pass lists it or after."""
    async with FakeDcache() as dcache:
        await dcache.mkdir("/data")
        async with _running(tmp_path, dcache.url, recursive=True) as process:
            await eventually(lambda: _listed(dcache, "/data"), "a first listing")
            await process.stop()
            for number in range(1000):
                dcache.storage.mkdir(f"/data/d{number}")
                for name in range(100):
                    dcache.storage.put(f"/data/d{number}/{name}", b"")
                await asyncio.sleep(0)
            if expires:
                await dcache.restart()
            dcache.requests.clear()
            began = time.monotonic()
            await asyncio.to_thread(process.start)
            await process.until_ready()
            await _done(process, 100_000, within=240)
            counts, listed, peak = dcache.requests.counts, dcache.requests.listed, _peak(process)
            _report("100,000 files in 1,000 directories", began, peak_kib=peak, calls=dict(counts))
    assert max(listed.values()) == 1
    assert len(listed) == 1001
    assert counts["stat"] == 0
    assert peak < MOST_MEMORY


async def _listed(dcache: FakeDcache, path: str) -> bool:
    await asyncio.sleep(0)
    return dcache.requests.listed[path] > 0


@pytest.mark.slow
async def test_ten_thousand_uploads_in_a_burst_overflow_a_queue_and_are_all_taken(tmp_path: Path) -> None:
    async with FakeDcache() as dcache:
        await dcache.mkdir("/data")
        async with _running(tmp_path, dcache.url, recursive=False) as process:
            await eventually(lambda: _listed(dcache, "/data"), "a first listing")
            dcache.requests.clear()
            began = time.monotonic()
            for number in range(10_000):
                dcache.storage.put(f"/data/{number}", b"")
            overflown = [selection._overflow for selection in dcache.inotify._by_key.values()]
            await _done(process, 10_000, within=90)
            counts, peak = dcache.requests.counts, _peak(process)
            _report("10,000 in a burst", began, peak_kib=peak, calls=dict(counts))
    assert overflown == [True]
    assert counts["stat"] < 300
    assert counts["listing"] < 100
    assert peak < MOST_MEMORY


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_one_directory_of_very_many_entries_is_listed_in_flat_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fakes.dcache", "--port", "0", "--crowd", f"/data={ENTRIES}"]
    fake = await asyncio.to_thread(
        subprocess.Popen, command, cwd=REPOSITORY, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    assert fake.stdout is not None
    try:
        url = (await asyncio.to_thread(fake.stdout.readline)).split()[3].removesuffix("/api/v1")
        began = time.monotonic()
        async with _running(tmp_path, url, recursive=False) as process:
            await _done(process, ENTRIES, within=1000)
            peak = _peak(process)
            async with aiohttp.ClientSession() as session, session.get(f"{url}/fake/requests") as reply:
                calls = (await reply.json())["counts"]
            _report(f"{ENTRIES:,} entries in one directory", began, peak_kib=peak, calls=calls)
    finally:
        fake.terminate()
        await asyncio.to_thread(fake.wait, 20)
        fake.stdout.close()
    assert calls.get("stat", 0) == 0
    assert peak < MOST_MEMORY
