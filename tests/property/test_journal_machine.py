"""Any sequence of calls, crashes included: both journals agree with each other and with a plain model.

The model knows which deliveries exist and in which state; of what is claimed it checks that it may be, and
that both journals choose the same.
"""

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dcnios_daemon.buffer.fsck import fsck
from dcnios_daemon.buffer.journal import SqliteJournal
from dcnios_daemon.core.errors import JournalFull
from dcnios_daemon.core.names import order_name
from dcnios_daemon.core.ports import (
    Admission,
    Appended,
    Claim,
    Dead,
    Delivery,
    Outcome,
    Retry,
    State,
    Stats,
    Succeed,
)
from tests.clocks import ManualClock
from tests.contract.journal_rig import make_event, make_journal
from tests.fakes.memory_journal import MemoryJournal

DEDUPE_FOR = 50.0
MAX_EVENTS = 12
HISTORY = 6
ROUTES = ("a", "b")
T = TypeVar("T")

some_numbers = st.lists(st.integers(0, 30), max_size=5)
some_routes = st.lists(st.sampled_from(ROUTES), max_size=2, unique=True)
a_pause = st.sampled_from([None, 0.0, 5.0, 20.0])
picks = st.lists(st.integers(0, 40), min_size=1, max_size=4)


class Delivered(msgspec.Struct):
    """A delivery as the model knows it."""

    id: int
    number: int
    route: str
    state: State = State.QUEUED
    attempt: int = 1
    order: str = ""
    due: float = 0.0


def _rounded(one: Any) -> Any:
    """A file's own time runs ahead by the least that there is at each transaction."""
    if isinstance(one, Delivery) and one.retry_at is not None:
        return msgspec.structs.replace(one, retry_at=round(one.retry_at, 6))
    if isinstance(one, Stats):
        return msgspec.structs.replace(one, log_bytes=0)  # only a file has a log
    return one


class JournalMachine(RuleBasedStateMachine):
    """Both journals in step, and the model beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="journal-"))
        self.lives = 0
        self.clock = ManualClock()
        self.memory = self._make("memory")
        self.sqlite = self._make("sqlite")
        self._run(self.memory.open())
        self._run(self.sqlite.open())
        self.deliveries: dict[int, Delivered] = {}
        self.forget_at: dict[int, float] = {}
        """Event number to when its key is forgotten; infinite while it is not settled."""
        self.since: dict[int, float] = {}
        """Event number to when it was accepted or renewed."""
        self.unrouted: set[int] = set()
        self.done: Counter[tuple[str, State]] = Counter()
        self.next = 1
        self.full = False
        self.duplicates = 0
        self.cursor: str | None = None
        self.paused: dict[str, float] = {}

    def _make(self, kind: str) -> Any:
        path = self.folder / f"life-{self.lives}" / "journal.db"
        return make_journal(
            kind, path, self.clock, max_events=MAX_EVENTS, dedupe_for=DEDUPE_FOR, history=HISTORY
        )

    def _run(self, call: Awaitable[T]) -> T:
        async def wrapped() -> T:
            return await call

        return self.runner.run(wrapped())

    def _both(self, name: str, *arguments: Any, **more: Any) -> Any:
        said = [self._said(journal, name, *arguments, **more) for journal in (self.sqlite, self.memory)]
        assert said[0] == said[1], (name, said)
        return said[0]

    def _said(self, journal: SqliteJournal | MemoryJournal, name: str, *arguments: Any, **more: Any) -> Any:
        try:
            said = self._run(getattr(journal, name)(*arguments, **more))
        except JournalFull:
            return JournalFull
        if isinstance(said, Sequence) and not isinstance(said, str):
            return [_rounded(one) for one in said]
        return _rounded(said)

    # -- the model's own reckoning ----------------------------------------------------------------------

    def _due(self, pause: float | None) -> float:
        return self.clock.now() + (pause or 0.0)

    def _open_events(self) -> set[int]:
        return {number for number, at in self.forget_at.items() if at == float("inf")}

    def _settle(self, one: Delivered, state: State) -> None:
        self.done[one.route, state] += 1
        del self.deliveries[one.id]
        if not any(other.number == one.number for other in self.deliveries.values()):
            self.forget_at[one.number] = self.clock.now() + DEDUPE_FOR
        self._level()

    def _level(self) -> None:
        level = len(self._open_events())
        self.full = level >= MAX_EVENTS or (self.full and level > MAX_EVENTS / 2)

    def _some(self, chosen: list[int], *states: State) -> list[Delivered]:
        """Some of those in these states, by luck."""
        there = [one for one in self.deliveries.values() if one.state in states]
        return [there[n % len(there)] for n in dict.fromkeys(n % len(there) for n in chosen)] if there else []

    # -- what happens -----------------------------------------------------------------------------------

    @rule(numbers=some_numbers, routes=some_routes)
    def append(self, numbers: list[int], routes: list[str]) -> None:
        admissions = [Admission(make_event(number), tuple(routes)) for number in numbers]
        cursor = f"{numbers}"
        said = self._both("append", "uploads", admissions, cursor)
        if self.full:
            assert said is JournalFull
            return
        new = [number for number in dict.fromkeys(numbers) if self._is_new(number, routes)]
        assert said == Appended(accepted=len(new), duplicates=len(numbers) - len(new))
        self.cursor = cursor
        self.duplicates += said.duplicates
        for number in dict.fromkeys(numbers):
            if number in new:
                self._accept(number, routes)
            else:
                self._meet_again(number)
        self._level()

    def _is_new(self, number: int, routes: list[str]) -> bool:
        forgotten = self.forget_at.get(number, 0) <= self.clock.now()
        return forgotten or (number in self.unrouted and bool(routes))

    def _meet_again(self, number: int) -> None:
        due = self.since[number] + DEDUPE_FOR / 2
        if number not in self._open_events() and due <= self.clock.now():
            self.since[number] = self.clock.now()
            self.forget_at[number] = self.clock.now() + DEDUPE_FOR

    def _accept(self, number: int, routes: list[str]) -> None:
        self.since[number] = self.clock.now()
        (self.unrouted.discard if routes else self.unrouted.add)(number)
        for route in routes:
            self.deliveries[self.next] = Delivered(id=self.next, number=number, route=route)
            self.next += 1
        self.forget_at[number] = float("inf") if routes else self.clock.now() + DEDUPE_FOR
        if not routes:
            self.next += 1
            self.done["", State.UNROUTED] += 1

    @rule(route=st.sampled_from(ROUTES), orders=st.integers(0, 4), batch=st.sampled_from([1, 1, 3]))
    def claim(self, route: str, orders: int, batch: int) -> None:
        claims: list[Claim] = self._both("claim", route, orders, batch=batch)
        may = {
            one.id
            for one in self.deliveries.values()
            if one.route == route and one.state is State.QUEUED and one.due <= self.clock.now()
            if route not in self.paused
        }
        taken = [claim.delivery for claim in claims]
        assert set(taken) <= may
        assert len(set(taken)) == len(taken)
        assert len({claim.order for claim in claims}) <= orders
        if may and orders:
            assert taken[0] == min(may)
        for claim in claims:
            self._claimed(claim, alone=sum(other.order == claim.order for other in claims) == 1)

    def _claimed(self, claim: Claim, *, alone: bool) -> None:
        one = self.deliveries[claim.delivery]
        assert claim.event == make_event(one.number)
        assert claim.attempt == one.attempt
        assert alone or one.attempt == 1
        if alone:
            assert claim.order == order_name(one.route, claim.event.key, one.attempt)
        one.state, one.order = State.SUBMITTING, claim.order

    @rule(chosen=picks)
    def started(self, chosen: list[int]) -> None:
        some = self._some(chosen, State.SUBMITTING, State.RUNNING, State.QUEUED)
        self._both("started", [one.id for one in some])
        for one in some:
            if one.state is State.SUBMITTING:
                one.state = State.RUNNING

    @rule(chosen=picks, pause=a_pause)
    def release(self, chosen: list[int], pause: float | None) -> None:
        some = self._some(chosen, *State)
        self._both("release", [one.id for one in some], after=pause, note="later")
        for one in some:
            if one.state in {State.SUBMITTING, State.RUNNING}:
                one.state, one.due = State.QUEUED, self._due(pause)

    @rule(chosen=picks)
    def release_an_order(self, chosen: list[int]) -> None:
        orders = {one.order for one in self._some(chosen[:1], State.SUBMITTING)}
        whole = [one for one in self.deliveries.values() if one.order in orders and one.order]
        flying = [one for one in whole if one.state in {State.SUBMITTING, State.RUNNING}]
        self._both("release", [one.id for one in flying], after=None, note="busy")
        for one in flying:
            one.state, one.due = State.QUEUED, 0.0

    @rule(
        chosen=picks,
        kind=st.sampled_from(["succeed", "retry", "dead"]),
        pause=st.sampled_from([0.0, 10.0]),
        mistaken=st.sampled_from([False, False, False, True]),
        again=st.booleans(),
    )
    def finish(self, chosen: list[int], kind: str, pause: float, *, mistaken: bool, again: bool) -> None:
        some = self._some(chosen, *State)
        order = "a-00000000000000000000" if mistaken or not some else some[0].order
        outcome = Outcome(order=order, exit_code=0, reason="Completed")
        decision = {"succeed": Succeed(), "retry": Retry(after=pause), "dead": Dead()}[kind]
        mine = [
            one
            for one in some
            if one.state in {State.SUBMITTING, State.RUNNING} and one.order == order and order
        ]
        assert self._both("finish", [one.id for one in some], outcome, decision) == len(mine)
        for one in mine:
            self._finished(one, kind, self._due(pause))
        if again:
            assert self._both("finish", [one.id for one in some], outcome, decision) == 0

    def _finished(self, one: Delivered, kind: str, at: float) -> None:
        if kind == "succeed":
            self._settle(one, State.SUCCEEDED)
        elif kind == "dead":
            one.state = State.DEAD
        else:
            one.state, one.order, one.due, one.attempt = State.QUEUED, "", at, one.attempt + 1

    @rule(chosen=picks)
    def replay(self, chosen: list[int]) -> None:
        some = self._some(chosen, State.DEAD, State.QUEUED, State.RUNNING)
        dead = [one for one in some if one.state is State.DEAD]
        assert self._both("replay", [one.id for one in some]) == len(dead)
        for one in dead:
            one.state, one.order, one.due, one.attempt = State.QUEUED, "", 0.0, one.attempt + 1

    @rule(chosen=picks)
    def drop(self, chosen: list[int]) -> None:
        some = self._some(chosen, State.DEAD, State.QUEUED, State.RUNNING)
        droppable = [one for one in some if one.state in {State.DEAD, State.QUEUED}]
        assert self._both("drop", [one.id for one in some], "not wanted") == len(droppable)
        for one in droppable:
            self._settle(one, State.DROPPED)

    @rule(route=st.sampled_from(ROUTES))
    def pause(self, route: str) -> None:
        assert self._both("pause", route) == (route not in self.paused)
        self.paused.setdefault(route, self.clock.now())

    @rule(route=st.sampled_from(ROUTES))
    def resume(self, route: str) -> None:
        assert self._both("resume", route) == (route in self.paused)
        self.paused.pop(route, None)

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_time(seconds)

    @precondition(lambda self: self.lives < 4)
    @rule()
    def crash(self) -> None:
        """What is on the disk at this moment is all that the next life has."""
        before = self.folder / f"life-{self.lives}"
        self.lives += 1
        after = self.folder / f"life-{self.lives}"
        after.mkdir()
        for file in before.glob("journal.db*"):
            shutil.copy(file, after)
        self._run(self.sqlite.aclose())
        self.sqlite = self._make("sqlite")
        self._run(self.sqlite.open())
        self.full = len(self._open_events()) >= MAX_EVENTS
        self._both_gates_start_anew()

    @rule()
    def restart(self) -> None:
        self._run(self.sqlite.aclose())
        self._run(self.sqlite.open())

    def _both_gates_start_anew(self) -> None:
        """A new life knows the level, not whether it was rising or falling."""
        self.memory._marks._full = False
        self._run(self.memory.aclose())
        self._run(self.memory.open())

    # -- what always holds ------------------------------------------------------------------------------

    @invariant()
    def the_counts_are_true(self) -> None:
        stats = self._both("stats")
        now = Counter((one.route, one.state) for one in self.deliveries.values())
        counted = {
            (route, State(state)): n
            for route, states in stats.deliveries.items()
            for state, n in states.items()
        }
        assert counted == {place: n for place, n in (now + self.done).items() if n}
        assert stats.events == len(self._open_events())
        assert (stats.bytes > 0) == (stats.events > 0)
        assert stats.duplicates == self.duplicates
        assert stats.paused == self.paused

    @invariant()
    def no_accepted_event_is_lost(self) -> None:
        shown = self._both("deliveries", limit=1000)
        states = {one.id: (one.state, one.attempt) for one in shown}
        for one in self.deliveries.values():
            assert states[one.id] == (one.state, one.attempt)
        assert len(states) <= len(self.deliveries) + HISTORY
        assert [one.order for one in self._both("in_flight")] == [
            one.order for one in self.deliveries.values() if one.state in {State.SUBMITTING, State.RUNNING}
        ]
        assert self._both("cursor", "uploads") == self.cursor
        assert {journal.gate.reason is not None for journal in (self.sqlite, self.memory)} == {self.full}

    @rule(number=st.integers(0, 30))
    def show(self, number: int) -> None:
        event, _ = self._both("show", make_event(number).key)
        assert event == (make_event(number) if number in self._open_events() else None)

    def teardown(self) -> None:
        self._run(self.memory.aclose())
        self._run(self.sqlite.aclose())
        self.runner.close()
        assert fsck(self.folder / f"life-{self.lives}" / "journal.db") == []
        shutil.rmtree(self.folder)


def test_both_journals_follow_the_model() -> None:
    run_state_machine_as_test(
        JournalMachine,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )
