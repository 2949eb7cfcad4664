"""What the daemon relies on in every kind of source, under the runner that they all run in."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from dcnios_daemon.core.errors import JournalFull, JournalUnavailable
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Batch, Source
from dcnios_daemon.core.settings import Settings
from dcnios_daemon.sources import registry, runner
from dcnios_daemon.sources.registry import SourceKind
from dcnios_daemon.sources.status import SourceState
from tests.contract.source_rig import NAME, Bench, Rig
from tests.contract.source_rigs import RIGS


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.01)


@pytest_asyncio.fixture(params=RIGS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    rig = RIGS[request.param]()
    await rig.open()
    yield Bench(rig)
    await rig.close()


def test_every_kind_of_source_is_in_this_suite() -> None:
    assert set(registry.KINDS) <= set(RIGS), "add a rig to tests/contract/source_rigs.py"


async def test_each_happening_is_accepted_exactly_once(bench: Bench) -> None:
    await _all(bench, before=0, during=7)


async def test_what_happened_before_the_first_start_is_accepted(bench: Bench) -> None:
    await _all(bench, before=5, during=3)


async def _all(bench: Bench, *, before: int, during: int) -> None:
    async with asyncio.TaskGroup() as group:
        if bench.rig.push:  # comes again until there is somebody
            async with bench.running():
                await bench.rig.happen(before + during)
                await bench.all_accepted()
            return
        await bench.rig.happen(before)
        async with bench.running():
            group.create_task(bench.rig.happen(during))
            await bench.journal.until(lambda: len(bench.journal.events) == before + during)
            await bench.all_accepted()


async def test_what_is_told_again_is_known(bench: Bench) -> None:
    async with bench.running():
        await bench.rig.happen(4)
        await bench.all_accepted()
        await bench.rig.send_again()
        await bench.rig.happen(2)
        await bench.rig.send_again()
        await bench.all_accepted()


async def test_a_restart_loses_and_doubles_nothing(bench: Bench) -> None:
    async with bench.running():
        await bench.rig.happen(4)
        await bench.all_accepted()
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.rig.happen(3))  # while the daemon is away
        await asyncio.sleep(0)
        async with bench.running():
            await bench.journal.until(lambda: len(bench.journal.events) == 7)
            await bench.all_accepted()
            await bench.rig.happen(2)
            await bench.all_accepted()


async def test_the_cursor_does_not_grow_with_what_happened(bench: Bench) -> None:
    async with bench.running():
        await bench.rig.happen(30)
        await bench.all_accepted()
    assert len(bench.journal.cursors.get(NAME, "")) < 200


@pytest.mark.parametrize("seed", range(4))
async def test_stops_at_any_moment_lose_and_double_nothing(bench: Bench, seed: int) -> None:
    dice = random.Random(seed)
    async with asyncio.TaskGroup() as group:
        upstream = group.create_task(_keep_happening(bench.rig, 20))
        while not upstream.done():
            async with bench.running():
                for _ in range(dice.randrange(60)):
                    await asyncio.sleep(0)
                await asyncio.sleep(dice.random() * 0.02)
        async with bench.running():
            await bench.all_accepted()


async def _keep_happening(rig: Rig, count: int) -> None:
    for _ in range(count):
        await rig.happen(1)
        await asyncio.sleep(0.001)


async def test_errors_at_any_append_lose_and_double_nothing(bench: Bench) -> None:
    full, broken = JournalFull("full"), JournalUnavailable("no space left on device")
    async with bench.running() as running, asyncio.TaskGroup() as group:
        bench.journal.refuse = [full, broken, broken, full]
        group.create_task(bench.rig.happen(6))
        await bench.journal.until(lambda: len(bench.journal.events) == 6)
        await bench.all_accepted()
        assert not bench.journal.refuse
        assert running.status.last_error


async def test_while_the_gate_is_shut_nothing_is_accepted_and_afterwards_everything(bench: Bench) -> None:
    async with bench.running() as running, asyncio.TaskGroup() as group:
        await bench.rig.happen(2)
        await bench.all_accepted()
        bench.gate.set("1,000 of 1,000 events")
        await _until_state(running, SourceState.PAUSED)
        assert "1,000 of 1,000 events" in (running.status.trouble() or "")
        group.create_task(bench.rig.happen(3))
        await asyncio.sleep(0.1)
        assert len(bench.journal.events) == 2
        bench.gate.set(None)
        await bench.journal.until(lambda: len(bench.journal.events) == 5)
        await bench.all_accepted()
        assert running.status.state is SourceState.CONNECTED


async def _until_state(running: runner.SourceRunner, state: SourceState) -> None:
    async with asyncio.timeout(10):
        while running.status.state is not state:  # noqa: ASYNC110 - a status is looked at, it calls nobody
            await asyncio.sleep(0.001)


async def test_unreadable_input_holds_up_nothing(bench: Bench) -> None:
    async with bench.running() as running:
        await bench.rig.happen(2)
        await bench.rig.send_malformed()
        await bench.rig.happen(2)
        await bench.all_accepted()
        assert running.status.state is SourceState.CONNECTED


# --- a stranger's first source ------------------------------------------------------------------------


class TickSettings(Settings):
    """A source of ticks."""

    ticks: int


class TickSource:
    """Counts. All that a source must have."""

    def __init__(self, *, name: str, settings: TickSettings, instance: str) -> None:
        self._name, self._settings, self._tick = name, settings, 0

    async def connect(self, cursor: str | None) -> None:
        self._tick = int(cursor or 0)

    async def read(self) -> Batch:
        await asyncio.sleep(0 if self._tick < self._settings.ticks else 3600)
        self._tick += 1
        tick = Event(
            key=event_key(self._name, self._tick),
            source=self._name,
            kind="tick",
            subject=f"tick/{self._tick}",
            action=Action.MESSAGE,
            time=0.0,
        )
        return Batch((tick,), cursor=str(self._tick))

    async def ack(self, batch: Batch) -> None: ...
    async def pause(self) -> None: ...
    async def resume(self) -> None: ...
    async def aclose(self) -> None: ...


class TickRig(Rig):
    """Drives it through the registry, as the daemon does."""

    def build(self) -> Source:
        kind = registry.KINDS["tick"]
        return kind.build(name=NAME, settings=kind.settings.model_validate({"ticks": 3}), instance="test")

    async def happen(self, count: int) -> None:
        self.happened = [f"tick/{number}" for number in range(1, count + 1)]

    def identify(self, event: Event) -> str:
        return event.subject


async def test_a_new_source_is_one_file_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.KINDS, "tick", SourceKind(settings=TickSettings, build=TickSource))
    bench = Bench(TickRig())
    await bench.rig.happen(3)
    async with bench.running():
        await bench.all_accepted()
