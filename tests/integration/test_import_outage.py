"""A DCNiOS workflow (dCache, Merge, OSCAR), imported: an outage of OSCAR loses nothing."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import test_utils, web
from click.testing import CliRunner

from dcnios_daemon import cli
from tests.daemon import daemon, eventually, free_port
from tests.fakes.dcache import FakeDcache

TOKEN = "0123456789abcdef" * 4
FILES = 30


class Oscar:
    """Takes jobs as OSCAR does: 201 and nothing else."""

    def __init__(self) -> None:
        self.port = free_port()
        self.jobs: list[dict[str, Any]] = []
        self.refused = 0
        self.is_ill = False

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        application = web.Application()
        application.router.add_post("/job/{service}", self._job)
        async with test_utils.TestServer(application, port=self.port):
            yield

    async def _job(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.is_ill:
            self.refused += 1
            return web.Response(status=500)
        assert request.match_info["service"] == "edgan3"
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401)
        self.jobs.append(body)
        return web.Response(status=201)

    def names(self) -> Counter[str]:
        """As faas-supervisor reads them: of a JSON object with ``event`` and ``subscription``."""
        return Counter(job["event"]["name"] for job in self.jobs if job["subscription"])


def workflow(dcache: FakeDcache, oscar: Oscar) -> str:
    source = {
        "name": "dcache",
        "endpoint": f"{dcache.url}/api/v1",
        "user": "admin",
        "password": "dickerelch",
        "folder": "/raw",
        "statefile": "state",
        "alterations": [{"action": "Merge", "maxMessages": 10, "windowSeconds": 2}],
    }
    destination = {
        "name": "invoke",
        "endpoint": f"http://127.0.0.1:{oscar.port}",
        "service": "edgan3",
        "token": TOKEN,
    }
    connection = [{"from": "dcache", "to": "invoke"}]
    nifi = {"Source": {"dCache": [source]}, "Destination": {"OSCAR": [destination]}, "connection": connection}
    return json.dumps({"nifi": nifi})


def imported(folder: Path, text: str) -> dict[str, Any]:
    (folder / "workflow.yaml").write_text(text)
    arguments = ["import", "dcnios", str(folder / "workflow.yaml"), "--secrets", str(folder / "s"), "--json"]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 0, result.output
    settings: dict[str, Any] = json.loads(result.stdout)["configuration"]
    return settings


async def outage(folder: Path, *, seconds: float) -> Oscar:
    """A third of the files before it, a third while OSCAR is ill and then gone, a third after."""
    oscar = Oscar()
    names = [f"frame-{number}.h5" for number in range(FILES)]
    async with FakeDcache() as dcache:
        await dcache.mkdir("/raw")
        settings = await asyncio.to_thread(imported, folder, workflow(dcache, oscar))
        async with daemon(folder / "daemon", settings) as process:

            async def upload(part: int) -> None:
                for name in names[part * FILES // 3 : (part + 1) * FILES // 3]:
                    await dcache.upload(f"/raw/{name}", name.encode())

            async def has(count: int) -> bool:
                return len(oscar.names()) >= count

            async def is_refusing() -> bool:
                return oscar.refused > 0

            async with oscar.up():
                await upload(0)
                await eventually(lambda: has(FILES // 3), "the first third", within=60)
                oscar.is_ill = True
                await upload(1)
                await eventually(is_refusing, "the outage is met", within=60)
            await asyncio.sleep(seconds)
            oscar.is_ill = False
            async with oscar.up():
                await upload(2)
                await eventually(lambda: has(FILES), "all", within=120)
            counts = await process.counts("dcache-invoke")
            assert counts.get("dead", 0) == 0
    assert oscar.names() == Counter(names)
    return oscar


@pytest.mark.timeout(240)
async def test_an_outage_of_oscar_loses_nothing(tmp_path: Path) -> None:
    oscar = await outage(tmp_path, seconds=3)
    assert oscar.refused > 0
