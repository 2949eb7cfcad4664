"""``make bench``: the whole table of how good it must be, on real servers.

``make bench ONLY=cpu,cap`` measures these sections only:

- ``cpu``: Jobs/s, CPU and latency against a bare create loop;
- ``cap``: a burst through a cap, on pretend nodes;
- ``queued``: a start with a million queued;
- ``overload``: more events than the journal holds, from each source.

Each leaves its JSON in ``.bench/``; the chart ``docs/measured.svg`` is drawn of all that lie there.
"""

import argparse
import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.bench import against, chart, figures
from tests.bench.cap import burst
from tests.bench.overload import CloudEvents, Files, Objects, Records, Uploads, overload
from tests.bench.queued import first_dispatch
from tests.daemon import REPOSITORY
from tests.servers.kafka import Kafka
from tests.servers.kubernetes import ControlPlane
from tests.servers.kwok import Kwok
from tests.servers.workspace import Workspace

OUT = REPOSITORY / ".bench"
CAP = 50
Row = dict[str, Any]


async def cpu(space: Workspace, given: argparse.Namespace) -> list[Row]:
    """Against a bare create loop."""
    audit_log = space.directory("audit") / "log"
    with ControlPlane(space, audit_log=audit_log) as control, Kafka(space) as kafka:
        bench = against.Bench(
            kafka=kafka.bootstrap,
            access=control.access,
            audit_log=audit_log,
            folder=space.directory("daemon"),
        )
        try:
            found = await against.measure(bench, pairs=given.pairs, block=given.block, lone=given.lone)
        finally:
            await bench.daemon.kill()
    return [
        {"name": "Jobs/s ÷ bare loop's", "at_least": 0.9} | found["jobs_per_second_ratio"],
        {"name": "CPU per event ÷ bare loop's per Job", "at_most": 1.5} | found["cpu_per_event_ratio"],
        {"name": "of it the event loop's thread"} | found["loop_cpu_per_event_ratio"],
        {"name": "lone event → Job, p50 ÷ bare create's"} | found["lone_event_p50_ratio"],
        {"name": "lone event → Job, p99 ÷ bare create's", "at_most": 2.0} | found["lone_event_p99_ratio"],
        {"name": "RSS after all that, MiB", "at_most": 120.0} | found["rss_mib"],
    ]


async def cap(space: Workspace, given: argparse.Namespace) -> list[Row]:
    """A burst through a cap."""
    with ControlPlane(space) as control, Kwok(space, control.access, seconds=2.0) as kwok:
        found = await burst(
            space.directory("burst"), control.access, "default", count=given.burst, cap=CAP, pod=kwok.pod
        )
    assert found["jobs"] == given.burst
    return [
        {"name": f"burst of {given.burst:,}, cap {CAP}: most at once", "at_most": float(CAP)}
        | {"median": found["most_at_once"]},
        {"name": "part of the slots busy", "at_least": 0.95, "median": found["slots_busy"]},
        {"name": "RSS after the burst, MiB", "at_most": 120.0, "median": found["rss_mib"]},
    ]


async def queued(space: Workspace, given: argparse.Namespace) -> list[Row]:
    """A start with much queued."""
    audit_log = space.directory("audit-queued") / "log"
    with ControlPlane(space, audit_log=audit_log) as control:
        found = await first_dispatch(
            space.directory("queued"), control.access, audit_log, events=given.queued
        )
    many = f"{given.queued:,} queued"
    return [
        {"name": f"{many}: start → first Job, s", "at_most": 2.0, "median": found["first_dispatch_seconds"]},
        {"name": f"{many}: RSS, MiB", "at_most": 120.0, "median": found["rss_mib"]},
    ]


async def overloaded(space: Workspace, given: argparse.Namespace) -> list[Row]:
    """More events than the journal holds, from each source."""
    rows: list[Row] = []
    with Kafka(space) as kafka:
        for kind, upstream in {
            "cloudevents": CloudEvents(),
            "directory": Files(space.directory("files") / "inbox"),
            "kafka": Records(kafka.bootstrap),
            "minio": Objects(space),
            "dcache": Uploads(),
        }.items():
            folder = space.directory(f"overload-{kind}")
            events, bound = given.overload, given.overload * 5 // 6
            found = await overload(folder, upstream, events=events, bound=bound)
            print(kind, json.dumps(found), flush=True)
            what = f"{kind}: {events:,} into {bound:,}"
            rows += [
                {"name": f"{what}: arrived ÷ given", "at_least": 1.0, "median": found["arrived"] / events},
                {"name": f"{what}: RSS, MiB", "at_most": 120.0, "median": found["rss_mib_after"]},
            ]
    return rows


Section = Callable[[Workspace, argparse.Namespace], Coroutine[Any, Any, list[Row]]]
SECTIONS: dict[str, Section] = {"cpu": cpu, "cap": cap, "queued": queued, "overload": overloaded}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between them")
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--block", type=int, default=1000, help="Jobs in a block")
    parser.add_argument("--lone", type=int, default=50, help="lone events")
    parser.add_argument("--burst", type=int, default=10_000, help="events of the burst")
    parser.add_argument("--queued", type=int, default=1_000_000, help="events in the journal at the start")
    parser.add_argument("--overload", type=int, default=60_000, help="events for a journal of five sixths")
    given = parser.parse_args()
    given.only = [name for name in given.only.split(",") if name]
    if unknown := set(given.only) - set(SECTIONS):
        parser.error(f"there is no section {', '.join(sorted(unknown))}: there are {', '.join(SECTIONS)}")
    return given


def _kept(name: str) -> Path:
    return OUT / f"{name}.json"


def main() -> None:
    """Measure, keep, draw."""
    given = _arguments()
    OUT.mkdir(exist_ok=True)
    for name in given.only:
        with Workspace() as space:
            rows = asyncio.run(SECTIONS[name](space, given))
        _kept(name).write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    found = [row for name in SECTIONS if _kept(name).exists() for row in json.loads(_kept(name).read_text())]
    (REPOSITORY / "docs" / "measured.svg").write_text(chart.drawn(found))
    print(figures.table([(row["name"], row, chart.wanted(row)) for row in found]))


if __name__ == "__main__":
    main()
