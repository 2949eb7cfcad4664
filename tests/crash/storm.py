"""One storm: events from all sources, kills and outages, a calm, an afterlife, and the reckoning.

After the calm, when every event has its Job, all Jobs are let go as if their time to be kept were over, and
a tenth of everything is told again: nothing may come of it.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from tests.crash.controller import MARK, Controller
from tests.crash.feeds import Feeds, Pace
from tests.crash.ledger import Creation, Ledger
from tests.crash.site import LIMITS, NAMESPACE, REPEATED, Site
from tests.crash.troubles import Troubles
from tests.servers.workspace import Workspace

STORM_SECONDS, SECONDS_PER_KILL = 300.0, 30.0
CALM_SECONDS = 300.0
"""In which everything that was accepted must be done with, when nothing fails any more."""
AFTERLIFE_SECONDS = 120.0
RUN_SECONDS = 1.5
_SILENT = 3.0
"""Seconds in which nothing new may come before we believe that nothing comes."""
_OF_THE_END = frozenset({"lost", "invented", "harness"})
"""Violations that can only be told when all is over."""
_OPEN = ("queued", "submitting", "running")


@dataclass(frozen=True)
class Plan:
    """How large a storm."""

    seed: int
    kills: int
    outages: int
    events: int


class StuckError(AssertionError):
    """Not everything was done with in time."""


class Storm:
    """Use :meth:`run` once.

    Args:
        site: The servers and the daemon.
        plan: How large it is.
    """

    def __init__(self, site: Site, plan: Plan) -> None:
        self.site = site
        self.plan = plan
        pace = Pace()
        self.feeds = Feeds(site, events=plan.events, pace=pace, dice=_dice(plan, "feeds"))
        self.troubles = Troubles(
            site, self.feeds, pace, kills=plan.kills, outages=plan.outages, dice=_dice(plan, "troubles")
        )
        self.controller = Controller(
            site.access, NAMESPACE, dice=_dice(plan, "cluster"), run_seconds=RUN_SECONDS
        )
        self.dead: Counter[str] = Counter()
        """Why deliveries were dead in the end, before they were replayed."""
        self._replayed: set[str] = set()
        self._still_dead: set[str] = set()
        self._stuck: list[str] = []
        self._began = time.monotonic()

    async def run(self) -> dict[str, Any]:
        """All of it. Returns the ledger, as JSON."""
        async with asyncio.TaskGroup() as group:
            controller = group.create_task(self.controller.run())
            try:
                await self._unless_doubled()
            finally:
                controller.cancel()
        return self._reckon()

    async def _unless_doubled(self) -> None:
        """To the end, or to the first Job that should not be."""
        async with asyncio.TaskGroup() as group:
            whole = group.create_task(self._whole())
            alarm = group.create_task(self.controller.doubled.wait())
            await asyncio.wait({whole, alarm}, return_when=asyncio.FIRST_COMPLETED)
            whole.cancel()
            alarm.cancel()

    async def _whole(self) -> None:
        try:
            await self._storm()
            await self._calm()
            await self._afterlife()
        except StuckError as error:
            self._stuck.append(str(error))

    async def _storm(self) -> None:
        await asyncio.to_thread(self.site.daemon.start)
        await self.feeds.prepare()
        await self.site.daemon.until_ready()
        longest = STORM_SECONDS + SECONDS_PER_KILL * self.plan.kills
        try:
            async with asyncio.timeout(longest), asyncio.TaskGroup() as group:
                group.create_task(self.feeds.run())
                await self.troubles.run()
        except TimeoutError as error:
            happened = len(self.feeds.happened)
            raise StuckError(f"after {longest:g} s only {happened} events had happened") from error

    async def _calm(self) -> None:
        """Everything comes to its end; what is dead is replayed, as an operator would."""
        await self.feeds.count_frames()
        for _ in range(3):
            await self._until(self._is_done, CALM_SECONDS, "all deliveries to be done")
            dead = await asyncio.to_thread(self._queue, "dead", "--limit", "100000")
            self._still_dead = {await self._mark_of(item) for item in dead}
            if not dead:
                return
            self.dead.update(_why(item) for item in dead)
            self._replayed |= self._still_dead
            await asyncio.to_thread(self._queue, "replay", "--all")

    async def _afterlife(self) -> None:
        """No Job is left to be found: only the journal can know that all this has been."""
        await self.controller.forget_all()
        await self.site.daemon.kill()
        await self.feeds.rewind(round(REPEATED * self.feeds.counts["frames"]))
        heard = self.site.daemon.log.stat().st_size
        await asyncio.to_thread(self.site.daemon.start)
        await self.feeds.repeat_at_the_end()

        async def told_again() -> bool:
            lines = [line for line in self._log_after(heard).splitlines() if b"source.relisted" in line]
            listed = all(any(name in line for line in lines) for name in (b"uploads", b"detector"))
            return listed and await self.feeds.lag() == 0 and await self._is_done()

        await self._until(told_again, AFTERLIFE_SECONDS, "what is told again to be known")
        await asyncio.sleep(_SILENT)

    # --- looking ----------------------------------------------------------------------------------------

    async def _until(self, holds: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
        last = time.monotonic() + seconds
        while not await holds():
            if time.monotonic() > last:
                raise StuckError(f"not within {seconds:g} s: {what}: {await self._status()}")
            await self.troubles.supervise()
            await asyncio.sleep(0.3)

    async def _status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = (await self.site.daemon.get("/api/v1/status"))["journal"]["deliveries"]
        except (aiohttp.ClientError, OSError, TimeoutError, KeyError):
            return {}
        return found

    async def _is_done(self) -> bool:
        routes = await self._status()
        for route in self.feeds.counts:
            counts = routes.get(route, {})
            expected = sum(n for mark, n in self.feeds.happened.items() if mark.startswith(f"{route}-"))
            settled = counts.get("succeeded", 0) + counts.get("dead", 0)
            if settled < expected or any(counts.get(state) for state in _OPEN):
                return False
        return True

    def _log_after(self, place: int) -> bytes:
        with self.site.daemon.log.open("rb") as log:
            log.seek(place)
            return log.read()

    def _queue(self, *words: str) -> list[dict[str, Any]]:
        """A ``dcnios queue`` command."""
        command = [sys.executable, "-m", "dcnios_daemon", "queue", *words, "--json"]
        command += ["--config", str(self.site.daemon.config)]
        out = subprocess.run(command, cwd=self.site.folder, capture_output=True, check=True).stdout
        found = json.loads(out)
        return found if isinstance(found, list) else []

    async def _mark_of(self, item: dict[str, Any]) -> str:
        shown = await self.site.daemon.get(f"/api/v1/events/{item['key']}")
        found = MARK.search(json.dumps(shown))
        return found.group() if found else item["key"]

    # --- the reckoning ----------------------------------------------------------------------------------

    def _reckon(self) -> dict[str, Any]:
        ledger = Ledger(
            happened=self.feeds.happened,
            jobs=list(self.controller.jobs.values()),
            creations=list(creations(self.site.audit)),
            limits=LIMITS,
            dead=frozenset(self._still_dead),
            replayed=frozenset(self._replayed),
        )
        found = ledger.judge()
        if self.controller.doubled.is_set():  # it was stopped: nobody knows what had become of the rest
            found = {kind: each for kind, each in found.items() if kind not in _OF_THE_END}
        if self._stuck:
            found["stuck"] = self._stuck
        if self.troubles.ended_by_itself:
            found["ended by itself"] = [f"with {code}" for code in self.troubles.ended_by_itself]
        happened: Counter[str] = Counter()
        for mark, count in self.feeds.happened.items():
            happened[mark.rpartition("-")[0]] += count
        self.feeds.acknowledged["uploads"] = self.site.relay.told
        return {
            "seed": self.plan.seed,
            "seconds": round(time.monotonic() - self._began),
            "kills": self.troubles.done["daemon: SIGKILL"],
            "outages": sum(n for about, n in self.troubles.done.items() if not about.startswith("daemon")),
            "happened": dict(happened),
            "acknowledged": dict(self.feeds.acknowledged),
            "repeated": dict(self.feeds.repeated),
            "troubles": dict(sorted(self.troubles.done.items())),
            "left_out": [part.missing for part in (self.site.disk, self.site.clock) if part.missing],
            "given_up_and_replayed": dict(self.dead),
            **ledger.figures(),
            "violations": found,
        }


def creations(folder: Path) -> Iterator[Creation]:
    """Every Job that was created, by the API server's audit log, which may be in several files."""
    for file in folder.iterdir():
        with file.open("rb") as log:
            for line in log:
                if b'"verb":"create"' not in line or b'"resource":"jobs"' not in line:
                    continue
                entry = json.loads(line)
                code = entry["responseStatus"]["code"]
                if code == 201 or code >= 500:
                    received = datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp()
                    yield Creation(_name(entry), received, is_sure=code == 201)


def _name(entry: dict[str, Any]) -> str:
    return str(entry["objectRef"]["name"])


def _why(item: dict[str, Any]) -> str:
    outcome = item.get("outcome") or {}
    return f"{outcome.get('failure')}: {outcome.get('reason')}"


def _dice(plan: Plan, what: str) -> random.Random:
    return random.Random(f"{plan.seed} {what}")


async def weather(plan: Plan, folder: Path) -> dict[str, Any]:
    """Make the servers and the storm. Returns the ledger; leaves journal, log and ledger in the folder."""
    with Workspace() as space:
        async with Site(space, folder, dice=_dice(plan, "relay"), events=plan.events) as site:
            try:
                ledger = await Storm(site, plan).run()
            finally:
                if site.daemon.lives:
                    await site.daemon.kill()
                await asyncio.to_thread(_save, site, folder)
    (folder / "ledger.json").write_text(json.dumps(ledger, indent=2) + "\n")
    return ledger


def _save(site: Site, folder: Path) -> None:
    """Whatever somebody may want to look at afterwards."""
    for path in (*site.disk.path.glob("journal.db*"), *site.audit.iterdir()):
        target = folder / (f"audit-{path.name}" if path.parent == site.audit else path.name)
        target.write_bytes(path.read_bytes())
