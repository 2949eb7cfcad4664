"""Uploads to a real MinIO while it, the daemon and the network between them fail again and again.

``python -m tests.crash.minio_storm`` is the whole of it; a test runs a smaller one. Each upload is made with
``If-None-Match: *``, so that one whose answer got lost is not made twice: there are exactly so many objects,
and there must be exactly so many deliveries.
"""

import argparse
import asyncio
import json
import random
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.daemon import DaemonProcess, eventually
from tests.e2e.stores import minio_source, notify, s3_client
from tests.fakes.proxy import FaultyProxy
from tests.servers.minio import MinIO
from tests.servers.workspace import Workspace

BUCKET = "inbox"
UPLOADERS = 16
OUTAGE = 1.0
"""Seconds that a broken network stays so."""
SETTLED = "succeeded"


class Storm:
    """The servers, the uploads and the troubles.

    Args:
        space: Where servers live.
        folder: The daemon's.
        proxy: Between MinIO and the daemon.
        uploads: How many objects.
        troubles: How often each of ``store``, ``daemon`` and ``network`` fails.
        seed: Of the order in which they do.
    """

    def __init__(
        self,
        space: Workspace,
        folder: Path,
        *,
        proxy: FaultyProxy,
        uploads: int,
        troubles: dict[str, int],
        seed: int = 1,
    ) -> None:
        self.uploads = uploads
        self.proxy = proxy
        token = secrets.token_hex(8)
        self.queue = space.directory("queue")
        self.store = MinIO(
            space,
            env={
                "MINIO_NOTIFY_WEBHOOK_ENABLE_DCNIOS": "on",
                "MINIO_NOTIFY_WEBHOOK_ENDPOINT_DCNIOS": f"http://127.0.0.1:{proxy.port}/sources/uploads",
                "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_DCNIOS": token,
                "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_DCNIOS": str(self.queue),
            },
        )
        source = minio_source(self.store.access, BUCKET, webhook_token=token, reconcile="5s")
        self.daemon = DaemonProcess(
            folder,
            {
                "limits": {"rate": None, "in_flight": None},
                "sources": {"uploads": dict(source)},
                "routes": {"all": {"from": ["uploads"], "run": {"kind": "dry-run"}}},
            },
        )
        proxy.target = self.daemon.port
        self.done: Counter[str] = Counter()
        """The troubles that there were."""
        self.deliveries: dict[str, int] = {}
        """State to count, at the end."""
        self._uploaded = 0
        self._next = 0
        dice = random.Random(seed)
        self._troubles = [name for name, count in troubles.items() for _ in range(count)]
        dice.shuffle(self._troubles)
        self._began = 0
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Upload all while the troubles go on, then wait until all is delivered."""
        await asyncio.gather(asyncio.to_thread(self.store.start), asyncio.to_thread(self.daemon.start))
        try:
            async with s3_client(self.store.access) as client:
                await client.create_bucket(Bucket=BUCKET)
                await notify(client, BUCKET, "DCNIOS")
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._trouble())
                    for _ in range(UPLOADERS):
                        group.create_task(self._upload(client))
            await eventually(self._all_delivered, f"{self.uploads} deliveries", within=180)
            await self._until_quiet()
            self.deliveries = await self.daemon.counts("all")
        finally:
            await self.daemon.kill()
            await asyncio.to_thread(self.store.stop)

    def rehearsed(self) -> set[str]:
        """The subjects of all orders that were ever submitted."""
        lines = self.daemon.log.read_text().splitlines()
        return {json.loads(line)["subject"] for line in lines if '"order.rehearsed"' in line}

    # --- uploads ----------------------------------------------------------------------------------------

    async def _upload(self, client: Any) -> None:
        while (number := self._next) < self.uploads:
            self._next += 1
            await self._until_due(number)
            await self._put(client, f"run-{number % 97}/{number}.dat")
            self._uploaded += 1
            async with self._changed:
                self._changed.notify_all()

    async def _until_due(self, number: int) -> None:
        """Wait for the troubles that belong before this upload: none is to come when all is over."""
        due = number * len(self._troubles) // self.uploads
        async with self._changed:
            await self._changed.wait_for(lambda: self._began >= due)

    @staticmethod
    async def _put(client: Any, key: str) -> None:
        while True:
            try:
                await client.put_object(Bucket=BUCKET, Key=key, Body=key.encode(), IfNoneMatch="*")
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                    return
                await asyncio.sleep(0.1)
            except (BotoCoreError, OSError):
                await asyncio.sleep(0.1)
            else:
                return

    # --- troubles ---------------------------------------------------------------------------------------

    async def _trouble(self) -> None:
        make: dict[str, Callable[[int], Awaitable[None]]] = {
            "store": self._restart_store,
            "daemon": self._restart_daemon,
            "network": self._break_network,
        }
        for index, name in enumerate(self._troubles):
            due = (2 * index + 1) * self.uploads // (2 * len(self._troubles))
            async with self._changed:
                await self._changed.wait_for(lambda due=due: self._uploaded >= due)  # type: ignore[misc]
                self._began += 1
                self._changed.notify_all()
            self.done[name] += 1
            await make[name](self.done[name])

    async def _restart_store(self, count: int) -> None:
        await asyncio.to_thread(self.store.kill if count % 2 else self.store.stop)
        await asyncio.to_thread(self.store.start)

    async def _restart_daemon(self, count: int) -> None:
        if count % 2:
            await self.daemon.kill()
        else:
            assert await self.daemon.stop() == 0, self.daemon.tail()
        await asyncio.to_thread(self.daemon.start)

    async def _break_network(self, count: int) -> None:
        if count % 3 == 0:
            self.proxy.cut()
        elif count % 3 == 1:
            async with self.proxy.refusing():
                await asyncio.sleep(OUTAGE)
        else:
            with self.proxy.frozen():
                await asyncio.sleep(OUTAGE)
            self.proxy.cut()

    # --- the end ----------------------------------------------------------------------------------------

    async def _all_delivered(self) -> bool:
        return (await self.daemon.counts("all")).get(SETTLED, 0) >= self.uploads

    async def _until_quiet(self) -> None:
        """MinIO has nothing left to tell, and all was listed once more: what could come twice has."""
        before = self._listings()

        async def quiet() -> bool:
            return not self._queued() and self._listings() > before + 1

        await eventually(quiet, "the store's queue to be empty and two listings", within=120)

    def _queued(self) -> int:
        return sum(path.is_file() for path in self.queue.rglob("*"))

    def _listings(self) -> int:
        return self.daemon.log.read_text().count('"source.relisted"')


async def _main(arguments: argparse.Namespace) -> None:
    began = time.monotonic()
    troubles = {"store": arguments.store, "daemon": arguments.daemon, "network": arguments.network}
    with Workspace() as space, tempfile.TemporaryDirectory() as folder:
        async with FaultyProxy(1) as proxy:
            storm = Storm(
                space,
                Path(folder),
                proxy=proxy,
                uploads=arguments.uploads,
                troubles=troubles,
                seed=arguments.seed,
            )
            await storm.run()
            figures = {
                "uploads": arguments.uploads,
                "troubles": dict(storm.done),
                "deliveries": storm.deliveries,
                "subjects": len(storm.rehearsed()),
                "connections": proxy.connections,
                "seconds": round(time.monotonic() - began, 1),
            }
            print(json.dumps(figures))
    assert figures["deliveries"] == {SETTLED: arguments.uploads}, figures
    assert figures["subjects"] == arguments.uploads, figures


def main() -> None:
    """The whole storm, with the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uploads", type=int, default=20_000)
    parser.add_argument("--store", type=int, default=5, help="restarts of MinIO")
    parser.add_argument("--daemon", type=int, default=10, help="restarts of the daemon")
    parser.add_argument("--network", type=int, default=10, help="breaks of the network")
    parser.add_argument("--seed", type=int, default=1)
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
