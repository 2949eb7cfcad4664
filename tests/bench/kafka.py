"""``python -m tests.bench.kafka``: a Kafka topic into the journal, against a bare loop of the client library.

Alternating blocks (ABBA) in one run, the same broker and topic, each block in a fresh process and a group of
its own; each ratio is of one pair. All count from the first records in hand to the last ones done with: ours
when the journal has committed and the group has been told, the bare loop's (``async for record in consumer``)
when it has seen them. JSON goes into ``.bench/``.
"""

import argparse
import asyncio
import json
import secrets
import sys
from typing import Any

from tests.bench import figures
from tests.daemon import REPOSITORY
from tests.e2e.stores import make_topic, produce
from tests.servers.kafka import Kafka
from tests.servers.workspace import Workspace

PARTITIONS = 4
BODY = 300


async def block(mode: str, bootstrap: str, topic: str, count: int, folder: str) -> dict[str, Any]:
    """Read the topic once, in its own process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.kafka_block", mode, bootstrap, topic, str(count), folder),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, mode
    found: dict[str, Any] = json.loads(out)
    return found


async def measure(bootstrap: str, space: Workspace, *, pairs: int, count: int) -> dict[str, Any]:
    """Fill the topic, warm both up, then the pairs."""
    topic = f"bench-{secrets.token_hex(3)}"
    await make_topic(bootstrap, topic, PARTITIONS)
    values = [b'{"n":%d,"pad":"%s"}' % (n, b"x" * BODY) for n in range(count)]
    await produce(bootstrap, topic, values, linger_ms=5)
    rates, cpus, ours = [], [], []
    for pair in range(pairs + 1):
        found = {}
        for mode in ("bare", "journal") if pair % 2 else ("journal", "bare"):
            folder = str(space.directory(f"{mode}-{pair}"))
            found[mode] = await block(mode, bootstrap, topic, count, folder)
        if pair == 0:
            continue  # the caches are cold
        rates.append(found["journal"]["rate"] / found["bare"]["rate"])
        cpus.append(found["journal"]["cpu"] / found["bare"]["cpu"])
        ours.append(found["journal"]["rate"])
        print(
            f"pair {pair}/{pairs}: "
            + ", ".join(f"{mode} {each['rate']:.0f}/s {each['cpu']:.1f} µs" for mode, each in found.items()),
            file=sys.stderr,
            flush=True,
        )
    return {
        "events_per_second_ratio": figures.summary(rates),
        "cpu_per_event_ratio": figures.summary(cpus),
        "events_per_second": figures.summary(ours),
    }


async def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--count", type=int, default=100_000, help="records in a block")
    given = parser.parse_args()
    out = REPOSITORY / ".bench"
    out.mkdir(exist_ok=True)
    with Workspace() as space, Kafka(space) as kafka:
        found = await measure(kafka.bootstrap, space, pairs=given.pairs, count=given.count)
    (out / "kafka.json").write_text(json.dumps(found, indent=2) + "\n")
    rows = [
        ("events/s into the journal ÷ bare loop", found["events_per_second_ratio"], "≥ 0.5"),
        ("CPU per event ÷ bare loop", found["cpu_per_event_ratio"], ""),
        ("events/s into the journal", found["events_per_second"], ""),
    ]
    print(figures.table(rows))


if __name__ == "__main__":
    asyncio.run(main())
