"""Replaying what is dead, beside the running daemon."""

import asyncio
import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp

from tests.daemon import REPOSITORY, DaemonProcess, daemon, eventually

DEAD = 40
RATE, BURST = 20, 2


async def _give(process: DaemonProcess, count: int) -> None:
    events = [
        {"specversion": "1.0", "id": f"{n}", "source": "/t", "type": "t", "subject": f"run{n % 2}/{n}"}
        for n in range(count)
    ]
    headers = {"content-type": "application/cloudevents-batch+json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{process.url}/sources/hooks", headers=headers, data=json.dumps(events)) as reply,
    ):
        assert reply.status == 200


async def _until(process: DaemonProcess, state: str, count: int) -> None:
    async def enough() -> bool:
        return (await process.counts("run")).get(state, 0) == count

    await eventually(enough, f"{count} {state}")


async def _queue(process: DaemonProcess, *arguments: str) -> Any:
    command = [sys.executable, "-m", "dcnios_daemon", "queue", *arguments, "--json"]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "--config", str(process.config)],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


async def test_a_replay_keeps_the_limits_of_the_route_and_is_seen_at_once(tmp_path: Path) -> None:
    """By what they have in common, first one half, then all that is left."""
    mended = tmp_path / "mended"
    script = f'test -e "{mended}" || exit 3'
    settings = {
        "sources": {"hooks": {"kind": "cloudevents"}},
        "routes": {
            "run": {
                "from": ["hooks"],
                "rate": f"{RATE}/s",
                "burst": BURST,
                "run": {"kind": "process", "script": script},
            }
        },
    }
    async with daemon(tmp_path / "daemon", settings) as process:
        await _give(process, DEAD)
        await _until(process, "dead", DEAD)
        mended.touch()
        half = await _queue(process, "replay", "--subject", "run1/*", "--failure", "script")
        assert half == {"asked": DEAD // 2, "changed": DEAD // 2}
        await _until(process, "succeeded", DEAD // 2)
        assert (await process.counts("run"))["dead"] == DEAD // 2
        rest = await _queue(process, "replay", "--all")
        assert rest == {"asked": DEAD // 2, "changed": DEAD // 2}
        await _until(process, "succeeded", DEAD)
        shown = (await process.get("/api/v1/deliveries?limit=1000"))["deliveries"]
        assert {item["attempt"] for item in shown} == {2}
        for wanted in (0, 1):
            starts = sorted(
                item["outcome"]["started"] for item in shown if item["subject"].startswith(f"run{wanted}/")
            )
            took = _seconds(starts[-1]) - _seconds(starts[0])
            assert len(starts) <= BURST + RATE * took + 1 + 0.1 * RATE  # a start is not the submission


def _seconds(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()
