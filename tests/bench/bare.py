"""The loop that every figure is held against: aiohttp posts ready-made bytes, nothing else. Its own process.

``python -m tests.bench.bare URL TOKEN CA NAMESPACE JOB_FILE PREFIX COUNT CONCURRENCY`` prints JSON: wall
seconds, this process's CPU seconds, and each request's seconds.
"""

import asyncio
import itertools
import json
import ssl
import sys
import time
from pathlib import Path

import aiohttp

MARK = b"bench-name-goes-here"
"""Stands in the Job file where the name belongs."""


async def main(template: bytes) -> None:
    """Create the Jobs."""
    url, token, ca, namespace, _, prefix, count, concurrency = sys.argv[1:]
    before, _, after = template.partition(MARK)
    numbers = itertools.islice(itertools.count(), int(count))
    path = f"{url}/apis/batch/v1/namespaces/{namespace}/jobs"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    took: list[float] = []
    connector = aiohttp.TCPConnector(limit=int(concurrency), ssl=ssl.create_default_context(cafile=ca))
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def create() -> None:
            for number in numbers:
                begun = time.perf_counter()
                body = b"%s%s-%06d%s" % (before, prefix.encode(), number, after)
                async with session.post(path, data=body) as reply:
                    await reply.read()
                    assert reply.status == 201, await reply.text()
                took.append(time.perf_counter() - begun)

        begun, cpu = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(int(concurrency)):
                group.create_task(create())
        wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    print(json.dumps({"wall": wall, "cpu": cpu, "took": took}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[5]).read_bytes()))
