"""A burst through a cap, on pretend nodes: how many Jobs live at once, and how well the slots are used."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench.slots import Slots
from tests.daemon import DaemonProcess
from tests.servers.access import ClusterAccess

ROUTE = "burst"


def settings(access: ClusterAccess, namespace: str, *, cap: int, pod: Mapping[str, Any]) -> dict[str, Any]:
    """A daemon that takes events over HTTP and runs them on the nodes that the pod asks for."""
    run = {"kind": "job", "image": "localhost/none:0", "command": ["true"], "keep": "1m", "pod": dict(pod)}
    return {
        "kubernetes": {"namespace": namespace, "kubeconfig": str(access.kubeconfig)},
        "limits": {"rate": None, "in_flight": None},
        "sources": {"hooks": {"kind": "cloudevents"}},
        "routes": {ROUTE: {"from": ["hooks"], "in_flight": cap, "run": run}},
    }


async def post(address: str, first: int, count: int, *, padding: int = 0) -> int:
    """Hand in a batch of CloudEvents. Returns the HTTP status."""
    batch = [
        {
            "specversion": "1.0",
            "id": str(number),
            "source": "/bench",
            "type": "burst",
            "data": {"n": number, "pad": "x" * padding},
        }
        for number in range(first, first + count)
    ]
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(address, data=json.dumps(batch), headers=headers) as reply,
    ):
        return reply.status


async def burst(
    folder: Path,
    access: ClusterAccess,
    namespace: str,
    *,
    count: int,
    cap: int,
    pod: Mapping[str, Any],
) -> dict[str, Any]:
    """Run the burst to its end. Returns what the API server saw of it.

    Raises:
        AssertionError: it does not come to its end; says what is left.
    """
    slots = Slots(access, namespace)
    daemon = DaemonProcess(folder, settings(access, namespace, cap=cap, pod=pod))
    await asyncio.to_thread(daemon.start)
    try:
        await daemon.until_ready()
        await asyncio.to_thread(slots.begin)
        async with asyncio.timeout(60 + count / 3), asyncio.TaskGroup() as group:
            group.create_task(slots.follow(count))
            for first in range(0, count, 500):
                status = await post(f"{daemon.url}/sources/hooks", first, min(500, count - first))
                assert status // 100 == 2, status
        rss = daemon.rss_mib()
    except TimeoutError as error:
        raise AssertionError(f"{slots.found()}; {await daemon.counts(ROUTE)}\n{daemon.tail()}") from error
    finally:
        await daemon.kill()
    return {
        "jobs": slots.created,
        "most_at_once": slots.most,
        "slots_busy": round(slots.busy(cap), 4),
        "jobs_per_second": round(slots.rate(), 1),
        "rss_mib": round(rss, 1),
    }
