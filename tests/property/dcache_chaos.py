"""One seeded run of the dCache source against the fake frontend, in virtual time: what is done to both, and
what must come of it.

Everything is real but the network and the clock: HTTP is spoken in full, the waits are production's. What
users do, what goes wrong in dCache, and what happens to the daemon are drawn from the seed alone.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from dcnios_daemon.buffer.gate import WatermarkGate
from dcnios_daemon.core.event import Action
from dcnios_daemon.core.ports import Admission, Appended, Journal
from dcnios_daemon.core.routing import Router, Rule
from dcnios_daemon.sources.dcache.settings import DcacheSettings
from dcnios_daemon.sources.dcache.source import DcacheSource
from dcnios_daemon.sources.runner import SourceRunner
from tests.contract.source_rig import Ledger
from tests.fakes.dcache import FakeDcache, Switches
from tests.fakes.dcache.chaos import MISHAPS, SILENT, Chaos
from tests.fakes.dcache.namespace import Inode, NamespaceError
from tests.fakes.dcache.wire import Wire
from tests.property.dcache_users import DIRECTORIES, HAPPENINGS, OF_DIRECTORIES, Users
from tests.virtual import LoopClock

NAME = "detector"
PERIOD = 900.0
"""Between listings, in the runs that have losses which nothing tells of."""
SOON = 7200.0
"""Seconds in which all is found where every loss can be noticed; a refused login makes a source wait."""
_STEPS = (4, 10, 22)
_WATCHED = DIRECTORIES[:4]
_PAUSES = (0.0, 0.0, 0.1, 0.6, 4.0, 30.0, 150.0)


class OneLife:
    """The journal as one life of the daemon sees it: a dead one writes nothing any more."""

    def __init__(self, ledger: Ledger) -> None:
        self.is_over = False
        self._ledger = ledger

    async def cursor(self, source: str) -> str | None:
        """See Journal."""
        return await self._ledger.cursor(source)

    async def append(self, source: str, admissions: Sequence[Admission], cursor: str | None) -> Appended:
        """See Journal."""
        if self.is_over:
            await asyncio.Event().wait()
        return await self._ledger.append(source, admissions, cursor)


class Run:
    """One seed's run.

    Args:
        seed: Decides all. Every other one may have losses that nothing tells of, and lists on a period; every
            third watches directories one by one, which are not listed when the daemon comes back.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.silent = seed % 2 == 1
        self.flat = seed % 3 == 2
        self.journal = Ledger()
        self.log: list[str] = []
        self._dice = random.Random(f"run {seed}")
        self.wire = Wire(random.Random(f"wire {seed}"), slow=self._dice.choice([0.0, 0.05, 0.4]))
        self._chaos = self._some_chaos()
        self.dcache = FakeDcache(
            switches=Switches(
                standard_base64=self._dice.random() < 0.5,
                legacy_errors=self._dice.random() < 0.5,
                abort_leaves_entry=self._dice.random() < 0.5,
                expiry_scale=self._dice.choice([1.0, 0.001]),
                backlog=self._dice.choice([3, 20, 16_383]),
            ),
            chaos=self._chaos,
            seed=seed,
        )
        self.dcache.wire = self.wire
        self._users = Users(self.dcache, self._chaos, self._dice, say=self._say)
        self._users.may_change_directories = not self.flat
        self._happenings = [name for name in [*HAPPENINGS, *_OF_THE_DAEMON] if self._may_happen(name)]
        self._gate = WatermarkGate()
        self._life: asyncio.Task[None] | None = None
        self._this_life = OneLife(self.journal)
        self._runner: SourceRunner | None = None

    def _some_chaos(self) -> Chaos:
        """Few kinds of it or many: what one breaks another may mend, so that both are hidden."""
        kinds = sorted(MISHAPS if self.silent else MISHAPS - SILENT)
        count = self._dice.choice([1, 2, 4, len(kinds)])
        if count < len(kinds):
            kinds = self._dice.sample(kinds, count)
            kinds.append(self._dice.choice(("overflow", "leave a gap", "drop", "look incomplete")))
        rate, busy = self._dice.choice([0.1, 0.4, 0.7]), self._dice.choice([0.0, 0.02])
        return Chaos(self.seed, rate=rate, busy=busy, slow=1.2, mishaps=kinds)

    def _may_happen(self, name: str) -> bool:
        if self.flat and name in OF_DIRECTORIES:
            return False
        return name not in _OF_THE_DAEMON or self._dice.random() < 0.5

    # --- the verdict --------------------------------------------------------------------------------------

    async def play(self) -> list[str]:
        """Do all of it. Returns what is wrong in the end."""
        async with self.dcache, asyncio.TaskGroup() as group:
            for path in DIRECTORIES:
                self.dcache.storage.mkdir(path, parents=True)
            self._group = group
            await self._start()
            for _ in range(self._dice.choice(_STEPS)):
                await self._step()
            await self._end()
            wanted = self._wanted()
            await self._until_found(wanted)
            faults = self._faults(wanted)
            await self._stop()
        return faults

    async def _end(self) -> None:
        """Nothing goes wrong from here on; uploads under way come to their end."""
        self._say("calm")
        self._chaos.calm(self.dcache)
        self._gate.set(None)
        self._users.finish_all()
        if self._life is None:
            await self._start()

    async def _until_found(self, wanted: set[str]) -> None:
        within = SOON + (PERIOD if self.silent else 0.0)
        with contextlib.suppress(AssertionError):
            await self.journal.until(lambda: wanted <= set(self._given()), within=within)
        await asyncio.sleep(PERIOD + 200 if self.silent else 200)  # what should not come would come now

    def _wanted(self) -> set[str]:
        """Complete, and where we watch."""
        return {inode.pnfsid for inode in self._files() if self._is_watched(inode.path())}

    def _is_watched(self, path: str) -> bool:
        if self.flat:
            return path.rpartition("/")[0] in _WATCHED
        return path.startswith("/data/")

    def _files(self) -> list[Inode]:
        return [inode for inode in self.dcache.namespace.walk() if inode.size is not None]

    def _given(self) -> Counter[str]:
        events = [event for event in self.journal.events if event.action is Action.CREATED]
        return Counter(event.attributes["pnfsid"] for event in events)

    def _faults(self, wanted: set[str]) -> list[str]:
        given = self._given()
        faults = [f"lost: {max(self._users.paths[one])} {one}" for one in sorted(wanted - set(given))]
        faults += [f"given {count} times: {one}" for one, count in given.items() if count > 1]
        for event in self.journal.events:
            one = event.attributes["pnfsid"]
            if one not in self._users.ever_complete:
                faults.append(f"never complete: {event.subject} {one}")
            elif event.subject not in self._users.paths[one]:
                faults.append(f"never at {event.subject}: {one} was at {sorted(self._users.paths[one])}")
            elif not self._is_watched(event.subject):
                faults.append(f"not watched: {event.subject}")
        return faults

    def story(self) -> str:
        """What was done, for whom has to find out."""
        state = self._runner.status if self._runner is not None else None
        done = dict(self._chaos.done)
        return "\n".join(
            [*self.log, f"chaos: {done}", f"source: {state}", f"given: {len(self.journal.events)}"]
        )

    def _say(self, what: str) -> None:
        self.log.append(f"{asyncio.get_running_loop().time() - 5_000:9.3f}  {what}")

    # --- the daemon ---------------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._say("daemon starts")
        self._this_life = OneLife(self.journal)
        self._runner = SourceRunner(
            name=NAME,
            build=self._source,
            journal=cast("Journal", self._this_life),
            gate=self._gate,
            router=Router({"all": Rule(sources=frozenset({NAME}))}),
            clock=LoopClock(),
        )
        self._life = self._group.create_task(self._runner.run())
        await asyncio.sleep(self._dice.choice((0.0, 0.5, 8.0)))

    def _source(self) -> DcacheSource:
        settings = {
            "url": "http://dcache.test:3880",
            "watch": self._watches(),
            "username": "u",
            "password": "p",
            "reconcile": PERIOD if self.silent else 0,
        }
        checked = DcacheSettings.model_validate(settings)
        return DcacheSource(name=NAME, settings=checked, instance="test", clock=LoopClock())

    def _watches(self) -> dict[str, dict[str, object]]:
        if self.flat:
            return {f"w{number}": {"path": path} for number, path in enumerate(_WATCHED)}
        return {"data": {"path": "/data", "recursive": True}}

    async def _stop(self) -> None:
        self._say("daemon stops")
        await self._over()

    async def _kill(self) -> None:
        self._say("daemon is killed")
        self._this_life.is_over = True
        await self._over()

    async def _cut_power(self) -> None:
        self._say("daemon's machine loses power")
        self._this_life.is_over = True
        self.wire.cut()
        await self._over()

    async def _over(self) -> None:
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait({self._life})
        self._life = None

    # --- what happens -------------------------------------------------------------------------------------

    async def _step(self) -> None:
        weights = [HAPPENINGS[name][1] if name in HAPPENINGS else 3 for name in self._happenings]
        (name,) = self._dice.choices(self._happenings, weights)
        before = Counter(self._chaos.done)
        with contextlib.suppress(NamespaceError):
            if name in HAPPENINGS:
                await HAPPENINGS[name][0](self._users)
            else:
                await _OF_THE_DAEMON[name](self)
        if mishaps := self._chaos.done - before:
            self._say(f"  meanwhile: {dict(mishaps)}")
        await asyncio.sleep(self._dice.choice(_PAUSES))

    async def _restart_daemon(self) -> None:
        """Also in the middle of something."""
        for _ in range(self._dice.choice((0, 1, 3))):
            await self._users.upload()
            await asyncio.sleep(self._dice.choice((0.0, 0.4, 0.8)))
        await self._dice.choice((self._stop, self._kill, self._cut_power))()
        await asyncio.sleep(self._dice.choice((0.0, 5.0, 500.0)))
        for _ in range(self._dice.choice((0, 1, 5))):
            await self._users.upload()
        await self._start()

    async def _shut_gate(self) -> None:
        self._say("gate shut" if self._gate.reason is None else "gate open")
        self._gate.set("full" if self._gate.reason is None else None)
        await asyncio.sleep(0)


_OF_THE_DAEMON: dict[str, Callable[[Run], Awaitable[None]]] = {
    "restart": Run._restart_daemon,
    "gate": Run._shut_gate,
}
