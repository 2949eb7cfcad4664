"""One block of ``tests.bench.kafka``: ``python -m tests.bench.kafka_block MODE BOOTSTRAP TOPIC COUNT DIR``.

MODE is ``bare`` (record by record), ``bare-many`` (what was fetched at once, not looking at records),
``journal``, or ``profile``: that is ``journal`` with a table of where the time goes. Prints JSON: records per
second, and CPU microseconds per record, in all and on the event loop.
"""

import asyncio
import cProfile
import json
import pstats
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from dcnios_daemon.buffer.journal import SqliteJournal
from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.ports import Batch
from dcnios_daemon.core.routing import Router, Rule
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.sources.kafka.source import KafkaSource
from dcnios_daemon.sources.runner import SourceRunner

_DAYS = 30 * 86_400


class Meter:
    """Counts from the first records on; they themselves are not counted, since their way began before."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.counted = 0
        self.begun: tuple[float, float, float] | None = None
        self.ended: tuple[float, float, float]
        self.done = asyncio.Event()

    def saw(self, records: int) -> None:
        """So many are done with."""
        self.left -= records
        if self.begun is None:
            self.begun = _now()
        else:
            self.counted += records
        if self.left <= 0 and not self.done.is_set():
            self.ended = _now()
            self.done.set()

    def result(self) -> dict[str, float]:
        """Per second, and CPU microseconds each: of the whole process, and of the event loop's thread."""
        assert self.begun is not None
        wall, cpu, loop = [after - before for before, after in zip(self.begun, self.ended, strict=True)]
        each = 1e6 / self.counted
        return {"rate": self.counted / wall, "cpu": cpu * each, "loop": loop * each}


def _now() -> tuple[float, float, float]:
    return time.perf_counter(), time.process_time(), time.thread_time()


class MeteredSource(KafkaSource):
    """A source that tells the meter what was acknowledged."""

    meter: Meter

    async def ack(self, batch: Batch) -> None:
        """See :class:`KafkaSource`. It begins the next batch, so that the clock must run before the first."""
        is_first = self.meter.begun is None
        if is_first and batch.events:
            self.meter.saw(len(batch.events))
        await super().ack(batch)
        if not is_first:
            self.meter.saw(len(batch.events))


async def bare(bootstrap: str, topic: str, meter: Meter, mode: str) -> None:
    """Read, and do nothing with it."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=f"bare-{secrets.token_hex(4)}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        if mode == "bare":
            async for _ in consumer:
                meter.saw(1)
                if meter.done.is_set():
                    break
        while not meter.done.is_set():
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                meter.saw(len(records))
    finally:
        await consumer.stop()


async def journal(bootstrap: str, topic: str, meter: Meter, folder: Path) -> None:
    """The source under its runner, a real journal on disk."""
    kept = SqliteJournal(
        folder / "journal.db",
        max_events=10_000_000,
        max_bytes=16 << 30,
        resume_at=0.8,
        dedupe_for=_DAYS,
        clock=SystemClock(),
    )
    await kept.open()
    settings = KafkaSettings(bootstrap=(bootstrap,), topics=(topic,), group=f"journal-{secrets.token_hex(4)}")

    def build() -> KafkaSource:
        source = MeteredSource(name="frames", settings=settings, instance="bench")
        source.meter = meter
        return source

    runner = SourceRunner(
        name="frames",
        build=build,
        journal=kept,
        gate=kept.gate,
        router=Router({"all": Rule(sources=frozenset({"frames"}))}),
        clock=SystemClock(),
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(runner.run())
        await meter.done.wait()
        task.cancel()
    await kept.aclose()


async def main(arguments: Sequence[str]) -> None:
    """Run it."""
    mode, bootstrap, topic, count, folder = arguments
    meter = Meter(int(count))
    if mode.startswith("bare"):
        await bare(bootstrap, topic, meter, mode)
    else:
        profile = cProfile.Profile()
        if mode == "profile":
            profile.enable()
        await journal(bootstrap, topic, meter, Path(folder))
        profile.disable()
        if mode == "profile":
            pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(35)
    print(json.dumps(meter.result()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
