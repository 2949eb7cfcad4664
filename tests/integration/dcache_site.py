"""A fake frontend with a bench beside it, for the tests of the dCache source."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from dcnios_daemon.core.event import Action
from dcnios_daemon.core.ports import Source
from dcnios_daemon.sources.dcache.source import DcacheSource
from dcnios_daemon.telemetry.metrics import REGISTRY
from tests.contract.dcache_rig import QUICK, DcacheRig, settings
from tests.contract.source_rig import NAME, Bench
from tests.fakes.dcache import FakeDcache, Switches


class Site(DcacheRig):
    """One daemon at one frontend; another site may share the frontend."""

    def __init__(self, dcache: FakeDcache | None = None, **more: Any) -> None:
        super().__init__()
        self.dcache = dcache or FakeDcache(switches=Switches(metronome_scale=0.1))
        self.more = more
        self.timing = QUICK
        self.bench = Bench(self)
        self.source: DcacheSource
        """The one that was built last."""

    def build(self) -> Source:
        """With what the test asks for."""
        self.source = DcacheSource(
            name=NAME, settings=settings(self.dcache, **self.more), instance="test", timing=self.timing
        )
        return self.source

    def created(self) -> list[str]:
        """The uploads in the journal."""
        return [event.subject for event in self.bench.journal.events if event.action is Action.CREATED]

    async def expect(self, *paths: str) -> None:
        """Exactly these uploads, once each."""
        await self.bench.journal.until(lambda: Counter(self.created()) >= Counter(paths))
        assert Counter(self.created()) == Counter(paths)

    async def listed(self) -> None:
        """Wait until all that is there has been listed and what was told is dealt with."""
        await self.bench.journal.until(lambda: '"listed":true' in self.cursor and '"id":' in self.cursor)

    @property
    def cursor(self) -> str:
        """What the journal has stored."""
        return self.bench.journal.cursors.get(NAME, "")

    @property
    def stored(self) -> dict[str, Any]:
        """The same, to be looked into."""
        decoded: dict[str, Any] = msgspec.json.decode(self.cursor or "{}")
        return decoded

    def count(self, call: str) -> int:
        """How often it was asked."""
        return self.dcache.requests.counts[call]


async def until(happy: Callable[[], bool], *, within: float = 20) -> None:
    """Wait for what calls nobody."""
    async with asyncio.timeout(within):
        while not happy():  # noqa: ASYNC110 - it calls nobody
            await asyncio.sleep(0.005)


def relists(cause: str) -> float:
    """How often everything was listed because of it."""
    labels = {"source": NAME, "cause": cause}
    return REGISTRY.get_sample_value("dcnios_source_relists_total", labels) or 0.0
