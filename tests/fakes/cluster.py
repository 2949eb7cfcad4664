"""A cluster in memory, in place of a ClusterSession: Jobs, Secrets and pods that tests move along by hand."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from dcnios_daemon.core.errors import SinkError, SinkUnavailable
from dcnios_daemon.kubernetes.answers import failure
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.login import KubernetesSettings
from tests.clocks import ManualClock

Json = dict[str, Any]
_STATUS = {404: "NotFound", 409: "AlreadyExists", 410: "Expired"}


def refusal(status: int, message: str = "said so") -> SinkError:
    """The error that the session makes of such an answer."""
    return failure(status, json.dumps({"reason": _STATUS.get(status, ""), "message": message}).encode())


def gives_none(log: bytes, query: Mapping[str, str]) -> bool:
    """Whether a real interLink answers with an error: to both limits, and to one line more than there are."""
    lines = int(query.get("tailLines", "0"))
    return lines == log.count(b"\n") + 1 or (lines > 0 and "limitBytes" in query)


class FakeCluster(ClusterSession):
    """Lists and watches as the API server does: in order, by version, without gaps while a watch is open."""

    def __init__(self) -> None:
        super().__init__(KubernetesSettings(), ManualClock())
        self.objects: dict[str, dict[str, Json]] = {"jobs": {}, "pods": {}, "secrets": {}, "nodes": {}}
        self.logs: dict[str, bytes] = {}
        """Of pods, by name."""
        self.calls: list[tuple[str, str]] = []
        self.errors: dict[tuple[str, str], list[SinkError]] = {}
        """(method, path) to the errors of the next calls."""
        self.lose_answer_to: set[tuple[str, str]] = set()
        """(method, path) whose next call is done, but not answered."""
        self._history: list[tuple[int, str, str, Json]] = []
        self._forgotten = 0
        self._changed = asyncio.Condition()
        self._cut = 0
        self._version = 0

    # --- what tests do ----------------------------------------------------------------------------

    async def change(self, what: str, name: str, **parts: Any) -> Json:
        """Create or change an object."""
        known = self.objects[what].get(name)
        item = {**(known or {"metadata": {"name": name, "uid": f"uid-{name}"}}), **parts}
        await self._publish("MODIFIED" if known else "ADDED", what, name, item)
        return item

    async def end(self, name: str, kind: str = "Complete", reason: str = "CompletionsReached") -> None:
        """The Job controller says that the Job has ended."""
        early = "SuccessCriteriaMet" if kind == "Complete" else "FailureTarget"
        for conditions in ([early], [early, kind]):
            status = {
                "conditions": [{"type": item, "status": "True", "reason": reason} for item in conditions]
            }
            await self.change("jobs", name, status=status)

    async def pod(self, job: str, *containers: Json, name: str = "pod", **status: Any) -> None:
        """A pod of the Job is at its end."""
        labels = {**self.objects["jobs"][job]["metadata"]["labels"], "batch.kubernetes.io/job-name": job}
        statuses = {"containerStatuses": list(containers)} if containers else {}
        await self.change(
            "pods",
            f"{job}-{name}",
            metadata={"name": f"{job}-{name}", "labels": labels},
            spec={"nodeName": "node-1", "containers": [{"name": "run"}]},
            status={"phase": "Failed", **statuses, **status},
        )

    async def delete(self, what: str, name: str) -> None:
        """Remove it."""
        await self._publish("DELETED", what, name, self.objects[what][name])

    async def forget(self, *, cut: bool = True) -> None:
        """Compact the history: who was away must list."""
        async with self._changed:
            self._forgotten = self._version
            self._cut += cut
            self._changed.notify_all()

    async def cut(self) -> None:
        """End all watches, as a restart of the API server does."""
        async with self._changed:
            self._cut += 1
            self._changed.notify_all()

    async def _publish(self, event: str, what: str, name: str, item: Json) -> None:
        async with self._changed:
            self._version += 1
            metadata = {**item["metadata"], "resourceVersion": str(self._version)}
            item = {**item, "metadata": metadata}
            if event == "DELETED":
                del self.objects[what][name]
            else:
                self.objects[what][name] = item
            self._history.append((self._version, what, event, item))
            self._changed.notify_all()

    # --- what the sink calls ----------------------------------------------------------------------

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
        seconds: float = 30,
    ) -> bytes:
        """See ClusterSession."""
        await self._called(method, path)
        if path.endswith("/log"):
            return self._log(path.split("/")[1], query or {})[: int((query or {})["limitBytes"])]
        answer = await self._do(method, path, body, query or {})
        if (method, path) in self.lose_answer_to:
            self.lose_answer_to.remove((method, path))
            raise SinkUnavailable("the answer was lost")
        return json.dumps(answer).encode()

    async def _called(self, method: str, path: str) -> None:
        self.calls.append((method, path))
        await asyncio.sleep(0)
        if waiting := self.errors.get((method, path)):
            raise waiting.pop(0)

    async def end_of(self, path: str, query: Mapping[str, str], *, most: int, seconds: float = 30) -> bytes:
        """See ClusterSession. All that is read so are logs, as interLink's Slurm plugin gives them."""
        await self._called("GET", path)
        name = path.split("/")[1]
        if gives_none(self.logs.get(name, b""), query):
            raise refusal(500)
        return self._log(name, query)[-most:]

    def _log(self, pod: str, query: Mapping[str, str]) -> bytes:
        if pod not in self.logs:
            raise refusal(404)
        return b"".join(self.logs[pod].splitlines(keepends=True)[-int(query["tailLines"]) :])

    async def _do(self, method: str, path: str, body: bytes | None, query: Mapping[str, str]) -> Json:
        what, _, name = path.partition("/")
        if method == "POST":
            wanted = json.loads(body or b"")
            name = wanted["metadata"]["name"]
            if name in self.objects[what]:
                raise refusal(409)
            wanted["metadata"]["uid"] = f"uid-{name}"
            return await self.change(what, name, **wanted)
        if name and name not in self.objects[what]:
            raise refusal(404)
        if method == "DELETE":
            await self.delete(what, name)
            return {}
        if method == "PATCH":
            known = self.objects[what][name]
            patch = json.loads(body or b"")["metadata"]
            return await self.change(what, name, metadata={**known["metadata"], **patch})
        if name:
            return self.objects[what][name]
        job = query.get("labelSelector", "").partition("batch.kubernetes.io/job-name=")[2]
        found = [
            item
            for item in self.objects[what].values()
            if not job or item["metadata"]["name"].startswith(job)
        ]
        if query.get("fieldSelector") == "status.phase=Pending":
            found = [item for item in found if item["status"]["phase"] == "Pending"]
        return {"metadata": {"resourceVersion": str(self._version)}, "items": found}

    async def lines(self, path: str, query: Mapping[str, str], *, quiet: float) -> AsyncGenerator[bytes]:
        """See ClusterSession."""
        self.calls.append(("WATCH", path))
        await asyncio.sleep(0)
        if waiting := self.errors.get(("WATCH", path)):
            raise waiting.pop(0)
        seen, cut = int(query["resourceVersion"]), self._cut
        if seen < self._forgotten:
            raise refusal(410)
        while True:
            async with self._changed:
                while self._cut == cut and self._version <= seen:
                    await self._changed.wait()
                news = [entry for entry in self._history if entry[0] > seen]
                if self._cut > cut:
                    raise SinkUnavailable("the connection was lost")
            for version, what, event, item in news:
                seen = version
                if what == path:
                    yield json.dumps({"type": event, "object": item}).encode()
