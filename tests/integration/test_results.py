"""Results and the way from daemon to daemon, with kills: every end is told, and nothing runs twice."""

import asyncio
import json
import os
import random
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import test_utils, web

from tests.daemon import DaemonProcess, daemon, eventually, free_port
from tests.integration.kafka_rig import producer_of
from tests.integration.test_kafka_sink import new_topic, records
from tests.servers.kafka import Kafka
from tests.servers.workspace import Workspace

HOOKS = {"hooks": {"kind": "cloudevents"}}


async def post(process: DaemonProcess, *numbers: int, kind: str = "good") -> None:
    """Until each is taken, as a webhook with a queue does."""
    async with aiohttp.ClientSession() as session:
        for number in numbers:
            ids = {"ce-id": str(number), "ce-source": "/test", "ce-type": kind, "ce-specversion": "1.0"}
            ids |= {"ce-subject": f"{kind}/{number}", "content-type": "application/json"}
            while True:
                try:
                    async with session.post(
                        f"{process.url}/sources/hooks", headers=ids, data=json.dumps({"n": number})
                    ) as reply:
                        if reply.status == 200:
                            break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.02)


async def deliveries(process: DaemonProcess, route: str) -> list[dict[str, Any]]:
    """All of a route."""
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["id"] if found else 0
        page = await process.get(f"/api/v1/deliveries?route={route}&limit=1000&after={after}")
        if not page["deliveries"]:
            return found
        found += page["deliveries"]


async def until(process: DaemonProcess, route: str, counts: Mapping[str, int]) -> None:
    async def so() -> bool:
        return await process.counts(route) == dict(counts)

    try:
        await eventually(so, f"{route}: {counts}", within=90)
    except AssertionError as error:
        raise AssertionError(f"{error}: {await process.counts(route)}\n{process.tail()}") from error


async def kill_and_start(process: DaemonProcess) -> None:
    await process.kill()
    await asyncio.to_thread(process.start)


def assert_all_told_once(results: Sequence[Mapping[str, Any]], ended: Sequence[Mapping[str, Any]]) -> None:
    """Each delivery that ended has its result under one id."""
    by_delivery = Counter(result["data"]["delivery"] for result in results)
    assert by_delivery == Counter(delivery["id"] for delivery in ended)
    facts = {delivery["id"]: delivery for delivery in ended}
    for result in results:
        delivery, data = facts[result["data"]["delivery"]], result["data"]
        assert result["type"] == f"dcnios.delivery.{delivery['state']}"
        assert (result["subject"], result["source"]) == (delivery["subject"], "/dcnios/results")
        assert (data["key"], data["route"], data["order"]) == (
            delivery["key"],
            delivery["route"],
            delivery["order"],
        )
        assert data["outcome"]["state"] == delivery["state"]


class Receiver:
    """Takes CloudEvents, after it has been difficult about most of them."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.taken: dict[str, dict[str, Any]] = {}
        self.again = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        application = web.Application()
        application.router.add_post("/in", self._post)
        async with test_utils.TestServer(application) as server:
            yield str(server.make_url("/in"))

    async def _post(self, request: web.Request) -> web.StreamResponse:
        event = await request.json()
        mood = self._dice.random()
        if mood < 0.05:
            return web.Response(status=503, headers={"Retry-After": "0"})
        if mood < 0.1:
            return web.Response(status=500, text="no")
        self.again += event["id"] in self.taken
        self.taken[event["id"]] = event
        if mood < 0.15:  # taken, but the sender will never know
            assert request.transport is not None
            request.transport.abort()
        elif mood < 0.17:
            await asyncio.sleep(3600)
        return web.Response(status=202)


async def test_every_end_is_told_to_a_difficult_receiver_through_kills(tmp_path: Path) -> None:
    receiver = Receiver(1)
    async with receiver.listening() as url:
        http = {"kind": "http", "url": url, "mode": "structured", "timeout": "500ms"}
        settings = {
            "sources": HOOKS,
            "routes": {
                "good": {"from": ["hooks"], "match": {"subject": "good/*"}, "run": {"kind": "dry-run"}},
                "bad": {
                    "from": ["hooks"],
                    "match": {"subject": "bad/*"},
                    "run": {"kind": "process", "script": "exit 3"},
                },
                "quiet": {"from": ["hooks"], "run": {"kind": "dry-run"}},
            },
            "results": {"run": http, "routes": ["good", "bad"]},
        }
        async with daemon(tmp_path, settings) as process:
            for start in range(0, 100, 25):
                async with asyncio.TaskGroup() as group:
                    group.create_task(post(process, *range(start, start + 25)))
                    group.create_task(post(process, *range(start + 100, start + 105), kind="bad"))
                    await asyncio.sleep(0.1)  # somewhere in the middle
                    await kill_and_start(process)
            await process.until_ready()
            await until(process, "good", {"succeeded": 100})
            await until(process, "bad", {"dead": 20})
            await until(process, "quiet", {"succeeded": 120})
            await until(process, "results", {"succeeded": 120})
            ended = await deliveries(process, "good") + await deliveries(process, "bad")
            told = await deliveries(process, "results")
    assert {delivery["key"] for delivery in told} == receiver.taken.keys()
    assert_all_told_once(list(receiver.taken.values()), ended)
    assert receiver.again > 0
    dead = next(one["data"]["outcome"] for one in receiver.taken.values() if one["type"].endswith("dead"))
    assert (dead["failure"], dead["exit_code"]) == ("script", 3)


@pytest.mark.parametrize("status", [401, 403, 404, 410, 302])
async def test_a_receiver_that_is_not_there_yet_makes_no_event_dead(tmp_path: Path, status: int) -> None:
    """A service that is deployed anew, a login that is not granted yet: one wrong line buries no backlog."""
    answers = [status]
    taken: set[str] = set()

    async def post_in(request: web.Request) -> web.Response:
        if answers[0] == 202:
            taken.add(request.headers["ce-id"])
        return web.Response(status=answers[0], text="not here")

    application = web.Application()
    application.router.add_post("/in", post_in)
    async with test_utils.TestServer(application) as server:
        run = {"kind": "http", "url": str(server.make_url("/in"))}
        settings = {"sources": HOOKS, "routes": {"out": {"from": ["hooks"], "run": run}}}
        async with daemon(tmp_path, settings) as process:
            await post(process, *range(40))

            async def told() -> bool:
                notes = [delivery["note"] for delivery in await deliveries(process, "out")]
                return any(f"{run['url']} answers {status}" in note for note in notes)

            await eventually(told, "the deliveries say why they wait")
            counts = await process.counts("out")
            assert sum(counts.values()) == 40
            assert not counts.get("dead")
            assert b"submissions.paused" in process.log.read_bytes()
            answers[0] = 202
            await until(process, "out", {"succeeded": 40})
            assert {delivery["attempt"] for delivery in await deliveries(process, "out")} == {1}
    assert len(taken) == 40


async def test_a_dead_result_can_be_replayed_and_makes_no_result(tmp_path: Path) -> None:
    settings = {
        "daemon": {"http": {"port": free_port(), "admin_token": "open"}},
        "sources": HOOKS,
        "routes": {"good": {"from": ["hooks"], "run": {"kind": "dry-run"}}},
        "results": {"run": {"kind": "process", "script": f"test -e {tmp_path}/go"}, "of": ["succeeded"]},
    }
    async with daemon(tmp_path, settings) as process:
        await post(process, 1, 2)
        await until(process, "results", {"dead": 2})
        (tmp_path / "go").touch()
        for dead in await deliveries(process, "results"):
            await replay(process, dead["id"])
        await until(process, "results", {"succeeded": 2})
        page = await process.get("/api/v1/status")
        assert page["routes"]["results"]["from"] == ["results"]


async def test_sighup_begins_and_ends_results(tmp_path: Path) -> None:
    settings = {
        "sources": HOOKS,
        "routes": {"good": {"from": ["hooks"], "run": {"kind": "dry-run"}}},
    }
    async with daemon(tmp_path, settings) as process:
        await post(process, 1)
        await until(process, "good", {"succeeded": 1})
        document = yaml.safe_load(process.config.read_text())
        for results, count in (({"run": {"kind": "dry-run"}}, 2), (None, 3)):
            process.config.write_text(yaml.safe_dump(document | {"results": results}))
            os.kill(process.pid, signal.SIGHUP)
            await eventually(lambda: reloads(process, count - 1), "reloaded")  # noqa: B023 - used at once
            await post(process, count)
            await until(process, "good", {"succeeded": count})
        await until(process, "results", {"succeeded": 1})


async def reloads(process: DaemonProcess, count: int) -> bool:
    """Whether it has taken the configuration anew so often."""
    await asyncio.sleep(0)
    return process.tail().count('"daemon.reloaded"') >= count


async def replay(process: DaemonProcess, delivery: int) -> None:
    """As an operator would."""
    login = {"Authorization": "Bearer open"}
    async with (
        aiohttp.ClientSession(headers=login) as session,
        session.post(f"{process.url}/api/v1/dead/{delivery}/replay") as reply,
    ):
        assert reply.status == 200


@pytest.mark.slow
async def test_from_daemon_to_daemon_over_kafka_each_key_runs_once(
    workspace: Workspace, tmp_path: Path
) -> None:
    """The writer is killed and the broker too; what is doubled on the topic runs once."""
    server = Kafka(workspace)
    await asyncio.to_thread(server.start)
    frames, told = await new_topic(server.bootstrap), await new_topic(server.bootstrap)

    def to(topic: str) -> dict[str, Any]:
        return {"kind": "kafka", "bootstrap": [server.bootstrap], "topic": topic, "timeout": "2s"}

    writing = {
        "daemon": {"instance": "writer"},
        "sources": HOOKS,
        "routes": {"forward": {"from": ["hooks"], "run": to(frames)}},
        "results": {"run": to(told)},
    }
    reading = {
        "daemon": {"instance": f"reader-{secrets.token_hex(3)}"},
        "sources": {"frames": {"kind": "kafka", "bootstrap": [server.bootstrap], "topics": [frames]}},
        "routes": {
            "run": {
                "from": ["frames"],
                "run": {"kind": "process", "script": f'echo "$DCNIOS_KEY" >> {tmp_path}/ran'},
            }
        },
    }
    async with daemon(tmp_path / "a", writing) as a, daemon(tmp_path / "b", reading) as b:
        for start in range(0, 200, 40):
            async with asyncio.TaskGroup() as group:
                group.create_task(post(a, *range(start, start + 40)))
                await asyncio.sleep(0.15)
                await kill_and_start(a)
                if start == 80:
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
        await a.until_ready()
        await until(a, "forward", {"succeeded": 200})
        await until(a, "results", {"succeeded": 200})
        written = await records(server.bootstrap, frames, 200)
        async with producer_of(server.bootstrap) as producer:
            for record in random.Random(2).sample(written, 50):
                await producer.send_and_wait(
                    frames, record.value, key=record.key, headers=list(record.headers)
                )
        await until(b, "run", {"succeeded": 200})
        forwarded = await deliveries(a, "forward")
        told_keys = {delivery["key"] for delivery in await deliveries(a, "results")}
        ran = await deliveries(b, "run")

        async def all_read() -> bool:
            status = await b.get("/api/v1/status")
            return bool(status["journal"]["duplicates"] >= 50 + len(written) - 200)

        await eventually(all_read, "the doubled records are known")
        await until(b, "run", {"succeeded": 200})
    keys = {delivery["key"] for delivery in forwarded}
    assert len(keys) == 200
    assert {delivery["key"] for delivery in ran} == keys
    assert Counter((tmp_path / "ran").read_text().split()) == Counter(keys)
    results = [json.loads(record.value) for record in await records(server.bootstrap, told, 200)]
    once = {result["id"]: result for result in results}
    assert once.keys() == told_keys
    assert_all_told_once(list(once.values()), forwarded)
    assert {record.key.decode() for record in await records(server.bootstrap, told, 200)} == keys
    await asyncio.to_thread(server.stop)
