"""What a listing of a huge bucket costs: ``python -m tests.bench.listing_memory [objects [versions]]``.

A store that makes up its pages stands in for the real one; all behind it is the daemon's own. The first pass
is a bucket that was listed before, with one object in a thousand new; JSON goes to standard output. With
``versions`` it keeps so many of each object.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from dcnios_daemon.core.event import Event
from dcnios_daemon.sources.minio.listing import Listing
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.staging.s3_answers import S3Object
from tests.clocks import ManualClock

PAGE = 1000
NOW = 1_700_000_000
_STATUS = Path("/proc/self/statm")


class Huge:
    """So many objects, or versions of them, one of each page new."""

    def __init__(self, count: int, versions: int = 1) -> None:
        self.count = count
        self.each = versions
        self.calls = 0

    async def keeps_versions(self, bucket: str) -> bool:
        """Where there is more than one."""
        await asyncio.sleep(0)
        return self.each > 1

    async def versions(
        self, bucket: str, *, prefix: str = "", after: str = ""
    ) -> AsyncGenerator[Sequence[S3Object], None]:
        """In key order, the newest of each key first."""
        for start in range(0, self.count, PAGE):
            self.calls += 1
            yield [
                S3Object(
                    f"run/{number // self.each:012}",
                    3,
                    f"{number:032x}",
                    NOW - (0 if number == start else 10**6 + number % self.each),
                    f"{number:032x}",
                    is_latest=number % self.each == 0,
                )
                for number in range(start, min(start + PAGE, self.count))
            ]

    async def pages(
        self, bucket: str, *, prefix: str = "", after: str = ""
    ) -> AsyncGenerator[Sequence[S3Object], None]:
        """In key order."""
        first = int(after.rpartition("/")[2]) + 1 if after else 0
        for start in range(first, self.count, PAGE):
            self.calls += 1
            yield [
                S3Object(f"run/{number:012}", 3, f"{number:032x}", NOW - (0 if number == start else 10**6))
                for number in range(start, min(start + PAGE, self.count))
            ]

    async def aclose(self) -> None: ...


def resident() -> int:
    """MiB."""
    pages = int(_STATUS.read_text().split()[1])
    return pages * resource.getpagesize() // 2**20


async def measure(count: int, versions: int = 1) -> dict[str, float]:
    """List them all once."""
    settings = MinioSettings.model_validate({"endpoint": "http://s3", "buckets": ["b"], "receive": []})
    store, found, done, highest = Huge(count, versions), 0, asyncio.Event(), 0
    before = resident()

    async def deliver(events: Sequence[Event], cursor: str) -> None:
        nonlocal found, highest
        found += len(events)
        if store.calls % 100 == 0:
            highest = max(highest, resident())
        if '"began":null' in cursor:
            done.set()
        await asyncio.sleep(0)

    async def heard() -> None:
        await asyncio.sleep(0)

    listing = Listing(
        source="s",
        settings=settings,
        client=store,
        deliver=deliver,
        until_heard=heard,
        clock=ManualClock(NOW),
    )
    listing.resume_at(json.dumps({"b": {"since": (NOW - 3600) * 1000}}))
    began = time.process_time()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(listing.run())
        await done.wait()
        running.cancel()
    return {
        "objects": count // versions,
        "versions": versions,
        "calls": store.calls,
        "found": found,
        "cpu_seconds": round(time.process_time() - began, 1),
        "before_mib": before,
        "grown_mib": max(highest, resident()) - before,
    }


if __name__ == "__main__":
    asked = [int(number) for number in sys.argv[1:]] or [10_000_000]
    print(json.dumps(asyncio.run(measure(*asked))))
