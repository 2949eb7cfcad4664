"""A DCNiOS workflow (dCache, Merge, OSCAR), imported: an outage of OSCAR loses no event and doubles none."""

import asyncio
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dcnios_daemon import cli
from tests.daemon import DaemonProcess, daemon, eventually
from tests.fakes.dcache import FakeDcache
from tests.fakes.oscar import PASSWORD, TOKEN, USER, FakeOscar

FILES = 30
AT_ONCE = 4
ROUTE = "dcache-invoke"
SECONDS = float(os.environ.get("OUTAGE_SECONDS", "3"))
"""How long OSCAR is away, with nobody there at all; its illness before comes on top. This test is short:
``OUTAGE_SECONDS=300`` makes it five minutes long."""


def workflow(dcache: FakeDcache, oscar: FakeOscar, login: dict[str, str]) -> str:
    source = {
        "name": "dcache",
        "endpoint": f"{dcache.url}/api/v1",
        "user": "admin",
        "password": "dickerelch",
        "folder": "/raw",
        "statefile": "state",
        "alterations": [{"action": "Merge", "maxMessages": 10, "windowSeconds": 2}],
    }
    destination = {"name": "invoke", "endpoint": oscar.url, "service": "edgan3", **login}
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


def names(oscar: FakeOscar) -> Counter[str]:
    """What jobs were made for, as faas-supervisor reads it: an object with ``event`` and ``subscription``."""
    events = [json.loads(job.event) for job in oscar.jobs.values()]
    return Counter(event["event"]["name"] for event in events if event["subscription"])


async def outage(folder: Path, oscar: FakeOscar, login: dict[str, str], **run: object) -> None:
    """A third of the files before it, a third while OSCAR is ill and then gone, a third after."""
    files = [f"frame-{number}.h5" for number in range(FILES)]
    async with FakeDcache() as dcache:
        await dcache.mkdir("/raw")
        settings = await asyncio.to_thread(imported, folder, workflow(dcache, oscar, login))
        settings["routes"][ROUTE]["in_flight"] = AT_ONCE
        settings["routes"][ROUTE]["run"] |= run
        async with daemon(folder / "daemon", settings) as process:

            async def upload(part: int) -> None:
                for name in files[part * FILES // 3 : (part + 1) * FILES // 3]:
                    await dcache.upload(f"/raw/{name}", name.encode())

            oscar.to_lose = oscar.to_hang = 1
            oscar.to_double = 3
            async with oscar.up():
                await upload(0)
                await eventually(lambda: _has(oscar, FILES // 3), "the first third", within=60)
                oscar.is_ill = True
                await upload(1)
                await eventually(lambda: _is_refusing(oscar), "the outage is met", within=60)
            await asyncio.sleep(SECONDS)
            oscar.is_ill = False
            oscar.to_double = 2
            async with oscar.up():
                await upload(2)
                await eventually(lambda: _is_done(process), "all have ended", within=180)
            counts = await process.counts(ROUTE)
    assert counts == {"succeeded": FILES}
    assert names(oscar) == Counter(files)
    assert len(oscar.made) == FILES
    assert oscar.refused > 0


async def _has(oscar: FakeOscar, count: int) -> bool:
    return len(oscar.made) >= count


async def _is_refusing(oscar: FakeOscar) -> bool:
    return oscar.refused > 0


async def _is_done(process: DaemonProcess) -> bool:
    return (await process.counts(ROUTE)).get("succeeded", 0) >= FILES


@pytest.mark.timeout(900)
async def test_an_outage_of_oscar_loses_nothing_and_passes_no_cap(tmp_path: Path) -> None:
    """With the system user's login ends are seen: no more jobs run than the route says, whatever is lost."""
    oscar = FakeOscar("edgan3", lasts=0.3)
    await outage(tmp_path, oscar, {"user": USER, "password": PASSWORD}, every="200ms", timeout="2s")
    assert 0 < oscar.most_live <= AT_ONCE


@pytest.mark.timeout(900)
async def test_an_outage_of_an_oscar_that_shows_no_jobs_loses_nothing(tmp_path: Path) -> None:
    await outage(tmp_path, FakeOscar("edgan3"), {"token": TOKEN}, timeout="2s")
