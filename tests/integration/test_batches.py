"""A batch with a bad event in it, from the webhook to real processes, with the daemon killed on the way."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.daemon import DaemonProcess, daemon, eventually, free_port

EVENTS, BAD = 10, 4
SCRIPT = """
printf '%s %s\\n' "$DCNIOS_ATTEMPT" "$(cat "$DCNIOS_EVENT_FILE")" >> {ledger}
{more}
if grep -q poison "$DCNIOS_EVENT_FILE"; then echo "cannot be read" >&2; exit 3; fi
"""
STUCK = 'if [ "$DCNIOS_ATTEMPT" = 1 ]; then sleep 600; fi'


def _runs(site: DaemonProcess) -> list[tuple[int, list[int]]]:
    """Attempt and events of each run, in the order in which they began."""
    ledger = site.folder / "ledger"
    runs = []
    for line in ledger.read_text().splitlines() if ledger.exists() else []:
        attempt, _, data = line.partition(" ")
        document = json.loads(data)
        runs.append((int(attempt), [event["n"] for event in document.get("events", [document])]))
    return runs


@contextlib.asynccontextmanager
async def _site(folder: Path, *, more: str = "", **route: Any) -> AsyncIterator[DaemonProcess]:
    """A daemon with one batch in its journal, which may go now."""
    keep = {
        "from": ["hooks"],
        "batch": {"size": EVENTS, "wait": "1s"},
        "retry": {"attempts": 1, "backoff": "10ms"},
        "run": {"kind": "process", "script": SCRIPT.format(ledger=folder / "ledger", more=more)},
    }
    settings = {
        "sources": {"hooks": {"kind": "cloudevents"}},
        "routes": {"keep": keep | route},
        "daemon": {"http": {"port": free_port(), "admin_token": "right"}},
    }
    async with daemon(folder, settings) as site:
        async with aiohttp.ClientSession(headers={"authorization": "Bearer right"}) as session:
            routes = f"{site.url}/api/v1/routes/keep"
            await session.post(f"{routes}/pause")
            for number in range(EVENTS):
                document = {"n": number} | ({"poison": True} if number == BAD else {})
                event = {"specversion": "1.0", "id": str(number), "source": "/t", "type": "t"}
                headers = {f"ce-{name}": value for name, value in event.items()}
                async with session.post(f"{site.url}/sources/hooks", headers=headers, json=document) as reply:
                    assert reply.status == 200
            await session.post(f"{routes}/resume")
        yield site


async def _all_ended(site: DaemonProcess) -> None:
    async def ended() -> bool:
        counts = await site.counts("keep")
        return counts.get("succeeded", 0) + counts.get("dead", 0) == EVENTS

    await eventually(ended, f"{EVENTS} ended", within=60)


async def _only_the_bad_one_is_dead(site: DaemonProcess, *, attempt: int = 2) -> None:
    counts = await site.counts("keep")
    assert (counts["succeeded"], counts["dead"]) == (EVENTS - 1, 1)
    [dead] = (await site.get("/api/v1/dead"))["dead"]
    outcome = dead["outcome"]
    assert (outcome["failure"], outcome["exit_code"], dead["attempt"]) == ("script", 3, attempt)
    assert outcome["log_tail"].strip() == "cannot be read"


async def test_the_good_events_of_a_bad_batch_run_again_alone_once(tmp_path: Path) -> None:
    async with _site(tmp_path) as site:
        await _all_ended(site)
        runs = _runs(site)
        assert runs[0] == (1, list(range(EVENTS)))
        assert sorted(runs[1:]) == [(2, [number]) for number in range(EVENTS)]
        await _only_the_bad_one_is_dead(site)


async def test_a_crash_while_the_batch_runs_makes_single_runs_of_it(tmp_path: Path) -> None:
    async with _site(tmp_path, more=STUCK) as site:

        async def begun() -> bool:
            return bool(_runs(site)) and (await site.counts("keep")).get("running") == EVENTS

        await eventually(begun, "the batch runs")
        await site.kill()
        await asyncio.to_thread(site.start)
        await site.until_ready()
        await _all_ended(site)
        runs = _runs(site)
        assert runs[0] == (1, list(range(EVENTS)))
        assert sorted(runs[1:]) == [(2, [number]) for number in range(EVENTS)]
        await _only_the_bad_one_is_dead(site)


@pytest.mark.parametrize("after", [2, 4, 7])
async def test_a_crash_between_the_single_runs_repeats_at_most_the_one_that_it_hit(
    tmp_path: Path, after: int
) -> None:
    slow = 'if [ "$DCNIOS_ATTEMPT" != 1 ]; then sleep 0.2; fi'
    policy = {"attempts": 5, "backoff": "10ms"}
    async with _site(tmp_path, more=slow, in_flight=1, retry=policy) as site:

        async def begun() -> bool:
            return len(_runs(site)) > after

        await eventually(begun, f"{after} single runs")
        await site.kill()
        await asyncio.to_thread(site.start)
        await site.until_ready()
        await _all_ended(site)
        runs = Counter((attempt, *events) for attempt, events in _runs(site))
        assert runs[1, *range(EVENTS)] == 1
        for number in range(EVENTS):
            assert runs[2, number] == 1
        again = [run for run in runs if run[0] > 2]
        assert len(again) <= 1, again
        assert max(runs.values()) == 1
        bad_again = (3, BAD) in runs
        await _only_the_bad_one_is_dead(site, attempt=3 if bad_again else 2)
