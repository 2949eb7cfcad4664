"""``python -m tests.bench.poison``: what one unreadable record in a thousand costs the good ones.

Blocks of clean records and blocks with poison alternate (ABBA) through the same daemon, from Kafka to
suspended Jobs on a real API server, by a route whose template needs a field of the record; each ratio is of
one pair: good records per second, and per second of the daemon's CPU, poisoned ÷ clean. JSON goes into
``.bench/``.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.bench import figures
from tests.bench.against import Bench
from tests.daemon import REPOSITORY
from tests.e2e.stores import make_topic, produce
from tests.servers.access import ClusterAccess
from tests.servers.kafka import Kafka
from tests.servers.kubernetes import ControlPlane
from tests.servers.workspace import Workspace

EVERY = 1000
POISON = b"\xff\xfe{"


class PoisonBench(Bench):
    """With a route that needs JSON."""

    def __init__(self, *, kafka: str, access: ClusterAccess, audit_log: Path, folder: Path) -> None:
        super().__init__(kafka=kafka, access=access, audit_log=audit_log, folder=folder)
        config = yaml.safe_load(self.daemon.config.read_text())
        config["routes"]["bench"]["run"]["env"] = {"N": "{{ data.n }}"}
        self.daemon.config.write_text(yaml.safe_dump(config))

    async def goodput(self, count: int, *, poison: bool) -> tuple[float, float]:
        """Good records per second, of time and of CPU; all are in Kafka before the daemon wakes up."""
        os.kill(self.daemon.pid, signal.SIGSTOP)
        values = [b'{"n":%d,"pad":"%s"}' % (n, b"x" * 300) for n in range(count)]
        for place in range(EVERY // 2, count, EVERY) if poison else ():
            values.insert(place, POISON)
        await produce(self.kafka, self.topic, values, linger_ms=5)
        cpu = self._cpu()
        os.kill(self.daemon.pid, signal.SIGCONT)
        times = await self._created(count)
        await self._until_settled()
        return (count - 1) / (max(times) - min(times)), count / (self._cpu() - cpu).whole


async def measure(bench: PoisonBench, *, pairs: int, block: int) -> dict[str, Any]:
    """Warm up, then the pairs; at last every poisoned record must be dead."""
    await make_topic(bench.kafka, bench.topic, 4)
    await asyncio.to_thread(bench.daemon.start)
    await bench.daemon.until_ready()
    await bench.goodput(block, poison=False)
    ratios, cpus = [], []
    for pair in range(pairs):
        found = {}
        for poison in (False, True) if pair % 2 else (True, False):
            found[poison] = await bench.goodput(block, poison=poison)
        ratios.append(found[True][0] / found[False][0])
        cpus.append(found[True][1] / found[False][1])
        said = f"pair {pair + 1}/{pairs}: clean {found[False][0]:.0f}/s, poisoned {found[True][0]:.0f}/s"
        print(said, file=sys.stderr, flush=True)
    counts = await bench.daemon.counts("bench")
    expected = pairs * len(range(EVERY // 2, block, EVERY))
    assert counts["dead"] == expected, (counts, expected)
    return {
        "goodput_ratio": figures.summary(ratios),
        "goodput_per_cpu_ratio": figures.summary(cpus),
        "dead": expected,
    }


async def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--block", type=int, default=2000, help="good records in a block")
    given = parser.parse_args()
    out = REPOSITORY / ".bench"
    out.mkdir(exist_ok=True)
    with Workspace() as space:
        audit_log = space.directory("audit") / "log"
        with ControlPlane(space, audit_log=audit_log) as control, Kafka(space) as kafka:
            bench = PoisonBench(
                kafka=kafka.bootstrap,
                access=control.access,
                audit_log=audit_log,
                folder=space.directory("daemon"),
            )
            try:
                found = await measure(bench, pairs=given.pairs, block=given.block)
            finally:
                await bench.daemon.kill()
    (out / "poison.json").write_text(json.dumps(found, indent=2) + "\n")
    rows = [
        ("goodput, poisoned ÷ clean", found["goodput_ratio"], "≥ 0.99"),
        ("goodput per CPU second", found["goodput_per_cpu_ratio"], "≥ 0.99"),
    ]
    print(figures.table(rows))


if __name__ == "__main__":
    asyncio.run(main())
