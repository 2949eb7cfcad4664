"""Stands in for the Job controller, the kubelet and the TTL controller: Jobs end when and how the seed says.

It talks to the API server directly, past all proxies, and keeps the record of every Job that ever was: since
nobody else ends or deletes a Job, and it looks again after each gap, it misses none.
"""

import asyncio
import contextlib
import heapq
import itertools
import json
import random
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp

from tests.crash.ledger import Job
from tests.servers.access import ClusterAccess

FAILING = 0.05
"""The share of Jobs that fail."""
EXIT_CODE = 75
AHEAD = 16
"""Changes on their way to the API server at the same time."""
MARK = re.compile(r"\b(frames|hooks|uploads|detector|drop)-\d+\b")
"""Names one event of the harness, whatever it came by."""
_PAUSE = 0.3
_KEY, _ATTEMPT, _EVENT = "dcnios-daemon/key", "dcnios-daemon/attempt", "dcnios-daemon/event"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Controller:
    """Follows the Jobs of a namespace.

    Args:
        access: The API server.
        namespace: Whose Jobs.
        dice: Says how long each runs, and which fail.
        run_seconds: How long they run on average.
    """

    def __init__(
        self, access: ClusterAccess, namespace: str, *, dice: random.Random, run_seconds: float
    ) -> None:
        self.jobs: dict[str, Job] = {}
        """By uid: the same name twice is two Jobs."""
        self.doubled = asyncio.Event()
        """Set with the first Job that should not be: there is no need to go on."""
        self._access = access
        self._namespace = namespace
        self._dice = dice
        self._run_seconds = run_seconds
        self._due: list[tuple[float, int, str, str, float]] = []
        """Heap of: when, number, what (end or delete), uid, how long it is kept afterwards."""
        self._numbers = itertools.count()
        self._places = asyncio.Semaphore(AHEAD)
        self._more = asyncio.Event()
        self._hurry = False
        self._gone = asyncio.Condition()
        self._kept: set[str] = set()
        self._made: set[tuple[str, int]] = set()

    async def run(self) -> None:
        """Follow and end Jobs until cancelled."""
        connector = aiohttp.TCPConnector(ssl=self._access.ssl_context, limit=AHEAD + 2)
        headers = {"Authorization": f"Bearer {self._access.token}"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as http,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._follow(http))
            await self._act(http, group)

    async def forget_all(self) -> None:
        """Let the time to keep finished Jobs be over for all of them, and wait until they are gone."""
        self._hurry = True
        self._more.set()
        async with self._gone:
            await self._gone.wait_for(lambda: not self._kept)
        self._hurry = False

    # --- seeing -----------------------------------------------------------------------------------------

    def _path(self, what: str, name: str = "") -> str:
        group = "apis/batch/v1" if what == "jobs" else "api/v1"
        return f"{self._access.url}/{group}/namespaces/{self._namespace}/{what}" + (name and f"/{name}")

    async def _follow(self, http: aiohttp.ClientSession) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
                async with http.get(self._path("jobs")) as answer:
                    answer.raise_for_status()
                    listed = await answer.json()
                for item in listed["items"]:
                    self._saw(item)
                async for change in self._changes(http, listed["metadata"]["resourceVersion"]):
                    if change["type"] == "ADDED":
                        self._saw(change["object"])
            await asyncio.sleep(_PAUSE)

    async def _changes(self, http: aiohttp.ClientSession, after: str) -> AsyncIterator[dict[str, Any]]:
        query = {"watch": "1", "resourceVersion": after, "timeoutSeconds": "50"}
        rest = b""
        async with http.get(self._path("jobs"), params=query) as answer:
            answer.raise_for_status()
            async for piece in answer.content.iter_any():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    def _saw(self, item: dict[str, Any]) -> None:
        meta = item["metadata"]
        if meta["uid"] in self.jobs:
            return
        inside = item["spec"]["template"]["metadata"]["annotations"][_EVENT]
        mark = MARK.search(inside)
        job = Job(
            name=meta["name"],
            route=meta["name"].rpartition("-")[0],
            mark=mark.group() if mark else inside[:100],
            key=meta["labels"][_KEY],
            attempt=int(meta["annotations"][_ATTEMPT]),
            created=int(meta["resourceVersion"]),
        )
        self.jobs[meta["uid"]] = job
        if (job.key, job.attempt) in self._made:
            self.doubled.set()
        self._made.add((job.key, job.attempt))
        runs = self._dice.expovariate(1 / self._run_seconds)
        self._at(runs, "end", meta["uid"], float(item["spec"]["ttlSecondsAfterFinished"]))

    # --- acting -----------------------------------------------------------------------------------------

    def _at(self, seconds: float, what: str, uid: str, keep: float) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), what, uid, keep))
        self._more.set()

    async def _act(self, http: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        while True:
            self._more.clear()
            now = time.monotonic()
            while self._due and (self._due[0][0] <= now or self._may_hurry()):
                _, _, what, uid, keep = heapq.heappop(self._due)
                await self._places.acquire()
                group.create_task(self._do(http, what, uid, keep))
            wait = self._due[0][0] - now if self._due else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._more.wait()

    def _may_hurry(self) -> bool:
        return self._hurry and self._due[0][2] == "delete"

    async def _do(self, http: aiohttp.ClientSession, what: str, uid: str, keep: float) -> None:
        """Do it, again and again while the API server is away."""
        try:
            done = False
            while not done:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
                    done = await (self._end(http, uid) if what == "end" else self._delete(http, uid))
                if not done:
                    await asyncio.sleep(_PAUSE)
        finally:
            self._places.release()
        if what == "end":
            self._kept.add(uid)
            self._at(keep, "delete", uid, keep)
        else:
            self._kept.discard(uid)
            async with self._gone:
                self._gone.notify_all()

    async def _end(self, http: aiohttp.ClientSession, uid: str) -> bool:
        job = self.jobs[uid]
        chance = self._dice.random()
        if chance < FAILING / 2:
            await self._pod(http, job)
            conditions = _conditions("Failed", "BackoffLimitExceeded")
        elif chance < FAILING:
            conditions = _conditions("Failed", "DeadlineExceeded")
        else:
            conditions = _conditions("Complete", "CompletionsReached")
        failed = chance < FAILING
        status: dict[str, Any] = {"startTime": _now(), "conditions": conditions}
        status |= {"failed": 1} if failed else {"succeeded": 1, "completionTime": _now()}
        return await self._tell_end(http, job, status, failed=failed)

    async def _tell_end(
        self, http: aiohttp.ClientSession, job: Job, status: dict[str, Any], *, failed: bool
    ) -> bool:
        """Once: a change whose answer was lost is not made again in another way."""
        async with http.get(self._path("jobs", job.name)) as answer:
            answer.raise_for_status()
            there = await answer.json()
        if not there["status"].get("conditions"):
            body = {"metadata": {"resourceVersion": there["metadata"]["resourceVersion"]}, "status": status}
            headers = {"Content-Type": "application/merge-patch+json"}
            path = self._path("jobs", f"{job.name}/status")
            async with http.patch(path, json=body, headers=headers) as answer:
                there = await answer.json()
                if answer.status == 422:
                    raise RuntimeError(there["message"])
                answer.raise_for_status()
        job.failed = any(item["type"] == "Failed" for item in there["status"]["conditions"])
        job.ended = int(there["metadata"]["resourceVersion"])
        return True

    async def _pod(self, http: aiohttp.ClientSession, job: Job) -> None:
        """A pod whose container ended with an exit code that the route retries."""
        name = f"{job.name}-pod"
        labels = {"batch.kubernetes.io/job-name": job.name}
        async with http.get(self._path("jobs", job.name)) as answer:
            answer.raise_for_status()
            labels |= (await answer.json())["metadata"]["labels"]
        container = {"name": "run", "image": "none", "terminationMessagePolicy": "FallbackToLogsOnError"}
        spec = {"containers": [container], "restartPolicy": "Never"}
        body = {"metadata": {"name": name, "labels": labels}, "spec": spec}
        async with http.post(self._path("pods"), json=body) as answer:
            if answer.status != 409:
                answer.raise_for_status()
        ended = {"exitCode": EXIT_CODE, "reason": "Error", "message": "as the seed said"}
        ended |= {"startedAt": _now(), "finishedAt": _now()}
        state = {"name": "run", "image": "none", "imageID": "", "ready": False, "restartCount": 0}
        status = {"phase": "Failed", "containerStatuses": [{**state, "state": {"terminated": ended}}]}
        headers = {"Content-Type": "application/merge-patch+json"}
        async with http.patch(
            self._path("pods", f"{name}/status"), json={"status": status}, headers=headers
        ) as answer:
            answer.raise_for_status()

    async def _delete(self, http: aiohttp.ClientSession, uid: str) -> bool:
        job = self.jobs[uid]
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}, "gracePeriodSeconds": 0}
        async with http.delete(self._path("jobs", job.name), json=body) as answer:
            if answer.status not in {404, 409}:
                answer.raise_for_status()
        if job.failed:
            async with http.delete(self._path("pods", f"{job.name}-pod")) as answer:
                if answer.status != 404:
                    answer.raise_for_status()
        return True


def _conditions(kind: str, reason: str) -> list[dict[str, str]]:
    early = "SuccessCriteriaMet" if kind == "Complete" else "FailureTarget"
    about = {"status": "True", "reason": reason, "message": "as the seed said", "lastTransitionTime": _now()}
    return [{"type": each, **about} for each in (early, kind)]
