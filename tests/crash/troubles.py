"""Kills and outages, drawn by the seed: what goes wrong, when, and for how long."""

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

from tests.crash.feeds import Feeds, Pace
from tests.crash.site import REPEATED, Site
from tests.fakes.proxy import FaultyProxy
from tests.servers.process import Server

LIFE, LONGEST_LIFE = 3.0, 15.0
"""Seconds: the mean, and the most."""
OUTAGE, LONGEST_OUTAGE = 1.5, 6.0
LUMP = 4
"""The events of so many lives come at once: there must be a queue, else no limit is ever felt."""
SOME = 0.1
"""Of the answers: so few that requests go on, each in doubt or not."""
STAYS = 600.0
"""Seconds by which the clock may stay wrong: certificates and signatures are still believed."""
REWINDS = 5
"""How often the group is set back."""
_HOUR = 3600.0
_STATUS = (
    b'{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"%s","message":"a storm","code":%d}'
)


def _words(status: str, body: bytes = b"a storm\n", *headers: str) -> bytes:
    kind = "application/json" if body.startswith(b"{") else "text/plain"
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


_ANSWERS = {
    "500": _words("500 Internal Server Error"),
    "503": _words("503 Service Unavailable"),
    "429": _words("429 Too Many Requests", _STATUS % (b"TooManyRequests", 429), "Retry-After: 1"),
    "401": _words("401 Unauthorized", _STATUS % (b"Unauthorized", 401)),
}
_NETWORK = ("refused", "cut", "frozen", "slow", "lost answers", "truncated", "garbage", "half-open")


class Troubles:
    """Makes them.

    Args:
        site: Whose.
        feeds: Its Kafka group is set back while the daemon is away.
        pace: The events go along with the kills.
        kills: How many times the daemon is killed.
        outages: How many times something around it fails.
        dice: From the seed.
    """

    def __init__(
        self, site: Site, feeds: Feeds, pace: Pace, *, kills: int, outages: int, dice: random.Random
    ) -> None:
        self.done: Counter[str] = Counter()
        self.ended_by_itself: list[int] = []
        """Exit codes of lives that nobody ended."""
        self._site = site
        self._feeds = feeds
        self._pace = pace
        self._kills = kills
        self._dice = dice
        self._busy: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._outages = [self._draw() for _ in range(outages)]

    async def run(self) -> None:
        """Until all of them have been."""
        async with asyncio.TaskGroup() as group:
            for index, (about, make, seconds) in enumerate(self._outages):
                due = (index + self._dice.random()) / len(self._outages)
                group.create_task(self._outage(due, about, make, seconds), name=about)
            await self._kill()
        if not self._site.clock.missing:
            self._site.clock.set(0.0)

    # --- the daemon -------------------------------------------------------------------------------------

    async def _kill(self) -> None:
        rewinds = set(self._dice.sample(range(self._kills), min(REWINDS, self._kills)))
        for number in range(self._kills):
            await self._pace.allow((number // LUMP + 1) * LUMP / (self._kills + LUMP))
            await self._live(min(LONGEST_LIFE, self._dice.expovariate(1 / LIFE)))
            if self._dice.random() < 0.1:
                self.done["daemon: SIGTERM"] += 1
                await self._site.daemon.stop()
                await asyncio.to_thread(self._site.daemon.start)
                await self._live(self._dice.expovariate(1 / LIFE))
            self.done["daemon: SIGKILL"] += 1
            await self._site.daemon.kill()
            if number in rewinds:
                await self._rewind()
            elif self._dice.random() < 0.1:
                await asyncio.sleep(self._dice.uniform(0.5, 3))
            await asyncio.to_thread(self._site.daemon.start)
        await self._pace.allow(1.0)

    async def _live(self, seconds: float) -> None:
        """Let it live, perhaps stopped for a while; start it again whenever it ends by itself.

        Mostly the time counts from when it works, however busy the machine is; else any instant of its
        start may be its last.
        """
        if self._dice.random() < 0.75:
            await self._until_at_work()
        if self._dice.random() < 0.1:
            await asyncio.sleep(seconds / 2)
            self.done["daemon: stopped"] += 1
            os.kill(self._site.daemon.pid, signal.SIGSTOP)
            await asyncio.sleep(self._dice.uniform(0.2, 2))
            os.kill(self._site.daemon.pid, signal.SIGCONT)
            seconds /= 2
        await asyncio.sleep(seconds)
        await self.supervise()

    async def _until_at_work(self) -> None:
        place = self._site.daemon.log.stat().st_size
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_LIFE):
                while not await asyncio.to_thread(self._is_at_work, place):  # noqa: ASYNC110 - a process
                    await asyncio.sleep(0.1)

    def _is_at_work(self, place: int) -> bool:
        with self._site.daemon.log.open("rb") as log:
            log.seek(place)
            return b'"sink.watching"' in log.read()

    async def supervise(self) -> None:
        """As systemd would."""
        code = self._site.daemon.exit_code
        if code is not None:
            self.ended_by_itself.append(code)
            await asyncio.to_thread(self._site.daemon.start)

    async def _rewind(self) -> None:
        async with self._busy["kafka"]:
            self.done["kafka: group set back"] += 1
            await self._feeds.rewind(round(REPEATED / REWINDS * self._feeds.counts["frames"]))

    # --- what is around it ------------------------------------------------------------------------------

    async def _outage(
        self, due: float, about: str, make: Callable[[float], Awaitable[None]], seconds: float
    ) -> None:
        await self._pace.until(due)
        await asyncio.sleep(self._dice.uniform(0, LIFE * LUMP))
        async with self._busy[about.partition(":")[0]]:
            self.done[about] += 1
            await make(seconds)

    def _draw(self) -> tuple[str, Callable[[float], Awaitable[None]], float]:
        seconds = min(LONGEST_OUTAGE, 0.2 + self._dice.expovariate(1 / OUTAGE))
        name = self._dice.choices(
            ["cluster", "kafka", "minio", "dcache", "hooks", "disk", "clock"], [6, 3, 2, 2, 2, 2, 2]
        )[0]
        if name == "disk":
            return "disk: full", self._fill_disk, seconds
        if name == "clock":
            hours = self._dice.choice([-30, -2, 2, 30]) * self._dice.random()
            stays = self._dice.random() < 0.3
            return "clock: stepped", lambda seconds: self._step_clock(hours, seconds, stays=stays), seconds
        kinds = [*_NETWORK, "restarted", "server stopped"]
        if name == "cluster":
            kinds += ["lost answers"] * 2 + ["some answers lost"] * 6 + ["frozen"] * 2
        if name != "kafka":
            kinds += ["answered"] * 2
        kind = self._dice.choice(kinds)
        if name in {"hooks", "dcache"} and kind in {"restarted", "server stopped"}:
            kind = "restarted" if name == "dcache" else "cut"
        if kind == "answered":
            kind = self._dice.choice(list(_ANSWERS))
        return f"{name}: {kind}", lambda seconds: self._fail(name, kind, seconds), seconds

    async def _fail(self, name: str, kind: str, seconds: float) -> None:
        proxy = self._site.proxies[name]
        if kind == "restarted":
            await self._restart(name)
        elif kind == "server stopped":
            await _stop(self._server(name), seconds)
        elif kind == "cut":
            proxy.cut()
        elif kind == "refused":
            async with proxy.refusing():
                await asyncio.sleep(seconds)
        else:
            with _spoiling(proxy, kind):
                await asyncio.sleep(seconds)

    def _server(self, name: str) -> Server:
        servers: dict[str, Server] = {
            "cluster": self._site.api,
            "kafka": self._site.kafka,
            "minio": self._site.minio,
        }
        return servers[name]

    async def _restart(self, name: str) -> None:
        if name == "dcache":
            await self._site.dcache.restart(crash=self._dice.random() < 0.5)
            return
        server = self._server(name)
        await asyncio.to_thread(server.kill if self._dice.random() < 0.7 else server.stop)
        await asyncio.to_thread(server.start)

    async def _fill_disk(self, seconds: float) -> None:
        if self._site.disk.missing:
            return
        await asyncio.to_thread(self._site.disk.fill)
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(self._site.disk.free)

    async def _step_clock(self, hours: float, seconds: float, *, stays: bool) -> None:
        if self._site.clock.missing:
            return
        self._site.clock.set(hours * _HOUR)
        await asyncio.sleep(seconds)
        self._site.clock.set(STAYS if stays else 0.0)


def _spoiling(proxy: FaultyProxy, kind: str) -> AbstractContextManager[None]:
    if kind in _ANSWERS:
        return proxy.answering(_ANSWERS[kind])
    if kind == "slow":
        return proxy.slow(0.2)
    kinds: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "frozen": proxy.frozen,
        "lost answers": proxy.losing_answers,
        "some answers lost": lambda: proxy.losing_answers(SOME),
        "truncated": proxy.truncating,
        "garbage": proxy.garbling,
        "half-open": proxy.half_opening,
    }
    return kinds[kind]()


async def _stop(server: Server, seconds: float) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(server.pid, signal.SIGCONT)
