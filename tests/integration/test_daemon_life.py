"""The daemon's life as its supervisor and its operator see it. No server is needed."""

import asyncio
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.daemon import DaemonProcess, daemon, eventually, free_port


def _settings(**more: Any) -> dict[str, Any]:
    run = {"kind": "process", "script": 'cp "$DCNIOS_EVENT_FILE" "$TMP_OUTPUT_DIR/$DCNIOS_KEY"'}
    out = {"stage_out": {"out": {"to": "file:outbox/", "using": "drop"}}}
    return {
        "sources": {"drop": {"kind": "directory", "path": "inbox"}, "hooks": {"kind": "cloudevents"}},
        "routes": {"keep": {"from": ["hooks"], "run": run | out}},
        **more,
    }


async def _post(process: DaemonProcess, number: int, *, token: str | None = None, size: int = 10) -> int:
    headers = {
        "ce-id": str(number),
        "ce-source": "/test",
        "ce-type": "test",
        "ce-specversion": "1.0",
        "content-type": "application/octet-stream",
    }
    if token:
        headers["authorization"] = f"Bearer {token}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{process.url}/sources/hooks", headers=headers, data=io.BytesIO(b"x" * size)) as reply,
    ):
        return reply.status


async def _until(process: DaemonProcess, route: str, state: str, count: int) -> None:
    async def enough() -> bool:
        return (await process.counts(route)).get(state, 0) >= count

    await eventually(enough, f"{count} {state}")


async def _until_said(process: DaemonProcess, event: str) -> None:
    async def said() -> bool:
        return event in process.tail()

    await eventually(said, event)


async def test_an_event_that_was_answered_200_survives_sigkill(tmp_path: Path) -> None:
    async with daemon(tmp_path, _settings()) as process:
        assert [await _post(process, n) for n in range(20)] == [200] * 20
        await process.kill()
        await asyncio.to_thread(process.start)
        await process.until_ready()
        await _until(process, "keep", "succeeded", 20)
        assert [await _post(process, n) for n in range(20)] == [200] * 20
        assert (await process.counts("keep"))["succeeded"] == 20
    assert len(list((tmp_path / "outbox").glob("[!.]*"))) == 20


async def test_sigterm_ends_in_order_with_exit_code_zero(tmp_path: Path) -> None:
    async with daemon(tmp_path, _settings()) as process:
        await _post(process, 1)
        assert await process.stop() == 0
    assert '"phase": "running"' in process.tail()


async def test_a_second_signal_ends_it_at_once_and_loses_nothing(tmp_path: Path) -> None:
    slow = {"from": ["hooks"], "run": {"kind": "process", "script": "trap '' TERM; sleep 60"}}
    async with daemon(tmp_path, _settings(routes={"keep": slow})) as process:
        assert await _post(process, 1) == 200
        await _until(process, "keep", "running", 1)
        os.kill(process.pid, signal.SIGTERM)
        await _until_said(process, "daemon.stop")
        assert await process.stop() == 1
        await asyncio.to_thread(process.start)
        await process.until_ready()
        counts = await process.counts("keep")
        assert sum(counts.get(state, 0) for state in ("queued", "submitting", "running")) == 1


async def test_probes_and_refusals(tmp_path: Path) -> None:
    hooks = {"kind": "cloudevents", "token": "right"}
    settings = _settings(
        sources={"hooks": hooks}, routes={"r": {"from": ["hooks"], "run": {"kind": "dry-run"}}}
    )
    async with daemon(tmp_path, settings) as process, aiohttp.ClientSession() as session:
        assert await _post(process, 1) == 401
        assert await _post(process, 1, token="wrong") == 401
        assert await _post(process, 1, token="right", size=9 * 1024 * 1024) == 413
        assert await _post(process, 1, token="right") == 200
        for path, status in [
            ("/livez", 200),
            ("/readyz", 200),
            ("/metrics", 200),
            ("/", 200),
            ("/sources/x", 404),
        ]:
            async with session.get(process.url + path) as reply:
                assert reply.status == status
        async with session.get(f"{process.url}/metrics") as reply:
            metrics = await reply.text()
            assert 'dcnios_events_accepted_total{source="hooks"} 1.0' in metrics
            assert 'dcnios_deliveries{route="r",state="queued"}' in metrics
        async with session.post(f"{process.url}/api/v1/dead/1/replay") as reply:
            assert reply.status == 403


async def test_a_full_journal_answers_503_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    held = {
        "from": ["hooks"],
        "in_flight": 1,
        "run": {"kind": "process", "script": f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done"},
    }
    settings = _settings(
        routes={"keep": held}, buffer={"max_events": 10, "path": str(tmp_path / "state/journal.db")}
    )
    async with daemon(tmp_path, settings) as process, aiohttp.ClientSession() as session:
        answers = [await _post(process, n) for n in range(15)]
        assert answers == [200] * 10 + [503] * 5
        async with session.get(f"{process.url}/readyz") as reply:
            assert reply.status == 503
            assert "10 of 10 events" in (await reply.json())["reasons"]["journal"]
        (tmp_path / "go").touch()
        await _until(process, "keep", "succeeded", 10)
        await process.until_ready()
        assert await _post(process, 14) == 200


async def _queue(process: DaemonProcess, *arguments: str) -> str:
    """What `dcnios queue` says beside the daemon."""
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dcnios_daemon", "queue", *arguments, "--config", str(process.config)),
        cwd=process.folder,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await command.communicate()
    assert command.returncode == 0
    return said.decode()


async def test_a_route_stays_paused_through_sigkill_and_sighup_until_it_is_resumed(tmp_path: Path) -> None:
    """Paused by the command beside the daemon, resumed over HTTP."""
    http = {"port": free_port(), "admin_token": "right"}
    two = {name: {"from": ["hooks"], "run": {"kind": "dry-run"}} for name in ("keep", "other")}
    async with daemon(tmp_path, _settings(routes=two, daemon={"http": http})) as process:
        assert await _queue(process, "pause", "keep") == "keep: paused\n"
        for number in range(5):
            assert await _post(process, number) == 200
        await _until(process, "other", "succeeded", 5)
        await process.kill()
        await asyncio.to_thread(process.start)
        await process.until_ready()
        os.kill(process.pid, signal.SIGHUP)
        await _until_said(process, "daemon.reloaded")
        assert await _post(process, 5) == 200
        await _until(process, "other", "succeeded", 6)
        assert await process.counts("keep") == {"queued": 6}
        assert "paused: keep since " in await _queue(process, "stats")
        async with (
            aiohttp.ClientSession(headers={"authorization": "Bearer right"}) as session,
            session.post(f"{process.url}/api/v1/routes/keep/resume") as reply,
        ):
            assert reply.status == 200
        await _until(process, "keep", "succeeded", 6)
        assert "paused" not in await _queue(process, "stats")
        assert process.tail().count('"event": "route.paused"') == 2


async def test_an_urgent_route_goes_first(tmp_path: Path) -> None:
    script = f'echo "$DCNIOS_ROUTE" >> {tmp_path}/ledger; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done'
    route = {"from": ["hooks"], "run": {"kind": "process", "script": script}}
    routes = {"bulk": route | {"weight": 100}, "urgent": route | {"priority": 1}}
    async with daemon(tmp_path, _settings(routes=routes, limits={"in_flight": 1})) as process:
        await _queue(process, "pause", "urgent")
        for number in range(5):
            assert await _post(process, number) == 200
        await _until(process, "bulk", "running", 1)
        await _queue(process, "resume", "urgent")
        (tmp_path / "go").touch()
        await _until(process, "bulk", "succeeded", 5)
    assert (tmp_path / "ledger").read_text().split() == ["bulk"] + ["urgent"] * 5 + ["bulk"] * 4


async def test_sighup_takes_new_routes_and_keeps_the_old_ones_when_the_file_is_wrong(tmp_path: Path) -> None:
    async with daemon(tmp_path, _settings()) as process:
        document = yaml.safe_load(process.config.read_text())
        document["routes"]["also"] = {"from": ["hooks"], "run": {"kind": "process", "script": "true"}}
        process.config.write_text(yaml.safe_dump(document))
        os.kill(process.pid, signal.SIGHUP)
        await _until_said(process, "daemon.reloaded")
        await _post(process, 1)
        await _until(process, "also", "succeeded", 1)
        process.config.write_text("routes: {keep: {from: [nowhere]}}")
        os.kill(process.pid, signal.SIGHUP)
        await _until_said(process, "daemon.reload_refused")
        assert await _post(process, 2) == 200
        await _until(process, "keep", "succeeded", 2)


@pytest.mark.parametrize("damage", [b"no database at all", b""])
async def test_a_journal_that_is_none(tmp_path: Path, damage: bytes) -> None:
    process = DaemonProcess(tmp_path, _settings())
    (tmp_path / "state").mkdir()
    (tmp_path / "state/journal.db").write_bytes(damage)
    await asyncio.to_thread(process.start)
    if damage:
        assert await process.wait() == 1
        assert "Traceback" not in process.tail()
        assert "journal.db" in process.tail()
        assert (tmp_path / "state/journal.db").read_bytes() == damage
    else:
        await process.until_ready()
        await process.kill()
