"""How much memory and time a full journal takes: ``python -m tests.bench.journal_memory [EVENTS]``.

Fills a journal through ordinary appends, then opens it in a fresh process, which is measured, and claims.
Prints JSON.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dcnios_daemon.buffer.journal import SqliteJournal
from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Admission

BODY = 600
BATCH = 1000


def rss() -> float:
    """Resident memory of this process now, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def peak() -> float:
    """Its highest resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def journal(path: Path) -> SqliteJournal:
    """As a daemon has it by default."""
    return SqliteJournal(
        path,
        max_events=2_000_000,
        max_bytes=4 << 30,
        resume_at=0.8,
        dedupe_for=30 * 86_400,
        clock=SystemClock(),
    )


def admissions(start: int, count: int) -> list[Admission]:
    """Events with bodies that do not compress."""
    return [
        Admission(
            Event(
                key=event_key("frames", "frames", 0, number),
                source="frames",
                kind="kafka",
                subject="frames",
                action=Action.MESSAGE,
                time=time.time(),
                size=BODY,
                data=os.urandom(BODY),
                attributes={"partition": "0", "offset": str(number)},
            ),
            ("train",),
        )
        for number in range(start, start + count)
    ]


async def fill(path: Path, events: int) -> dict[str, float]:
    """Append them all."""
    filled = journal(path)
    await filled.open()
    began, cpu, making = time.perf_counter(), time.process_time(), 0.0
    for start in range(0, events, BATCH):
        before = time.process_time()
        batch = admissions(start, min(BATCH, events - start))
        making += time.process_time() - before
        await filled.append("frames", batch, str(start))
    took, cpu = time.perf_counter() - began, time.process_time() - cpu - making
    size = rss()
    await filled.aclose()
    return {
        "append_events_per_s": round(events / took),
        "append_cpu_us_per_event": round(cpu / events * 1e6, 1),
        "rss_mb_after_filling": round(size, 1),
        "peak_mb_while_filling": round(peak(), 1),
    }


async def look(path: Path) -> dict[str, float]:
    """Open, claim, and see what it took."""
    bare = rss()
    began = time.perf_counter()
    full = journal(path)
    await full.open()
    opened = time.perf_counter()
    claims = await full.claim("train", 1)
    claimed = time.perf_counter()
    for _ in range(20):
        claims = [*claims, *await full.claim("train", 500)]
    queued = (await full.stats()).deliveries["train"]["queued"]
    size = rss()
    await full.aclose()
    return {
        "queued_after_claims": queued,
        "open_s": round(opened - began, 4),
        "first_claim_s": round(claimed - opened, 4),
        "rss_mb_before_open": round(bare, 1),
        "rss_mb": round(size, 1),
        "peak_mb": round(peak(), 1),
    }


def main() -> None:
    """Fill in one process, look in another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.look is not None:
        print(json.dumps(asyncio.run(look(arguments.look))))
        return
    with tempfile.TemporaryDirectory(prefix="journal-") as folder:
        path = Path(folder) / "journal.db"
        result: dict[str, object] = {"events": arguments.events, "body_bytes": BODY}
        result |= asyncio.run(fill(path, arguments.events))
        result["file_mb"] = round(path.stat().st_size / 1e6, 1)
        command = [sys.executable, "-m", "tests.bench.journal_memory", "--look", str(path)]
        result |= json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
