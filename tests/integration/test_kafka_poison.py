"""Records that their route can do nothing with, among good ones: real broker, API server and daemon."""

import asyncio
import secrets
import signal
from os import kill
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from dcnios_daemon import app
from dcnios_daemon.config.load import load
from tests.daemon import DaemonProcess, daemon, eventually, free_port
from tests.e2e.stores import make_topic, produce
from tests.servers.access import ClusterAccess
from tests.servers.fixtures import KafkaAccess

TOKEN = "let-me"
POISON = [b"\xff\xfe no text", b"{no json", b'{"other": 1}']


@pytest.mark.slow
async def test_poison_dies_with_cause_and_bytes_and_lives_again_when_the_route_is_mended(
    tmp_path: Path, kafka: KafkaAccess, kubernetes: ClusterAccess, namespace: str
) -> None:
    topic = f"poison-{secrets.token_hex(4)}"
    good = [b'{"run": %d}' % number for number in range(297)]
    await make_topic(kafka.bootstrap, topic, 1)
    values = good[:100] + POISON[:1] + good[100:200] + POISON[1:2] + good[200:] + POISON[2:]
    await produce(kafka.bootstrap, topic, values)
    run: dict[str, Any] = {"kind": "job", "image": "localhost/none:0", "command": ["true"], "suspend": True}
    needs_json = run | {"env": {"RUN": "{{ data.run }}"}}
    settings: dict[str, Any] = {
        "daemon": {"http": {"port": free_port(), "admin_token": TOKEN}},
        "kubernetes": {"namespace": namespace, "kubeconfig": str(kubernetes.kubeconfig)},
        "limits": {"rate": None, "in_flight": None},
        "sources": {"frames": {"kind": "kafka", "bootstrap": [kafka.bootstrap], "topics": [topic]}},
        "routes": {"runs": {"from": ["frames"], "run": needs_json}},
    }
    async with daemon(tmp_path, settings) as process:

        async def dead() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = (await process.get("/api/v1/dead"))["dead"]
            return found

        await eventually(lambda: counted(process, running=297, dead=3), "the good run, the others are dead")
        assert jobs(kubernetes, namespace) == 297
        for item, value in zip(sorted(await dead(), key=lambda each: each["id"]), POISON, strict=True):
            assert "data" in item["note"], item
            assert await bytes_of(process, item["key"]) == value

        config = yaml.safe_load(process.config.read_text())
        config["routes"]["runs"]["run"] = run
        process.config.write_text(yaml.safe_dump(config))
        kill(process.pid, signal.SIGHUP)
        await eventually(lambda: is_said(process.log, b"daemon.reloaded"), "the route is mended")
        ids = [item["id"] for item in await dead()]
        answers = await asyncio.gather(*[replay(process.url, each) for each in ids + ids])
        assert sorted(answers) == [200] * 3 + [404] * 3

        await eventually(lambda: counted(process, running=300, dead=0), "all run")
        assert jobs(kubernetes, namespace) == 300


async def bytes_of(process: DaemonProcess, key: str) -> bytes | None:
    """What the journal keeps of an event."""
    settings = await asyncio.to_thread(load, process.config, environ={})
    async with app.journal(settings, shared=True) as journal:
        event, _ = await journal.show(key)
    return None if event is None else event.data


async def counted(process: DaemonProcess, **expected: int) -> bool:
    counts = await process.counts("runs")
    return {state: counts.get(state, 0) for state in expected} == expected


async def replay(url: str, delivery: int) -> int:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{url}/api/v1/dead/{delivery}/replay") as reply,
    ):
        return reply.status


async def is_said(log: Path, what: bytes) -> bool:
    return what in await asyncio.to_thread(log.read_bytes)


def jobs(kubernetes: ClusterAccess, namespace: str) -> int:
    return len(kubernetes.call("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"])
