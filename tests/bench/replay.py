"""``python -m tests.bench.replay [DEAD]``: a million dead deliveries are replayed beside the running daemon.

First those that a filter selects (half of them, each looked at), then all that are left. Meanwhile one event
after the other is posted, and waits for its commit: for so long a replay keeps the daemon from accepting. The
same is measured before, with nothing beside it. The route is paused, so that what is queued again stays so.
Prints JSON.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench.journal_memory import fill
from tests.daemon import DaemonProcess

_ALONE = 10.0
"""Seconds in which events are posted with nothing beside them."""
_REST = 0.005
"""Seconds between an answer and the next event."""
_DEAD = 4
"""The state's code, see schema.sql."""


def _bury(path: Path) -> None:
    """Make all that is queued dead, as so many outcomes would have, every second one for want of memory."""
    ways = [
        {"order": "", "failure": "script", "exit_code": 1, "reason": "Error", "log_tail": "x" * 200},
        {"order": "", "failure": "script", "exit_code": 137, "reason": "OOMKilled", "log_tail": "x" * 200},
    ]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for rest, way in enumerate(ways):
            connection.execute(
                "UPDATE deliveries SET state = ?, outcome = ?, note = ? WHERE id % 2 = ?",
                (_DEAD, json.dumps(way), way["reason"], rest),
            )
        connection.execute("UPDATE counters SET state = ?", (_DEAD,))
        connection.execute("COMMIT")


class Posts:
    """Posts one event after the other, and takes the time of each."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/sources/hooks"
        self._sent = 0

    async def go(self, session: aiohttp.ClientSession, waits: list[float]) -> None:
        """Until cancelled."""
        while True:
            self._sent += 1
            headers = {
                "ce-id": str(self._sent),
                "ce-source": "/t",
                "ce-type": "t",
                "ce-specversion": "1.0",
            }
            began = time.perf_counter()
            async with session.post(self._url, headers=headers, data=b"x" * 600) as reply:
                assert reply.status == 200
                await reply.read()
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(_REST)

    @contextlib.asynccontextmanager
    async def beside(self) -> AsyncIterator[list[float]]:
        """What the posts take while the context lasts, in seconds."""
        waits: list[float] = []
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            going = group.create_task(self.go(session, waits))
            yield waits
            going.cancel()


def _of(waits: list[float]) -> dict[str, float]:
    """In milliseconds."""
    cuts = statistics.quantiles(waits, n=100)
    return {
        "appends": len(waits),
        "p50_ms": round(cuts[49] * 1e3, 1),
        "p99_ms": round(cuts[98] * 1e3, 1),
        "longest_ms": round(max(waits) * 1e3, 1),
    }


def _run(command: list[str]) -> dict[str, float]:
    """A command's time and highest memory, and how many it changed."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    return {
        "replayed": json.loads(said)["changed"],
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mib": round(used.ru_maxrss / 1024, 1),
    }


def _run_quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


async def measure(folder: Path, dead: int) -> dict[str, Any]:
    """All of it."""
    path = folder / "state" / "journal.db"
    path.parent.mkdir(parents=True)
    await fill(path, dead)
    await asyncio.to_thread(_bury, path)
    routes = {
        "train": {"from": ["frames"], "run": {"kind": "dry-run"}},
        "live": {"from": ["hooks"], "run": {"kind": "dry-run"}},
    }
    settings = {
        "daemon": {"log": {"level": "warning"}},
        "buffer": {"max_events": 2 * dead, "max_bytes": "4GiB"},
        "sources": {"frames": {"kind": "cloudevents"}, "hooks": {"kind": "cloudevents"}},
        "routes": routes,
    }
    daemon = DaemonProcess(folder, settings)
    await asyncio.to_thread(daemon.start)
    queue = [sys.executable, "-m", "dcnios_daemon", "queue"]
    options = ["--json", "--config", str(daemon.config)]
    try:
        await daemon.until_ready()
        await asyncio.to_thread(_run_quietly, [*queue, "pause", "train", *options])
        posts = Posts(daemon.url)
        async with posts.beside() as waits:
            await asyncio.sleep(_ALONE)
        result: dict[str, Any] = {"dead": dead, "alone": _of(waits)}
        for name, words in (("filter", ["--because", "OOMKilled"]), ("all", ["--all"])):
            async with posts.beside() as waits:
                took = await asyncio.to_thread(_run, [*queue, "replay", *words, *options])
            result[name] = took | {"beside": _of(waits)}
        result["queued"] = (await daemon.counts("train"))["queued"]
        result["daemon_rss_mib"] = round(daemon.rss_mib(), 1)
        return result
    finally:
        await daemon.kill()


def main() -> None:
    """Measure, and say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dead", type=int, nargs="?", default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), given.dead)), indent=2))


if __name__ == "__main__":
    main()
