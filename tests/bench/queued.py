"""Start with a journal that is full of work: how soon the first Job is made, and the daemon's memory then."""

import asyncio
import time
from pathlib import Path
from typing import Any

from tests.bench.audit import Audit
from tests.bench.journal_memory import fill
from tests.daemon import DaemonProcess
from tests.servers.access import ClusterAccess

CAP = 200
"""Jobs that the daemon may make: all else stays queued."""
_ROUTE, _SOURCE = "train", "frames"
"""As the journal is filled for."""


async def first_dispatch(folder: Path, access: ClusterAccess, log: Path, *, events: int) -> dict[str, Any]:
    """Fill a journal, start the daemon on it, and see.

    The memory is that of the whole daemon, once its Jobs are made and it has claimed all it may.
    """
    namespace = await asyncio.to_thread(access.create_namespace, f"queued-{folder.name}")
    run = {"kind": "job", "image": "localhost/none:0", "command": ["true"], "suspend": True}
    daemon = DaemonProcess(
        folder,
        {
            "buffer": {"max_events": 2 * events, "max_bytes": "4GiB"},
            "kubernetes": {"namespace": namespace, "kubeconfig": str(access.kubeconfig)},
            "limits": {"rate": None, "in_flight": CAP},
            "sources": {_SOURCE: {"kind": "cloudevents"}},
            "routes": {_ROUTE: {"from": [_SOURCE], "run": run}},
        },
    )
    path = folder / "state" / "journal.db"
    path.parent.mkdir(parents=True)
    await fill(path, events)
    audit = Audit(log, namespace)
    begun = time.time()
    await asyncio.to_thread(daemon.start)
    try:
        made = await _made(audit, CAP)
        counts = await daemon.counts(_ROUTE)
        return {
            "queued": counts["queued"],
            "first_dispatch_seconds": round(min(made) - begun, 3),
            "rss_mib": round(daemon.rss_mib(), 1),
        }
    finally:
        await daemon.kill()


async def _made(audit: Audit, count: int) -> list[float]:
    made: list[float] = []
    async with asyncio.timeout(60):
        while len(made) < count:
            await asyncio.sleep(0.05)
            made += await asyncio.to_thread(audit.new)
    return made
