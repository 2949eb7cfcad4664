"""The loop that every source runs in, at its edges: what goes wrong between two calls."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcnios_daemon.core.clock import iso
from dcnios_daemon.core.errors import (
    Disconnected,
    JournalCorrupt,
    JournalFull,
    JournalUnavailable,
    Malformed,
    Rejected,
)
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Batch, Inbound, Reply
from dcnios_daemon.core.routing import Router
from dcnios_daemon.sources import runner as runners
from dcnios_daemon.sources.admission import admit
from dcnios_daemon.sources.status import SourceState
from tests.contract.source_rig import NAME, Bench, Rig


def event(number: int, **more: Any) -> Event:
    fields: dict[str, Any] = {"subject": f"s/{number}", "time": 0.0} | more
    return Event(key=event_key(NAME, number), source=NAME, kind="script", action=Action.MESSAGE, **fields)


class Script:
    """A source that does what the test says, and writes down what is asked of it."""

    def __init__(self, rig: "ScriptRig") -> None:
        self.rig, self.said = rig, rig.said

    async def connect(self, cursor: str | None) -> None:
        self.said.append(f"connect {cursor}")
        await self.rig.step("connect")

    async def read(self) -> Batch:
        self.said.append("read")
        await self.rig.step("read")
        if not self.rig.batches:
            await asyncio.Event().wait()
        return self.rig.batches.pop(0)

    async def ack(self, batch: Batch) -> None:
        await self.rig.step("ack")
        self.said.append(f"ack {batch.cursor}")

    async def pause(self) -> None:
        self.said.append("pause")

    async def resume(self) -> None:
        self.said.append("resume")

    async def aclose(self) -> None:
        self.said.append("aclose")
        await self.rig.step("aclose")


class WorkingScript(Script):
    """And has work of its own, and a door."""

    async def work(self) -> None:
        await self.rig.step("work")
        await asyncio.Event().wait()

    async def receive(self, request: Inbound) -> Reply:
        if request.body == b"nonsense":
            raise Malformed("$.a: no b")
        return Reply(200)


class ScriptRig(Rig):
    def __init__(self, *batches: Batch) -> None:
        super().__init__()
        self.said: list[str] = []
        self.batches = list(batches)
        self.on: dict[str, list[Callable[[], Any]]] = {}
        """What the next calls of a method do first, in turn: raise, or return an awaitable."""

    async def step(self, name: str) -> None:
        if self.on.get(name):
            awaitable = self.on[name].pop(0)()
            if awaitable is not None:
                await awaitable

    def build(self) -> WorkingScript:
        return WorkingScript(self)

    async def happen(self, count: int) -> None: ...

    def identify(self, event: Event) -> str:
        return event.subject


def fails(error: Exception) -> Callable[[], Any]:
    def step() -> None:
        raise error

    return step


def hangs() -> Any:
    return asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(runners, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(runners, "CONNECT_WITHIN", 0.2)
    monkeypatch.setattr(runners, "FINISH_WITHIN", 0.1)


def batches(*cursors: str) -> Sequence[Batch]:
    return [Batch((event(number),), cursor) for number, cursor in enumerate(cursors)]


async def until(happy: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happy():  # noqa: ASYNC110 - what is watched calls nobody
            await asyncio.sleep(0.001)


async def test_the_upstream_is_told_only_after_the_journal_has_it() -> None:
    bench = Bench(rig := ScriptRig(*batches("1")))
    bench.journal.takes.clear()
    async with bench.running():
        await until(lambda: "read" in rig.said)
        await asyncio.sleep(0.02)
        assert "ack 1" not in rig.said
        bench.journal.takes.set()
        await until(lambda: "ack 1" in rig.said)
        assert [each.subject for each in bench.journal.events] == ["s/0"]


async def test_after_an_error_it_goes_on_from_the_stored_cursor() -> None:
    bench = Bench(rig := ScriptRig(*batches("1", "2")))
    rig.on["read"] = [lambda: None, lambda: None, fails(Disconnected("reset by peer"))]
    async with bench.running() as running:
        await until(lambda: rig.said.count("connect 2") == 1)
        assert rig.said[:2] == ["connect None", "read"]
        assert rig.said.index("aclose") < rig.said.index("connect 2")
        assert running.status.last_error == "reset by peer"
        assert running.status.accepted == 2
        await until(lambda: running.status.state is SourceState.CONNECTED)
        assert (running.status.error, running.status.trouble()) == ("", None), "it works again"


async def test_a_refused_source_says_why_and_is_tried_again_later_and_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[int] = []

    def pause(failures: int) -> float:
        pauses.append(failures)
        return 0.001

    monkeypatch.setattr(runners, "_pause", pause)
    bench = Bench(rig := ScriptRig())
    rig.on["connect"] = [fails(Rejected("no such topic: frames"))] * 4
    async with bench.running() as running:
        await until(lambda: running.status.trouble() == "failed: no such topic: frames")
        await until(lambda: running.status.state is SourceState.CONNECTED)
        assert running.status.trouble() is None
    assert pauses == [1, 2, 3, 4]


async def test_a_source_that_fails_after_each_batch_is_tried_later_and_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It connects, gives something, fails: a batch that went well says nothing of the next minute."""
    pauses: list[int] = []

    def pause(failures: int) -> float:
        pauses.append(failures)
        return 0.0

    monkeypatch.setattr(runners, "FIRST_PAUSE", 1.0)
    monkeypatch.setattr(runners, "LONGEST_PAUSE", 60.0)
    monkeypatch.setattr(runners, "_pause", pause)
    bench = Bench(rig := ScriptRig(*batches("1", "2", "3")))
    rig.on["read"] = [lambda: None, fails(Disconnected("500"))] * 3
    async with bench.running():
        await until(lambda: len(pauses) == 3)
    assert pauses == [1, 2, 3]
    assert len(bench.journal.events) == 3


async def test_a_source_that_was_well_for_long_enough_begins_at_the_first_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[int] = []

    def pause(failures: int) -> float:
        pauses.append(failures)
        return 0.0

    monkeypatch.setattr(runners, "_pause", pause)
    bench = Bench(rig := ScriptRig())
    rig.on["connect"] = [fails(Disconnected("refused"))] * 2
    rig.on["read"] = [lambda: asyncio.sleep(0.05), fails(Disconnected("gone"))]
    rig.batches = list(batches("1"))
    async with bench.running():
        await until(lambda: len(pauses) == 3)
    assert pauses == [1, 2, 1]


async def test_a_neighbour_that_asks_for_rest_gets_it_and_the_page_says_until_when() -> None:
    bench = Bench(rig := ScriptRig())
    changed = asyncio.Event()
    refused = Rejected("401", wait=100.0, longest=300.0, sooner=_waiting(changed))
    rig.on["connect"] = [fails(refused)] * 3
    async with bench.running() as running:
        for wait in (100, 200, 300):
            await until(lambda: running.status.again_at is not None)
            status = running.status
            assert status.again_at == pytest.approx(status.since + wait)
            status.again_at = None
            changed.set()
        await until(lambda: running.status.state is SourceState.CONNECTED)
        assert running.status.again_at is None


def _waiting(changed: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def sooner() -> None:
        await changed.wait()
        changed.clear()

    return sooner


async def test_a_source_that_hangs_while_connecting_is_given_up() -> None:
    bench = Bench(rig := ScriptRig())
    rig.on["connect"] = [hangs]
    async with bench.running() as running:
        await until(lambda: running.status.error != "")
        assert "connect within" in running.status.error
        await until(lambda: running.status.state is SourceState.CONNECTED)


async def test_an_error_in_a_sources_own_work_builds_it_anew() -> None:
    bench = Bench(rig := ScriptRig(*batches("1")))
    rig.on["work"] = [fails(Disconnected("the stream ended"))]
    async with bench.running() as running:
        await until(lambda: rig.said.count("aclose") == 1 and "ack 1" in rig.said)
        assert running.status.last_error == "the stream ended"


async def test_a_stop_in_the_middle_of_an_append_lets_it_end_and_acknowledges() -> None:
    bench = Bench(rig := ScriptRig(*batches("1", "2")))
    bench.journal.takes.clear()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.runner.run())
        await until(lambda: "read" in rig.said)
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
        bench.journal.takes.set()
    assert rig.said[-2:] == ["ack 1", "aclose"]
    assert bench.journal.cursors == {NAME: "1"}


async def test_a_stop_does_not_wait_for_ever_for_a_journal_that_hangs() -> None:
    bench = Bench(rig := ScriptRig(*batches("1")))
    bench.journal.takes.clear()
    async with asyncio.timeout(5), bench.running():
        await until(lambda: "read" in rig.said)
        await asyncio.sleep(0.01)
    assert rig.said[-1] == "aclose"
    assert not bench.journal.events


async def test_a_stop_while_the_journal_is_full_does_not_wait_for_room() -> None:
    bench = Bench(rig := ScriptRig(*batches("1")))
    bench.gate.set("full")
    async with asyncio.timeout(5), bench.running():
        await until(lambda: "pause" in rig.said)
    assert rig.said == ["connect None", "pause", "aclose"]


async def test_a_stop_at_the_moment_of_an_error_still_stops() -> None:
    """Before Python 3.13 a task group that breaks up while it is cancelled forgets the cancellation."""
    bench = Bench(rig := ScriptRig())
    broken = asyncio.Event()

    async def break_when_told() -> None:
        await broken.wait()
        raise Disconnected("just now")

    rig.on["work"] = [break_when_told]
    async with asyncio.timeout(5), bench.running():
        await until(lambda: "read" in rig.said)
        broken.set()
        await asyncio.sleep(0)
    assert rig.said.count("connect None") == 1


async def test_the_batch_in_hand_comes_before_anything_new_is_read() -> None:
    bench = Bench(rig := ScriptRig(*batches("1", "2")))
    bench.journal.refuse = [JournalFull("full"), JournalUnavailable("disk"), JournalFull("full")]
    async with bench.running():
        await until(lambda: "ack 2" in rig.said)
    assert rig.said == [
        *("connect None", "read", "pause", "ack 1", "resume"),
        *("read", "ack 2", "read", "aclose"),
    ]
    assert len(bench.journal.events) == 2


async def test_the_gate_interrupts_a_read_that_waits() -> None:
    bench = Bench(rig := ScriptRig())
    async with bench.running() as running:
        await until(lambda: "read" in rig.said)
        for _ in range(2):
            bench.gate.set("full")
            await until(lambda: running.status.state is SourceState.PAUSED)
            assert running.status.error == "full"
            bench.gate.set(None)
            await until(lambda: running.status.state is SourceState.CONNECTED)
            assert (running.status.error, running.status.last_error) == ("", "full")
        await until(lambda: rig.said.count("read") == 3)
    assert rig.said == ["connect None", *["read", "pause", "resume"] * 2, "read", "aclose"]


async def test_a_timeout_of_the_source_itself_is_an_error_like_any_other() -> None:
    bench = Bench(rig := ScriptRig())
    rig.on["read"] = [fails(TimeoutError("read timed out"))]
    async with bench.running() as running:
        await until(lambda: rig.said.count("connect None") == 2)
        assert running.status.last_error == "read timed out"


async def test_a_damaged_journal_ends_it() -> None:
    bench = Bench(ScriptRig(*batches("1")))
    bench.journal.refuse = [JournalCorrupt("page 7")]
    async with asyncio.timeout(5):
        with pytest.raises(JournalCorrupt, match="page 7"):
            await bench.runner.run()


async def test_a_source_that_cannot_be_closed_does_not_hide_why_it_was_closed() -> None:
    bench = Bench(rig := ScriptRig())
    rig.on = {"read": [fails(Disconnected("gone"))], "aclose": [fails(OSError("bad file descriptor")), hangs]}
    async with asyncio.timeout(5), bench.running() as running:
        await until(lambda: rig.said.count("connect None") == 2)
        assert running.status.last_error == "gone"


async def test_the_door_is_answered_whatever_state_the_source_is_in() -> None:
    bench = Bench(rig := ScriptRig())
    rig.on["connect"] = [fails(Disconnected("refused")), hangs]
    ask = Inbound("POST", {}, b"")
    before = await bench.receive(ask)
    assert (before.status, before.headers["retry-after"]) == (503, "5")
    async with bench.running() as running:
        await until(lambda: running.status.state is SourceState.FAILED)
        assert (await bench.receive(ask)).status == 503
        await until(lambda: running.status.state is SourceState.CONNECTED)
        assert (await bench.receive(ask)).status == 200
        refused = await bench.receive(Inbound("POST", {}, b"nonsense"))
        assert (refused.status, refused.body) == (400, "$.a: no b\n")
    assert (await bench.receive(ask)).status == 503


async def test_an_event_that_no_table_could_hold_is_accepted_and_holds_up_nobody() -> None:
    odd = event(0, subject="\udcff.dat", time=math.nan, size=2**80, attributes={"h": "\ud800"})
    bench = Bench(ScriptRig(Batch((odd, event(1)), "1")))
    async with bench.running():
        await bench.journal.until(lambda: len(bench.journal.events) == 2)
    kept = bench.journal.events[0]
    assert kept.key == odd.key
    assert (kept.subject, kept.size, kept.attributes) == ("\\udcff.dat", None, {"h": "\\ud800"})


anything = st.text(st.characters(codec=None))


@given(
    subject=anything,
    header=anything,
    value=anything,
    time=st.floats(),
    size=st.none() | st.integers(),
)
def test_whatever_a_source_says_can_be_kept(
    subject: str, header: str, value: str, time: float, size: int | None
) -> None:
    said = event(1, subject=subject, content_type=value, time=time, size=size, attributes={header: value})
    kept = admit(said, Router({}), now=1e9).event
    assert kept.key == said.key
    for text in (kept.subject, kept.content_type, *kept.attributes, *kept.attributes.values()):
        text.encode()
    iso(kept.time)
    assert kept.size is None or 0 <= kept.size < 2**63
