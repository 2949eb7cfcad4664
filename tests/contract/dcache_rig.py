"""The rig that drives the dCache source, on the fake frontend."""

import asyncio

from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Source
from dcnios_daemon.sources.dcache.settings import DcacheSettings
from dcnios_daemon.sources.dcache.source import DcacheSource
from dcnios_daemon.sources.dcache.timing import Timing
from tests.contract.source_rig import NAME, Rig
from tests.fakes.dcache import FakeDcache, Switches

QUICK = Timing(
    beat=1,
    settle=0.02,
    grace=0.02,
    look_again=0.02,
    longest_look=0.1,
    patience=5.0,
    rest=0.02,
    retry=0.1,
    rate=10_000.0,
    store=0.1,
)


def settings(dcache: FakeDcache, **more: object) -> DcacheSettings:
    """A recursive watch of /data."""
    watch = {"data": {"path": "/data", "recursive": True}}
    given = {"url": dcache.url, "watch": watch, "username": "u", "password": "p", "reconcile": 0}
    return DcacheSettings.model_validate(given | more)


class DcacheRig(Rig):
    """Uploads of all sorts into directories that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.dcache = FakeDcache(switches=Switches(early_404=1, stale_stats=1))

    async def open(self) -> None:
        """Start it."""
        await self.dcache.start()
        await self.dcache.mkdir("/data/there")

    async def close(self) -> None:
        """Stop it."""
        await self.dcache.stop()

    def build(self) -> Source:
        """In no time at all."""
        return DcacheSource(name=NAME, settings=settings(self.dcache), instance="test", timing=QUICK)

    async def happen(self, count: int) -> None:
        """By a door, by SRM, under a temporary name, into a new directory; some are broken off."""
        for _ in range(count):
            number = len(self.happened)
            path = f"/data/{('there', 'new', f'new/{number}')[number % 3]}/file {number} é%2F+#"
            self.happened.append(path)
            await (self._door, self._srm, self._renamed, self._after_a_break)[number % 4](path)

    async def _door(self, path: str) -> None:
        await self.dcache.upload(path)

    async def _srm(self, path: str) -> None:
        await self.dcache.upload_srm(path)

    async def _renamed(self, path: str) -> None:
        await self.dcache.upload(f"{path}.part")
        await self.dcache.move(f"{path}.part", path)

    async def _after_a_break(self, path: str) -> None:
        await self.dcache.abort_upload(path)
        await self.dcache.upload(path)

    async def send_again(self) -> None:
        """An overflow makes the source list everything."""
        self.dcache.overflow()
        await asyncio.sleep(0)

    async def send_malformed(self) -> None:
        """What no dCache would send."""
        for channel in self.dcache.registrar.all():
            if channel.sink is not None:
                await channel.sink.send(b"event: inotify\nid: seven\ndata: {\n\n", numbered=False)
                await channel.sink.send(b"event: SYSTEM\ndata: []\n\nnonsense\n\n", numbered=False)

    def identify(self, event: Event) -> str:
        """The path."""
        return event.subject
