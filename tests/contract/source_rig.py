"""What the contract suite needs to drive a kind of source: a rig that plays its upstream."""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import cast

from dcnios_daemon.buffer.gate import WatermarkGate
from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import JournalError
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Admission, Appended, Inbound, Journal, Reply, Source
from dcnios_daemon.core.routing import Router, Rule
from dcnios_daemon.sources.runner import SourceRunner

NAME = "under-test"
Door = Callable[[Inbound], Awaitable[Reply]]


class Rig(ABC):
    """Plays the upstream of one kind of source. What happened is remembered as texts that
    :meth:`identify` finds again in the events."""

    push = False
    """Whether the source is told over HTTP."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.door: Door
        """Leads to the source: set before anything happens."""

    async def open(self) -> None:
        """Start what is needed."""
        await asyncio.sleep(0)

    async def close(self) -> None:
        """End it."""
        await asyncio.sleep(0)

    @abstractmethod
    def build(self) -> Source:
        """A new source on this upstream, as the registry would build it."""

    @abstractmethod
    async def happen(self, count: int) -> None:
        """So many new things happen. A push upstream comes again until it is answered 2xx."""

    async def send_again(self) -> None:
        """The upstream tells once more of all that happened (where it can)."""
        await asyncio.sleep(0)

    async def send_malformed(self) -> None:
        """The upstream sends something unreadable (where it can); a refusal is its business."""
        await asyncio.sleep(0)

    @abstractmethod
    def identify(self, event: Event) -> str:
        """Which of the happenings the event is."""

    async def insist(self, request: Inbound) -> None:
        """Post until it is taken, as a webhook with a queue does."""
        while (reply := await self.door(request)).status != 200:
            assert reply.status == 503, reply
            assert "retry-after" in reply.headers
            await asyncio.sleep(0.005)


class Ledger:
    """The part of a journal that sources meet, with switches for what can go wrong."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.keys: set[str] = set()
        self.duplicates = 0
        self.cursors: dict[str, str] = {}
        self.ends: dict[str, bool] = {}
        """Events whose deliveries have ended, and whether well."""
        self.commits: list[str | None] = []
        """The cursor of each append."""
        self.refuse: list[JournalError] = []
        """Raised by the next appends, in turn."""
        self.takes = asyncio.Event()
        """Cleared: appends hang."""
        self.takes.set()
        self._changed = asyncio.Condition()

    async def cursor(self, source: str) -> str | None:
        """The last stored cursor."""
        await asyncio.sleep(0)
        return self.cursors.get(source)

    async def append(self, source: str, admissions: Sequence[Admission], cursor: str | None) -> Appended:
        """Takes some turns of the loop, then all at once, like a commit."""
        await self.takes.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        if self.refuse:
            raise self.refuse.pop(0)
        new = [one.event for one in admissions if one.event.key not in self.keys]
        new = list({event.key: event for event in new}.values())
        self.events += new
        self.keys |= {event.key for event in new}
        self.duplicates += len(admissions) - len(new)
        self.commits.append(cursor)
        if cursor is not None:
            self.cursors[source] = cursor
        async with self._changed:
            self._changed.notify_all()
        return Appended(len(new), len(admissions) - len(new))

    async def ended(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """What a test says of it."""
        await asyncio.sleep(0)
        return {key: self.ends[key] for key in keys if key in self.ends}

    async def until(self, happy: Callable[[], bool], *, within: float = 20) -> None:
        """Wait for appends until it is so."""
        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(happy)
        except TimeoutError:
            raise AssertionError(f"not within {within} s; accepted: {self.events}") from None


class Bench:
    """A source under the runner, its upstream and its journal; can be stopped and started like a daemon."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.journal = Ledger()
        self.gate = WatermarkGate()
        self.router = Router({"all": Rule(sources=frozenset({NAME}))})
        self.runner = self._new_runner()
        rig.door = self.receive

    async def receive(self, request: Inbound) -> Reply:
        """What the web server would call."""
        return await self.runner.receive(request)

    def _new_runner(self) -> SourceRunner:
        return SourceRunner(
            name=NAME,
            build=self.rig.build,
            journal=cast("Journal", self.journal),
            gate=self.gate,
            router=self.router,
            clock=SystemClock(),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SourceRunner]:
        """One life of the daemon; cancelled at the end, as SIGTERM does."""
        self.runner = self._new_runner()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.runner.run())
            try:
                yield self.runner
            finally:
                task.cancel()

    async def all_accepted(self) -> None:
        """Wait until all that happened is in the journal, and see that nothing is there twice."""
        await self.journal.until(lambda: self._accepted() >= Counter(self.rig.happened))
        assert self._accepted() == Counter(self.rig.happened)

    def _accepted(self) -> Counter[str]:
        return Counter(map(self.rig.identify, self.journal.events))
