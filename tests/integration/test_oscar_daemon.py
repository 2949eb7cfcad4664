"""A daemon that is killed again and again before an OSCAR that loses answers: one job of each event."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.daemon import DaemonProcess, eventually
from tests.fakes.oscar import PASSWORD, TOKEN, USER, FakeOscar

EVENTS = 60
AT_ONCE = 6
LIVES = 4


def settings(oscar: FakeOscar, **run: object) -> dict[str, Any]:
    block = {"kind": "oscar", "endpoint": oscar.url, "service": "edgan3", "timeout": "2s", **run}
    return {
        "sources": {"hooks": {"kind": "cloudevents"}},
        "routes": {"r": {"from": ["hooks"], "in_flight": AT_ONCE, "run": block}},
    }


async def post(process: DaemonProcess, number: int) -> None:
    """Once is enough: it is answered when it is on disk."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": str(number),
        "ce-source": "/t",
        "ce-type": "t",
        "Content-Type": "application/json",
    }
    async with aiohttp.ClientSession() as session:
        url = f"{process.url}/sources/hooks"
        async with session.post(url, headers=headers, data=f'{{"n":{number}}}') as reply:
            assert reply.status == 200, await reply.text()


async def ended(process: DaemonProcess) -> bool:
    return (await process.counts("r")).get("succeeded", 0) >= EVENTS


async def lives(process: DaemonProcess, oscar: FakeOscar) -> None:
    """In each life something is made, and at the end all has ended."""
    for life in range(LIVES):
        process.start()
        await process.until_ready()
        if life == 0:
            for number in range(EVENTS):
                await post(process, number)
        oscar.to_lose = oscar.to_double = 1
        wanted = min(EVENTS, len(oscar.made) + EVENTS // (LIVES + 1))

        async def progressed(wanted: int = wanted) -> bool:
            return len(oscar.made) >= wanted

        await eventually(progressed, f"{wanted} jobs", within=90)
        await process.kill()
    process.start()
    await process.until_ready()
    await eventually(lambda: ended(process), "all have ended", within=120)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "login", [{"username": USER, "password": PASSWORD, "every": "100ms"}, {"token": TOKEN}]
)
async def test_kills_and_lost_answers_make_one_job_of_each_event(
    tmp_path: Path, login: dict[str, str]
) -> None:
    oscar = FakeOscar("edgan3", lasts=0.2 if "username" in login else None)
    process = DaemonProcess(tmp_path, settings(oscar, **login))
    async with oscar.up():
        try:
            await lives(process, oscar)
            assert await process.counts("r") == {"succeeded": EVENTS}
        finally:
            await process.kill()
    made = Counter(job.event for job in oscar.jobs.values())
    assert made == Counter(f'{{"n":{number}}}' for number in range(EVENTS))
    assert len(oscar.made) == EVENTS
    if "username" in login:
        assert 0 < oscar.most_live <= AT_ONCE


async def test_a_killed_daemon_waits_for_an_oscar_that_is_away(tmp_path: Path) -> None:
    """What may be there keeps its slots: nothing is sent twice, nothing is called unknown."""
    oscar = FakeOscar("edgan3")
    login = {"username": USER, "password": PASSWORD, "every": "100ms"}
    process = DaemonProcess(tmp_path, settings(oscar, **login))
    process.start()
    try:
        async with oscar.up():
            await process.until_ready()
            await post(process, 1)
            await asyncio.wait_for(oscar.until_called(1), 30)
            await eventually(lambda: running(process), "it runs")
        await process.kill()
        process.start()
        await process.until_ready()
        assert await running(process)
        async with oscar.up():
            await oscar.end(oscar.made[0])
            await eventually(lambda: succeeded(process), "its end is seen", within=60)
    finally:
        await process.kill()
    assert len(oscar.made) == 1


async def running(process: DaemonProcess) -> bool:
    return await process.counts("r") == {"running": 1}


async def succeeded(process: DaemonProcess) -> bool:
    return await process.counts("r") == {"succeeded": 1}
