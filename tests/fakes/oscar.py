"""An OSCAR (4.1) as its clients see it, as nasty as the real one.

After ``pkg/handlers/job.go`` and ``logs.go``: 201 without a word, 500 for nearly all else, with the words of
Kubernetes; a job is named by ``X-Delegated-Job-ID``; jobs are listed in pages, with phases of pods. Requests
may hang, answers be lost, requests be carried out twice; it can go away and come back with its jobs.
"""

import asyncio
import base64
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import test_utils, web

from tests.daemon import free_port

TOKEN = "0123456789abcdef" * 4
USER, PASSWORD = "oscar", "oscar-pass"
_TIMES = "2026-01-31T12:00:00Z"


class Job(msgspec.Struct, kw_only=True):
    """A job, and the text that its pod has as ``EVENT``."""

    name: str
    service: str
    event: str
    status: str = "Running"
    has_begun: bool = True
    log: str = ""

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self.status not in {"Succeeded", "Failed"}


class FakeOscar:
    """Switches are attributes; change them at any time."""

    def __init__(self, *services: str, lasts: float | None = None) -> None:
        self.port = free_port()
        self.tokens = dict.fromkeys(services or ("edgan3",), TOKEN)
        self.lasts = lasts
        """Seconds after which a job ends well by itself; None: when a test says so."""
        self.version = "v4.1.2"
        self.takes_names = True
        """Whether ``X-Delegated-Job-ID`` counts: not before 4.1.0."""
        self.page_size = 70
        self.begins = True
        """Whether the container of a new job starts."""
        self.is_ill = False
        """Answers 500 to every call of a service, without having done anything."""
        self.lists = True
        """Whether it tells of jobs."""
        self.to_lose = 0
        """So many calls are carried out, and their connection is cut."""
        self.to_double = 0
        """So many calls are carried out twice, as by a proxy; the second answer counts."""
        self.to_hang = 0
        """So many calls are carried out and never answered."""
        self.answers: deque[tuple[int, str]] = deque()
        """What it says next, instead of doing anything."""
        self.jobs: dict[str, Job] = {}
        self.made: list[str] = []
        """All names, in order, also of jobs that are gone."""
        self.calls = self.refused = self.looks = self.most_live = 0
        self._news = asyncio.Condition()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def up(self) -> AsyncIterator["FakeOscar"]:
        """There, with the jobs that it had when it went."""
        application = web.Application(client_max_size=2**24)
        add = application.router.add_route
        add("POST", "/job/{service}", self._call)
        add("GET", "/system/services/{service}", self._read)
        add("GET", "/system/services/{service}/auth", self._auth)
        add("GET", "/system/logs/{service}", self._list)
        add("*", "/system/logs/{service}/{job}", self._one)
        add("GET", "/system/info", self._info)
        async with test_utils.TestServer(application, port=self.port):
            yield self

    async def end(self, name: str, status: str = "Succeeded", *, log: str = "") -> None:
        """Let a job end."""
        job = self.jobs.get(name)
        if job is not None:
            job.status, job.log = status, log
            await self._tell()

    async def until_called(self, calls: int) -> None:
        """Wait until so many calls were carried out or refused."""
        async with self._news:
            await self._news.wait_for(lambda: self.calls >= calls)

    def events(self) -> Counter[str]:
        """How often each text was handed to a job, of all that were ever made."""
        return Counter(job.event for job in self.jobs.values())

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    # --- /job -------------------------------------------------------------------------------------------

    async def _call(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        self.calls += 1
        await self._tell()
        service = request.match_info["service"]
        if self.answers:
            status, text = self.answers.popleft()
            return web.Response(status=status, text=text)
        if self.is_ill:
            self.refused += 1
            return web.Response(status=500)
        if request.headers.get("Authorization") != f"Bearer {self.tokens.get(service)}":
            return web.Response(status=401)
        name = request.headers.get("X-Delegated-Job-ID") if self.takes_names else None
        answer = self._make(service, name, body)
        if self.to_double > 0:
            self.to_double -= 1
            answer = self._make(service, name, body)
        if self.to_hang > 0:
            self.to_hang -= 1
            await asyncio.sleep(3600)
        if self.to_lose > 0:
            self.to_lose -= 1
            assert request.transport is not None
            request.transport.abort()
        return answer

    def _make(self, service: str, name: str | None, body: str) -> web.Response:
        name = name or f"{service[:16]}-{uuid.uuid4()}"
        if name in self.jobs:
            return web.Response(status=500, text=f'jobs.batch "{name}" already exists')
        self.jobs[name] = Job(name=name, service=service, event=body, has_begun=self.begins)
        self.made.append(name)
        self.most_live = max(self.most_live, sum(job.lives for job in self.jobs.values()))
        if self.lasts is not None:
            asyncio.get_running_loop().call_later(self.lasts, self._end_by_itself, name)
        return web.Response(status=201)

    def _end_by_itself(self, name: str) -> None:
        if name in self.jobs and self.jobs[name].lives:
            self.jobs[name].status = "Succeeded"

    # --- /system ----------------------------------------------------------------------------------------

    def _guard(self, request: web.Request) -> None:
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {pair}":
            raise web.HTTPUnauthorized
        if request.match_info.get("service", next(iter(self.tokens))) not in self.tokens:
            raise web.HTTPNotFound

    async def _read(self, request: web.Request) -> web.Response:
        self._guard(request)
        service = request.match_info["service"]
        return web.json_response({"name": service, "token": self.tokens[service], "memory": "256Mi"})

    async def _auth(self, request: web.Request) -> web.Response:
        token = self.tokens.get(request.match_info["service"])
        known = request.headers.get("Authorization") == f"Bearer {token}"
        return web.Response(status=200 if known else 401)

    async def _info(self, request: web.Request) -> web.Response:
        self._guard(request)
        return web.json_response({"version": self.version, "kubernetes_version": "v1.31"})

    async def _list(self, request: web.Request) -> web.Response:
        """Sorted by name, as Kubernetes does. The page is where the last one ended."""
        self._guard(request)
        self.looks += 1
        if not self.lists:
            return web.Response(status=500, text="client rate limiter Wait returned an error")
        service, after = request.match_info["service"], request.query.get("page", "")
        names = sorted(name for name, job in self.jobs.items() if job.service == service and name > after)
        page, rest = names[: self.page_size], names[self.page_size :]
        shown: dict[str, Any] = {"jobs": {name: _shown(self.jobs[name]) for name in page}}
        if rest:
            shown |= {"next_page": page[-1], "remaining_jobs": len(rest)}
        return web.json_response(shown)

    async def _one(self, request: web.Request) -> web.Response:
        self._guard(request)
        job = self.jobs.get(request.match_info["job"])
        if request.method == "DELETE":
            if job is None:
                return web.Response(status=404)
            del self.jobs[job.name]
            return web.Response(status=204)
        if job is None:
            return web.Response(status=500)  # it looks into an error that there is none of
        return web.Response(text=job.log)


def _shown(job: Job) -> dict[str, str]:
    shown = {"status": job.status, "creation_time": _TIMES}
    if job.has_begun:
        shown["start_time"] = _TIMES
        if not job.lives:
            shown["finish_time"] = _TIMES
    return shown
