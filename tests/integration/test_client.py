"""The client beside a real daemon that is killed, restarted, and has things die."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dcnios_daemon.client import AsyncClient, Client, DeliveryDead, Refused
from tests.daemon import DaemonProcess, daemon, eventually, free_port


def _settings(folder: Path, script: str, **daemon_block: Any) -> dict[str, Any]:
    inbox = folder / "inbox"
    inbox.mkdir()
    return {
        "daemon": daemon_block,
        "sources": {"drop": {"kind": "directory", "path": str(inbox), "quiet": "0s"}},
        "routes": {
            "copy": {
                "from": ["drop"],
                "retry": {"backoff": "1s", "max_backoff": "1s", "attempts": 9},
                "run": {
                    "kind": "process",
                    "script": script,
                    "stage_in": True,
                    "stage_out": {"copies": {"to": f"file:{folder}/outbox/", "using": "drop"}},
                },
            }
        },
    }


async def _is_running(process: DaemonProcess) -> bool:
    return bool((await process.counts("copy")).get("running"))


@pytest.mark.timeout(300)
async def test_whoever_waits_sees_the_end_though_the_daemon_was_killed_meanwhile(tmp_path: Path) -> None:
    go = tmp_path / "go"
    wait_and_copy = f'while [ ! -e "{go}" ]; do sleep 0.1; done; cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/"'
    settings = _settings(tmp_path, wait_and_copy)
    async with daemon(tmp_path / "daemon", settings) as process:
        client, patient = AsyncClient(process.url), Client(process.url)
        upload = await client.expect("a.txt")
        assert await client.outputs("copy") == {"copies": f"file:{tmp_path}/outbox/"}
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(client.wait(upload, timeout=240))
            blocked = group.create_task(asyncio.to_thread(patient.wait, upload, timeout=240))
            (tmp_path / "inbox" / "a.txt").write_text("hello")
            await eventually(lambda: _is_running(process), "it runs", within=120)
            await process.kill()
            await asyncio.to_thread(process.start)
            await process.until_ready()
            go.touch()
        (delivery,) = waiting.result()
        assert blocked.result() == [delivery]
        assert (delivery.state, delivery.route) == ("succeeded", "copy")
        assert (tmp_path / "outbox" / "a.txt").read_text() == "hello"


@pytest.mark.timeout(300)
async def test_what_died_is_mended_replayed_and_waited_for_again(tmp_path: Path) -> None:
    mended, token = tmp_path / "mended", tmp_path / "token"
    token.write_text("right\n")
    script = f'test -e "{mended}" || {{ echo "no model yet" >&2; exit 7; }}'
    settings = _settings(tmp_path, script, http={"port": free_port(), "admin_token_file": str(token)})
    async with daemon(tmp_path / "daemon", settings) as process:
        client = AsyncClient(process.url, token_file=token)
        upload = await client.expect("a.txt", source="drop")
        (tmp_path / "inbox" / "a.txt").write_text("hello")
        with pytest.raises(DeliveryDead, match="no model yet") as died:
            await client.wait(upload, timeout=120)
        dead = died.value.delivery
        assert dead.outcome is not None
        assert dead.outcome.exit_code == 7
        assert await client.deliveries(state="dead") == [dead]
        with pytest.raises(Refused):
            await AsyncClient(process.url, token="wrong").replay(dead)
        mended.touch()
        await client.replay(dead)
        (delivery,) = await client.wait(upload, timeout=120)
        assert (delivery.id, delivery.attempt) == (dead.id, dead.attempt + 1)
