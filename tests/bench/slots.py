"""How many Jobs live at every moment, by the API server's own account: a watch, in the order of etcd."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.servers.access import ClusterAccess

_ENDS = {"Complete", "Failed"}


class Slots:
    """The Jobs of one namespace, from creation to the condition that ends them.

    Never more than the cap is exact, for the watch gives every change in the order in which it happened. When
    it happened is taken from when the line came here.
    """

    def __init__(self, access: ClusterAccess, namespace: str) -> None:
        self._access = access
        self._path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._seen = ""
        self._live: set[str] = set()
        self._changes: list[tuple[float, int]] = []
        self.created = self.ended = self.most = 0
        self.done = asyncio.Event()

    def begin(self) -> None:
        """What is made from now on counts. Blocks."""
        self._seen = self._access.call("GET", f"{self._path}?limit=1")["metadata"]["resourceVersion"]

    async def follow(self, count: int) -> None:
        """Watch until so many Jobs have ended, of those made since :meth:`begin`."""
        async for change in self._watch():
            name = change["object"]["metadata"]["name"]
            conditions = change["object"].get("status", {}).get("conditions", ())
            over = change["type"] == "DELETED" or any(
                each["type"] in _ENDS and each["status"] == "True" for each in conditions
            )
            if change["type"] == "ADDED":
                self.created += 1
                self._live.add(name)
                self._note()
            if over and name in self._live:
                self._live.discard(name)
                self.ended += 1
                self._note()
                if self.ended >= count:
                    self.done.set()
                    return

    def found(self) -> str:
        """What is made, what has ended, and how some pods of the rest are: for whoever waited in vain."""
        path = self._path.replace("/apis/batch/v1", "/api/v1").replace("jobs", "pods")
        waiting = [
            (pod["metadata"]["name"], pod["spec"].get("nodeName"), pod["status"])
            for pod in self._access.call("GET", path)["items"]
            if pod["metadata"]["labels"].get("job-name") in self._live
        ]
        return f"{self.created} made, {self.ended} ended, {len(self._live)} live; pods: {waiting[:3]}"

    def _note(self) -> None:
        self.most = max(self.most, len(self._live))
        self._changes.append((time.monotonic(), len(self._live)))

    def busy(self, cap: int) -> float:
        """The part of the cap's slots that lived, from when they were first all taken until the last Job was
        made."""
        made = [when for (when, n), (_, before) in self._pairs() if n > before]
        full = [when for when, n in self._changes if n >= cap]
        first, last = full[0], made[-1]
        area = sum(
            before * (when - was)
            for (when, _), (was, before) in zip(self._changes[1:], self._changes, strict=False)
            if first < when <= last
        )
        return area / (cap * (last - first))

    def rate(self) -> float:
        """Jobs that ended per second."""
        return self.ended / (self._changes[-1][0] - self._changes[0][0])

    def _pairs(self) -> list[tuple[tuple[float, int], tuple[float, int]]]:
        return list(zip(self._changes, [(0.0, 0), *self._changes], strict=False))

    async def _watch(self) -> AsyncIterator[dict[str, Any]]:
        connector = aiohttp.TCPConnector(ssl=self._access.ssl_context)
        headers = {"Authorization": f"Bearer {self._access.token}"}
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
            while True:
                query = {"watch": "1", "resourceVersion": self._seen}
                async with session.get(self._access.url + self._path, params=query) as answer:
                    rest = b""
                    async for chunk in answer.content.iter_any():
                        *lines, rest = (rest + chunk).split(b"\n")
                        for line in lines:
                            change = json.loads(line)
                            assert change["type"] != "ERROR", change
                            self._seen = change["object"]["metadata"]["resourceVersion"]
                            yield change
