"""The daemon, Kafka to suspended Jobs on the real API server, against a bare create loop.

Alternating blocks (ABBA) in one run, the same API server, the same concurrency, the same bytes per Job; each
ratio is of one pair. The API server's audit log says when each Job was made.
"""

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dcnios_daemon.dispatch.dispatcher import WORKERS
from dcnios_daemon.kubernetes.marks import INSTANCE
from tests.bench import bare, figures
from tests.bench.audit import Audit
from tests.daemon import REPOSITORY, DaemonProcess
from tests.e2e.stores import make_topic, produce
from tests.servers.access import ClusterAccess

ROUNDS = 6
"""In each, lone events and bare creates take turns."""
_IDLE = 0.03
"""CPU seconds in a second."""


class Cpu(NamedTuple):
    """Seconds that the daemon has used the processors."""

    whole: float
    loop: float
    """Of these, the thread of its event loop; the rest is the journal's."""

    def __sub__(self, before: tuple[float, ...]) -> "Cpu":
        """What was used since."""
        return Cpu(*(now - then for now, then in zip(self, before, strict=True)))


class Bench:
    """The servers, the daemon, and the blocks."""

    def __init__(self, *, kafka: str, access: ClusterAccess, audit_log: Path, folder: Path) -> None:
        self.kafka = kafka
        self.access = access
        self.folder = folder
        self.topic = f"bench-{secrets.token_hex(3)}"
        self.namespace = self.access.create_namespace(f"bench-{secrets.token_hex(3)}")
        self.audit = Audit(audit_log, self.namespace)
        run = {"kind": "job", "image": "localhost/none:0", "command": ["true"], "suspend": True}
        self.daemon = DaemonProcess(
            folder,
            {
                "kubernetes": {"namespace": self.namespace, "kubeconfig": str(self.access.kubeconfig)},
                "limits": {"rate": None, "in_flight": None},
                "sources": {"frames": {"kind": "kafka", "bootstrap": [kafka], "topics": [self.topic]}},
                "routes": {"bench": {"from": ["frames"], "run": run}},
            },
        )
        self.job_file = folder / "job.json"
        self.blocks = 0

    async def start(self) -> None:
        """Start the daemon; take the bare loop's bytes from what it would submit itself."""
        await make_topic(self.kafka, self.topic, 4)
        await asyncio.to_thread(self.daemon.start)
        await self.daemon.until_ready()
        event = self.folder / "event.json"
        event.write_text(json.dumps({"source": "frames", "subject": self.topic, "data": {"n": 1}}))
        render = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dcnios_daemon", "render", "bench", str(event), "--json"),
            *("--config", str(self.daemon.config)),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await render.communicate()
        job = json.loads(out)
        job["metadata"]["name"] = bare.MARK.decode()
        for part in (job, job["spec"]["template"]):
            # The daemon watches its own Jobs only: those of the bare loop must not cost it anything.
            part["metadata"]["labels"][INSTANCE] = "bare"
        self.job_file.write_bytes(json.dumps(job, separators=(",", ":")).encode())

    async def bare(self, count: int, concurrency: int) -> dict[str, Any]:
        """A block of the bare loop."""
        self.blocks += 1
        access = self.access
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.bare", access.url, access.token, str(access.ca)),
            *(self.namespace, str(self.job_file), f"bare-{self.blocks}", str(count), str(concurrency)),
            cwd=REPOSITORY,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        found: dict[str, Any] = json.loads(out)
        return {"rate": _rate(await self._created(count)), "cpu": found["cpu"] / count, "took": found["took"]}

    async def through(self, count: int) -> dict[str, Any]:
        """A block of the daemon: all records are in Kafka before it wakes up."""
        os.kill(self.daemon.pid, signal.SIGSTOP)
        await produce(
            self.kafka, self.topic, [b'{"n":%d,"pad":"%s"}' % (n, b"x" * 300) for n in range(count)]
        )
        cpu = self._cpu()
        os.kill(self.daemon.pid, signal.SIGCONT)
        times = await self._created(count)
        await self._until_settled()
        used = self._cpu() - cpu
        return {"rate": _rate(times), "cpu": used.whole / count, "loop": used.loop / count}

    async def lone(self, count: int) -> list[float]:
        """Seconds from a lone record's acceptance by Kafka to its Job."""
        found = []
        for _ in range(count):
            await produce(self.kafka, self.topic, [b'{"n":0}'])
            sent = time.time()
            [made] = await self._created(1)
            found.append(max(0.0, made - sent))
        return found

    def _cpu(self) -> Cpu:
        tasks = Path(f"/proc/{self.daemon.pid}/task")
        used = {task.name: int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks.iterdir()}
        return Cpu(whole=sum(used.values()), loop=used[str(self.daemon.pid)])

    async def until_idle(self) -> None:
        """Nobody works off anything any more, as the controllers do for a while after many Jobs: what they
        write comes to the daemon too."""
        async with asyncio.timeout(120):
            while True:
                before = self._cpu()
                await asyncio.sleep(1)
                if (self._cpu() - before).whole < _IDLE:
                    return

    async def _created(self, count: int) -> list[float]:
        found: list[float] = []
        async with asyncio.timeout(120):
            while len(found) < count:
                await asyncio.sleep(0.01 if count == 1 else 0.1)
                found += await asyncio.to_thread(self.audit.new)
        return found

    async def _until_settled(self) -> None:
        """The daemon has recorded everything: its CPU belongs to the block."""
        async with asyncio.timeout(60):
            while True:
                counts = await self.daemon.counts("bench")
                if not counts.get("queued") and not counts.get("submitting"):
                    return
                await asyncio.sleep(0.1)


def _rate(times: list[float]) -> float:
    return (len(times) - 1) / (max(times) - min(times))


async def measure(bench: Bench, *, pairs: int, block: int, lone: int) -> dict[str, Any]:
    """The lone events, while nothing else goes on; then the pairs. Both are warmed up before."""
    await bench.start()
    await bench.bare(lone, 1)
    await bench.lone(lone)
    await bench.until_idle()
    singles, latencies = [], []
    for turn in range(ROUNDS):
        if turn % 2:
            latencies.append(await bench.lone(lone))
        singles.append((await bench.bare(lone, 1))["took"])
        if not turn % 2:
            latencies.append(await bench.lone(lone))
    await bench.bare(block, WORKERS)
    await bench.through(block)
    rates, cpus, loops = [], [], []
    for pair in range(pairs):
        if pair % 2:
            ours, plain = await bench.through(block), await bench.bare(block, WORKERS)
        else:
            plain, ours = await bench.bare(block, WORKERS), await bench.through(block)
        rates.append(ours["rate"] / plain["rate"])
        cpus.append(ours["cpu"] / plain["cpu"])
        loops.append(ours["loop"] / plain["cpu"])
        print(
            f"pair {pair + 1}/{pairs}: bare {plain['rate']:.0f} Jobs/s {plain['cpu'] * 1e6:.0f} µs, daemon "
            f"{ours['rate']:.0f} Jobs/s {ours['cpu'] * 1e6:.0f} µs",
            file=sys.stderr,
            flush=True,
        )
    return {
        "jobs_per_second_ratio": figures.summary(rates),
        "cpu_per_event_ratio": figures.summary(cpus),
        "loop_cpu_per_event_ratio": figures.summary(loops),
        "lone_event_p50_ratio": figures.summary(_ratios(latencies, singles, 0.5)),
        "lone_event_p99_ratio": figures.summary(_ratios(latencies, singles, 0.99)),
        "rss_mib": {"median": bench.daemon.rss_mib()},
    }


def _ratios(ours: Sequence[list[float]], plain: Sequence[list[float]], share: float) -> list[float]:
    """Of each round, at that percentile."""
    return [
        figures.percentile(one, share) / figures.percentile(other, share)
        for one, other in zip(ours, plain, strict=True)
    ]
