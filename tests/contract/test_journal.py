"""What every journal promises: the sentences of core.ports.Journal, one after the other."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from dcnios_daemon.core.errors import JournalError, JournalFull
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import batch_key, event_key, order_name
from dcnios_daemon.core.ports import Admission, Appended, Dead, Delivery, Outcome, Retry, State, Succeed
from tests.clocks import ManualClock
from tests.contract.journal_rig import KINDS, AnyJournal, admit, bad, good, make_event, make_journal, numbers

Maker = Callable[..., Any]
ODD = bytes(range(256)) * 3


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture(params=KINDS)
async def make(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[Callable[..., Any]]:
    opened: list[AnyJournal] = []

    async def maker(**bounds: Any) -> AnyJournal:
        made = make_journal(request.param, tmp_path / "state" / "journal.db", clock, **bounds)
        await made.open()
        opened.append(made)
        return made

    yield maker
    for made in opened:
        await made.aclose()


@pytest_asyncio.fixture
async def journal(make: Maker) -> AnyJournal:
    made: AnyJournal = await make()
    return made


# --- append -------------------------------------------------------------------------------------------


async def test_an_event_comes_back_as_it_was_given(journal: AnyJournal) -> None:
    event = Event(
        key=event_key("uploads", "ä"),
        source="uploads",
        kind="minio",
        subject="inbox/ü \U0001f600 ' \" % \udcff.png",
        action=Action.STAGED,
        time=1234.000001,
        size=None,
        data=ODD,
        content_type="image/png",
        attributes={"x": "\x00\n", "y": "\udc80"},
    )
    await journal.append("uploads", [Admission(event, ("train",))], None)
    (claim,) = await journal.claim("train", 1)
    assert claim.event == event
    assert (await journal.show(event.key))[0] == event


async def test_an_event_without_data_is_an_event(journal: AnyJournal) -> None:
    await journal.append("uploads", admit(1, data=b""), None)
    (claim,) = await journal.claim("train", 1)
    assert claim.event.data == b""


async def test_known_keys_are_left_out_whether_waiting_running_or_settled(journal: AnyJournal) -> None:
    assert await journal.append("uploads", admit(1, 2, 1), None) == Appended(accepted=2, duplicates=1)
    assert await journal.append("uploads", admit(2, 3), None) == Appended(accepted=1, duplicates=1)
    (claim,) = await journal.claim("train", 1)
    assert (await journal.append("uploads", admit(1), None)).duplicates == 1
    await journal.finish([claim.delivery], good(claim), Succeed())
    assert (await journal.append("uploads", admit(1), None)).duplicates == 1
    assert (await journal.stats()).duplicates == 4


async def test_the_cursor_goes_with_the_events(journal: AnyJournal) -> None:
    assert await journal.cursor("uploads") is None
    await journal.append("uploads", admit(1), "a/\udc80")
    await journal.append("other", [], "b")
    await journal.append("uploads", admit(2), None)
    assert await journal.cursor("uploads") == "a/\udc80"
    assert await journal.cursor("other") == "b"


async def test_at_its_bound_it_takes_nothing_not_even_the_cursor(make: Maker) -> None:
    journal = await make(max_events=4)
    assert (await journal.append("uploads", admit(1, 2, 3, 4, 5, 6), "six")).accepted == 6
    with pytest.raises(JournalFull, match="6 events"):
        await journal.append("uploads", admit(7), "seven")
    assert await journal.cursor("uploads") == "six"
    assert (await journal.stats()).events == 6


async def test_bytes_are_a_bound_too(make: Maker) -> None:
    journal = await make(max_bytes=5000)
    await journal.append("uploads", admit(1, data=b"x" * 5000), None)
    assert "bytes" in journal.gate.reason
    with pytest.raises(JournalFull):
        await journal.append("uploads", admit(2), None)


async def test_the_gate_stays_shut_until_the_low_watermark(make: Maker) -> None:
    journal = await make(max_events=4)
    await journal.append("uploads", admit(1, 2, 3, 4), None)
    await journal.gate.wait_shut()
    assert "4 of 4 events" in journal.gate.reason
    claims = await journal.claim("train", 4)
    await journal.finish([claims[0].delivery], good(claims[0]), Succeed())
    assert journal.gate.reason is not None
    with pytest.raises(JournalFull):
        await journal.append("uploads", admit(5), None)
    await journal.finish([claims[1].delivery], good(claims[1]), Succeed())
    await journal.gate.wait_open()
    assert journal.gate.reason is None
    assert (await journal.append("uploads", admit(5), None)).accepted == 1


async def test_unrouted_events_are_counted_and_listed_but_not_kept(journal: AnyJournal) -> None:
    assert (await journal.append("uploads", admit(1, routes=()), None)).accepted == 1
    assert (await journal.append("uploads", admit(1, routes=()), None)).duplicates == 1
    stats = await journal.stats()
    assert (stats.events, stats.bytes, stats.deliveries) == (0, 0, {"": {"unrouted": 1}})
    event, deliveries = await journal.show(make_event(1).key)
    assert event is None
    assert [(one.route, one.state, one.subject) for one in deliveries] == [("", State.UNROUTED, "inbox/1")]
    assert (await journal.deliveries(state=State.UNROUTED))[0].key == make_event(1).key


async def test_appends_at_the_same_time_all_count(journal: AnyJournal) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(journal.append("uploads", admit(number, number + 1), str(number)))
    stats = await journal.stats()
    assert (stats.events, stats.duplicates) == (51, 49)
    assert numbers(await journal.claim("train", 100)) == list(range(51))


# --- claim --------------------------------------------------------------------------------------------


async def test_what_is_in_flight_says_for_what_it_was_claimed(journal: AnyJournal) -> None:
    """A later life may be configured otherwise: the order is where it was sent."""
    await journal.append("uploads", admit(1, 2), None)
    (one,) = await journal.claim("train", 1, sink="job", keep=600.0)
    await journal.started([one.delivery])
    (two,) = await journal.claim("train", 1, sink="process")
    assert [(item.sink, item.keep) for item in await journal.in_flight()] == [
        ("job", 600.0),
        ("process", None),
    ]
    await journal.release([two.delivery], after=None, note="")
    await journal.claim("train", 1, sink="kafka", keep=1.0)
    assert [(item.sink, item.keep) for item in await journal.in_flight()] == [("job", 600.0), ("kafka", 1.0)]


async def test_claims_are_oldest_first_and_nobody_gets_them_twice(
    journal: AnyJournal, clock: ManualClock
) -> None:
    await journal.append("uploads", admit(1, 2, 3), None)
    await journal.append("uploads", admit(4, routes=("other",)), None)
    first = await journal.claim("train", 2)
    assert numbers(first) == [1, 2]
    assert [claim.order for claim in first] == [
        order_name("train", make_event(number).key, 1) for number in (1, 2)
    ]
    assert {(claim.attempt, claim.accepted) for claim in first} == {(1, clock.now())}
    assert numbers(await journal.claim("train", 2)) == [3]
    assert list(await journal.claim("train", 2)) == []
    assert list(await journal.claim("nobody", 2)) == []
    assert list(await journal.claim("other", 0)) == []
    found = await journal.in_flight()
    assert [(one.key, one.state, one.claimed) for one in found] == [
        (make_event(number).key, State.SUBMITTING, clock.now()) for number in (1, 2, 3)
    ]


async def test_an_event_has_a_delivery_for_each_of_its_routes(journal: AnyJournal) -> None:
    await journal.append("uploads", admit(1, routes=("a", "b", "a"), data=ODD), None)
    (one,), (other,) = await journal.claim("a", 5), await journal.claim("b", 5)
    await journal.finish([one.delivery], good(one), Succeed())
    assert (await journal.stats()).events == 1
    assert (await journal.show(one.event.key))[0] == make_event(1, data=ODD)
    await journal.finish([other.delivery], good(other), Succeed())
    assert ((await journal.stats()).events, (await journal.stats()).bytes) == (0, 0)
    assert (await journal.show(one.event.key))[0] is None


async def test_first_attempts_are_batched_and_later_ones_go_alone(journal: AnyJournal) -> None:
    await journal.append("uploads", admit(1, 2, 3, 4, 5), None)
    claims = await journal.claim("train", 1, batch=2)
    key = batch_key((make_event(1).key, make_event(2).key))
    assert {claim.order for claim in claims} == {order_name("train", key, 1)}
    await journal.finish([claim.delivery for claim in claims], bad(claims[0]), Retry(after=0))
    again = await journal.claim("train", 9, batch=2)
    orders: dict[str, list[int]] = {}
    for claim in again:
        orders.setdefault(claim.order, []).extend(numbers([claim]))
    assert sorted(orders.values()) == [[1], [2], [3, 4], [5]]
    assert [claim.attempt for claim in again if numbers([claim])[0] < 3] == [2, 2]


async def test_an_order_of_several_that_was_released_is_made_again_of_the_same(journal: AnyJournal) -> None:
    """It may exist after all: made of others, its events would run twice."""
    await journal.append("uploads", admit(2, 3, 4), None)
    first = await journal.claim("train", 1, batch=3)
    await journal.append("uploads", admit(5, 6, 7), None)
    await journal.release([claim.delivery for claim in first], after=None, note="no answer")
    for batch in (2, 1, 9):
        again = await journal.claim("train", 1, batch=batch)
        assert [(claim.delivery, claim.order) for claim in again] == [
            (claim.delivery, claim.order) for claim in first
        ]
        await journal.release([claim.delivery for claim in again], after=None, note="")
    assert numbers(await journal.claim("train", 1, batch=2)) == [2, 3, 4]
    assert numbers(await journal.claim("train", 1, batch=2)) == [5, 6]


async def test_a_claim_of_large_events_ends_early_and_says_that_there_is_more(journal: AnyJournal) -> None:
    for number in range(4):
        await journal.append("uploads", admit(number, data=b"x" * (3 << 20)), None)
    changed = asyncio.Event()
    journal.on_change(changed.set)
    assert numbers(await journal.claim("train", 10)) == [0, 1]
    assert changed.is_set()
    assert numbers(await journal.claim("train", 10)) == [2, 3]


# --- from claim to settlement -------------------------------------------------------------------------


async def test_started_makes_running_of_submitting_and_of_nothing_else(
    journal: AnyJournal, clock: ManualClock
) -> None:
    await journal.append("uploads", admit(1, 2), None)
    (claim,) = await journal.claim("train", 1)
    clock.pass_time(5)
    await journal.started([claim.delivery, claim.delivery + 1, 999])
    assert [one.state for one in await journal.in_flight()] == [State.RUNNING]
    (shown,) = await journal.deliveries(state=State.RUNNING)
    assert (shown.claimed, shown.submitted) == (clock.now() - 5, clock.now())
    await journal.finish([claim.delivery], good(claim), Succeed())
    await journal.started([claim.delivery])
    assert (await journal.stats()).deliveries == {"train": {"queued": 1, "succeeded": 1}}


async def test_released_ones_keep_attempt_and_place_and_wait_for_their_time(
    journal: AnyJournal, clock: ManualClock
) -> None:
    await journal.append("uploads", admit(1, 2, 3), None)
    one, two = await journal.claim("train", 2)
    await journal.release([one.delivery], after=10, note="quota exceeded")
    await journal.release([two.delivery], after=None, note="")
    (waiting,) = (await journal.show(one.event.key))[1]
    assert (waiting.state, waiting.note, waiting.attempt) == (State.QUEUED, "quota exceeded", 1)
    assert waiting.retry_at == pytest.approx(clock.now() + 10, abs=0.01)
    assert numbers(await journal.claim("train", 1)) == [2]
    clock.pass_time(10)
    again = await journal.claim("train", 2)
    assert numbers(again) == [1, 3]
    assert (again[0].attempt, again[0].order) == (1, one.order)
    await journal.finish([again[1].delivery], good(again[1]), Succeed())
    await journal.release([again[1].delivery], after=None, note="too late")
    assert (await journal.stats()).deliveries["train"]["succeeded"] == 1


async def test_a_wall_clock_set_back_freezes_nothing(journal: AnyJournal, clock: ManualClock) -> None:
    await journal.append("uploads", admit(1), None)
    (one,) = await journal.claim("train", 1)
    await journal.finish([one.delivery], bad(one), Retry(after=10))
    clock.step_wall(-86_400)
    await journal.append("uploads", admit(2), None)
    assert numbers(await journal.claim("train", 1)) == [2]
    (shown,) = (await journal.show(one.event.key))[1]
    assert shown.retry_at == pytest.approx(clock.now() + 10, abs=0.01)
    clock.pass_time(10)
    assert numbers(await journal.claim("train", 1)) == [1]


async def test_success_settles_and_takes_the_body_away(journal: AnyJournal, clock: ManualClock) -> None:
    await journal.append("uploads", admit(1, data=ODD), None)
    (claim,) = await journal.claim("train", 1)
    await journal.started([claim.delivery])
    clock.pass_time(60)
    assert await journal.finish([claim.delivery], good(claim), Succeed()) == 1
    event, (shown,) = await journal.show(claim.event.key)
    assert event is None
    assert (shown.state, shown.settled, shown.order) == (State.SUCCEEDED, clock.now(), claim.order)
    assert shown.outcome == good(claim)
    assert (shown.subject, shown.size, shown.time, shown.accepted) == ("inbox/1", 1, 1001.0, clock.now() - 60)
    stats = await journal.stats()
    assert (stats.events, stats.bytes, stats.in_flight(), stats.oldest_queued) == (0, 0, 0, None)


async def test_a_retry_is_the_next_attempt_under_another_name(
    journal: AnyJournal, clock: ManualClock
) -> None:
    await journal.append("uploads", admit(1, 2), None)
    (claim,) = await journal.claim("train", 1)
    assert await journal.finish([claim.delivery], bad(claim), Retry(after=2)) == 1
    (shown,) = (await journal.show(claim.event.key))[1]
    assert (shown.state, shown.attempt, shown.outcome) == (State.QUEUED, 2, bad(claim))
    assert "no such file" in shown.note
    clock.pass_time(2)
    (again,) = await journal.claim("train", 1)
    assert (again.delivery, again.attempt) == (claim.delivery, 2)
    assert again.order == order_name("train", claim.event.key, 2)


async def test_an_outcome_counts_once_and_only_for_its_own_order(journal: AnyJournal) -> None:
    await journal.append("uploads", admit(1, 2), None)
    one, two = await journal.claim("train", 2)
    both = [one.delivery, two.delivery]
    stranger = Outcome(order="train-0123456789", failure=None)
    assert await journal.finish(both, stranger, Succeed()) == 0
    assert await journal.finish(both, bad(one), Retry(after=0)) == 1
    assert await journal.finish(both, bad(one), Dead()) == 0
    (again,) = await journal.claim("train", 1)
    assert await journal.finish(both, good(one), Succeed()) == 0
    assert await journal.finish([*both, again.delivery], good(again), Succeed()) == 1
    assert await journal.finish(both, bad(again), Dead()) == 0
    assert (await journal.stats()).deliveries == {"train": {"submitting": 1, "succeeded": 1}}


async def test_two_outcomes_of_an_order_at_the_same_time_count_once(journal: AnyJournal) -> None:
    await journal.append("uploads", admit(1), None)
    (claim,) = await journal.claim("train", 1)
    said = await asyncio.gather(
        *(journal.finish([claim.delivery], outcome, Succeed()) for outcome in [good(claim)] * 5)
    )
    assert sum(said) == 1


async def test_dead_keeps_everything_for_replay(journal: AnyJournal) -> None:
    await journal.append("uploads", admit(1, data=ODD), None)
    (claim,) = await journal.claim("train", 1)
    await journal.finish([claim.delivery], bad(claim), Dead())
    (shown,) = await journal.deliveries(state=State.DEAD)
    assert (shown.outcome, shown.settled) == (bad(claim), None)
    assert (await journal.stats()).events == 1
    assert list(await journal.claim("train", 1)) == []
    assert await journal.replay([claim.delivery, 999]) == 1
    assert await journal.replay([claim.delivery]) == 0
    (again,) = await journal.claim("train", 1)
    assert (again.attempt, again.event.data) == (2, ODD)
    assert again.order == order_name("train", claim.event.key, 2)


async def test_replay_takes_the_old_place(journal: AnyJournal) -> None:
    await journal.append("uploads", admit(1, 2), None)
    (claim,) = await journal.claim("train", 1)
    await journal.finish([claim.delivery], bad(claim), Dead())
    await journal.replay([claim.delivery])
    assert numbers(await journal.claim("train", 2)) == [1, 2]


async def test_drop_settles_queued_and_dead_ones_for_good(journal: AnyJournal, clock: ManualClock) -> None:
    await journal.append("uploads", admit(1, 2, 3, 4), None)
    one, two, three = await journal.claim("train", 3)
    await journal.finish([one.delivery], bad(one), Dead())
    await journal.release([two.delivery], after=10, note="")
    everything = [one.delivery, two.delivery, three.delivery, three.delivery + 1]
    assert await journal.drop(everything, "not wanted") == 3
    assert await journal.drop(everything, "not wanted") == 0
    stats = await journal.stats()
    assert stats.deliveries == {"train": {"dropped": 3, "submitting": 1}}
    assert stats.events == 1
    event, (shown,) = await journal.show(two.event.key)
    assert event is None
    assert (shown.note, shown.settled, shown.retry_at) == ("not wanted", clock.now(), None)
    clock.pass_time(20)
    assert list(await journal.claim("train", 9)) == []
    assert await journal.replay(everything) == 0
    assert (await journal.append("uploads", admit(1), None)).duplicates == 1


# --- time and memory ----------------------------------------------------------------------------------


async def test_a_key_is_remembered_from_settlement_on(make: Maker, clock: ManualClock) -> None:
    journal = await make(dedupe_for=100)
    await journal.append("uploads", admit(1, 2, 4), None)
    await journal.append("uploads", admit(3, routes=()), None)
    clock.pass_time(1000)
    assert (await journal.append("uploads", admit(1, 2), None)).duplicates == 2
    assert (await journal.append("uploads", admit(3, routes=()), None)).accepted == 1
    assert (await journal.stats()).deliveries[""] == {"unrouted": 2}
    for claim in await journal.claim("train", 3):
        if claim.event != make_event(2):
            await journal.finish([claim.delivery], good(claim), Succeed())
    clock.pass_time(99)
    assert (await journal.append("uploads", admit(4), None)).duplicates == 1
    clock.pass_time(1)
    assert await journal.append("uploads", admit(1, 2, 4), None) == Appended(accepted=1, duplicates=2)
    event, deliveries = await journal.show(make_event(1).key)
    assert event is not None
    assert [one.state for one in deliveries] == [State.QUEUED, State.SUCCEEDED]


async def test_a_key_that_is_still_being_offered_is_not_forgotten(make: Maker, clock: ManualClock) -> None:
    """A listing offers a file as long as it is there: forgotten in between, it would run a second time."""
    journal = await make(dedupe_for=100)
    await journal.append("uploads", admit(1, 2), None)
    await journal.append("uploads", admit(3, routes=()), None)
    for claim in await journal.claim("train", 2):
        await journal.finish([claim.delivery], good(claim), Succeed())
    for _ in range(6):
        clock.pass_time(49)
        assert (await journal.append("uploads", admit(1), None)).duplicates == 1
        assert (await journal.append("uploads", admit(3, routes=()), None)).duplicates == 1
    assert (await journal.append("uploads", admit(2), None)).accepted == 1
    clock.pass_time(100)
    assert (await journal.append("uploads", admit(1), None)).accepted == 1
    assert (await journal.append("uploads", admit(3, routes=()), None)).accepted == 1


async def test_a_duplicate_soon_after_leaves_the_memory_as_it_is(make: Maker, clock: ManualClock) -> None:
    journal = await make(dedupe_for=100)
    await journal.append("uploads", admit(1, 2), None)
    for claim in await journal.claim("train", 2):
        await journal.finish([claim.delivery], good(claim), Succeed())
    clock.pass_time(49)
    assert (await journal.append("uploads", admit(1, 2), None)).duplicates == 2
    clock.pass_time(1)
    assert (await journal.append("uploads", admit(1), None)).duplicates == 1
    clock.pass_time(50)
    assert (await journal.append("uploads", admit(2), None)).accepted == 1
    clock.pass_time(49)
    assert (await journal.append("uploads", admit(1), None)).duplicates == 1


async def test_an_offer_while_it_is_not_settled_shortens_nothing(make: Maker, clock: ManualClock) -> None:
    journal = await make(dedupe_for=100)
    await journal.append("uploads", admit(1), None)
    clock.pass_time(60)
    assert (await journal.append("uploads", admit(1), None)).duplicates == 1
    clock.pass_time(60)
    (claim,) = await journal.claim("train", 1)
    await journal.finish([claim.delivery], good(claim), Succeed())
    clock.pass_time(99)
    assert (await journal.append("uploads", admit(9), None)).accepted == 1
    assert (await journal.append("uploads", admit(1), None)).duplicates == 1


async def test_what_was_unrouted_is_accepted_once_there_are_routes(journal: AnyJournal) -> None:
    """A file loses its temporary name; or the operator adds a route and the source lists again."""
    await journal.append("uploads", admit(1, routes=()), None)
    await journal.append("uploads", admit(1, routes=()), None)
    assert len(await journal.deliveries()) == 1
    renamed = [Admission(make_event(1, subject="inbox/final"), ("train",))]
    assert await journal.append("uploads", renamed, None) == Appended(accepted=1, duplicates=0)
    assert await journal.append("uploads", renamed, None) == Appended(accepted=0, duplicates=1)
    assert (await journal.append("uploads", admit(1, routes=()), None)).duplicates == 1
    stats = await journal.stats()
    assert (stats.events, stats.duplicates) == (1, 3)
    assert stats.deliveries == {"": {"unrouted": 1}, "train": {"queued": 1}}
    (claim,) = await journal.claim("train", 5)
    assert claim.event == renamed[0].event
    event, shown = await journal.show(claim.event.key)
    assert event == claim.event
    assert [one.state for one in shown] == [State.SUBMITTING, State.UNROUTED]


async def test_unrouted_and_routed_in_one_append(journal: AnyJournal) -> None:
    both = [*admit(1, routes=()), *admit(1), *admit(1, routes=())]
    assert await journal.append("uploads", both, None) == Appended(accepted=2, duplicates=1)
    assert numbers(await journal.claim("train", 5)) == [1]


@pytest.mark.parametrize("together", [True, False])
async def test_its_unrouted_past_does_not_make_it_forgotten(
    make: Maker, clock: ManualClock, together: bool
) -> None:
    journal = await make(dedupe_for=100)
    if together:
        await journal.append("uploads", [*admit(1, routes=()), *admit(1)], None)
    else:
        await journal.append("uploads", admit(1, routes=()), None)
        await journal.append("uploads", admit(1), None)
    clock.pass_time(60)
    (claim,) = await journal.claim("train", 1)
    clock.pass_time(60)
    await journal.append("uploads", admit(8), None)
    assert (await journal.append("uploads", admit(1), None)).duplicates == 1
    await journal.finish([claim.delivery], good(claim), Succeed())
    clock.pass_time(99)
    await journal.append("uploads", admit(9), None)
    assert await journal.cursor("uploads") is None
    clock.pass_time(1)
    assert (await journal.append("uploads", admit(1), None)).accepted == 1


async def test_settled_deliveries_are_kept_for_people_up_to_a_bound(make: Maker) -> None:
    journal = await make(history=3)
    await journal.append("uploads", admit(1, 2, 3, 4, 5, 6), None)
    claims = await journal.claim("train", 6)
    for claim in reversed(claims[1:]):
        await journal.finish([claim.delivery], good(claim), Succeed())
    await journal.cursor("uploads")
    shown = await journal.deliveries()
    assert [one.subject for one in shown] == ["inbox/4", "inbox/3", "inbox/2", "inbox/1"]
    assert (await journal.stats()).deliveries == {"train": {"submitting": 1, "succeeded": 5}}
    assert (await journal.append("uploads", admit(6), None)).duplicates == 1


# --- results ------------------------------------------------------------------------------------------


def tell(delivery: Delivery, at: float) -> Admission | None:
    """A result for everything but results."""
    order = delivery.outcome.order if delivery.outcome else ""
    text = f"{delivery.subject} {delivery.state} {delivery.attempt} {order}"
    event = make_event(0, subject=text, data=str(at).encode())
    event = msgspec.structs.replace(event, key=event_key("told", text), source="told")
    return None if delivery.route == "told" else Admission(event, ("told",))


async def told(journal: AnyJournal) -> list[str]:
    return [one.subject for one in reversed(await journal.deliveries(route="told"))]


async def test_each_end_of_a_delivery_is_told_once_and_at_once(
    journal: AnyJournal, clock: ManualClock
) -> None:
    journal.on_finish(tell)
    await journal.append("uploads", admit(1, 2), None)
    one, two = await journal.claim("train", 2)
    await journal.finish([one.delivery], bad(one), Retry(after=0))
    assert await told(journal) == []
    await journal.finish([one.delivery, two.delivery], good(two), Succeed())
    await journal.finish([one.delivery, two.delivery], good(two), Succeed())
    assert await told(journal) == [f"inbox/2 succeeded 1 {two.order}"]
    (again,) = await journal.claim("train", 2)
    await journal.finish([again.delivery], bad(again), Dead())
    await journal.replay([again.delivery])
    (last,) = await journal.claim("train", 1)
    await journal.finish([last.delivery], bad(last), Dead())
    await journal.drop([last.delivery], "enough")
    assert (await told(journal))[1:] == [f"inbox/1 dead 2 {again.order}", f"inbox/1 dead 3 {last.order}"]
    results = await journal.claim("told", 9)
    assert [claim.event.data for claim in results] == [str(clock.now()).encode()] * 3
    assert {claim.event.source for claim in results} == {"told"}
    await journal.finish([results[0].delivery], good(results[0]), Succeed())
    assert len(await told(journal)) == 3
    journal.on_finish(None)


async def test_a_full_journal_takes_results_all_the_same_and_counts_them(make: Maker) -> None:
    journal = await make(max_events=2)
    journal.on_finish(tell)
    await journal.append("uploads", admit(1, 2), None)
    claims = await journal.claim("train", 2)
    for claim in claims:
        await journal.finish([claim.delivery], good(claim), Succeed())
    assert ((await journal.stats()).events, len(await told(journal))) == (2, 2)
    assert journal.gate.reason is not None
    for result in await journal.claim("told", 2):
        await journal.finish([result.delivery], good(result), Succeed())
    assert ((await journal.stats()).events, (await journal.stats()).bytes) == (0, 0)
    assert journal.gate.reason is None


async def test_a_result_that_nobody_wants_is_not_made(journal: AnyJournal) -> None:
    journal.on_finish(lambda _delivery, _at: None)
    await journal.append("uploads", admit(1), None)
    (claim,) = await journal.claim("train", 1)
    assert await journal.finish([claim.delivery], good(claim), Succeed()) == 1
    assert (await journal.stats()).deliveries == {"train": {"succeeded": 1}}


# --- pauses -------------------------------------------------------------------------------------------


async def test_a_paused_route_gives_no_claims_until_it_is_resumed(
    journal: AnyJournal, clock: ManualClock
) -> None:
    await journal.append("uploads", admit(1, 2, routes=("train", "test")), None)
    (before,) = await journal.claim("train", 1)
    since = clock.now()
    assert await journal.pause("train")
    clock.pass_time(10)
    assert not await journal.pause("train")
    assert (await journal.stats()).paused == {"train": since}
    assert await journal.claim("train", 5) == []
    assert numbers(await journal.claim("test", 5)) == [1, 2]
    assert await journal.finish([before.delivery], bad(before), Retry(after=0)) == 1
    assert (await journal.stats()).deliveries["train"] == {"queued": 2}
    await journal.aclose()
    await journal.open()
    assert (await journal.stats()).paused == {"train": since}
    assert await journal.claim("train", 5) == []
    assert await journal.resume("train")
    assert not await journal.resume("train")
    assert (await journal.stats()).paused == {}
    assert numbers(await journal.claim("train", 5)) == [1, 2]


async def test_a_route_is_paused_before_it_has_anything(journal: AnyJournal) -> None:
    assert await journal.pause("train")
    await journal.append("uploads", admit(1), None)
    assert await journal.claim("train", 1) == []
    assert not await journal.resume("test")
    assert await journal.resume("train")
    assert numbers(await journal.claim("train", 1)) == [1]


# --- looking ------------------------------------------------------------------------------------------


async def test_the_counts_follow_every_step(journal: AnyJournal, clock: ManualClock) -> None:
    await journal.append("uploads", admit(1, 2, data=b"x" * 100), None)
    clock.pass_time(10)
    await journal.append("uploads", admit(3, routes=("other",)), None)
    stats = await journal.stats()
    assert (stats.events, stats.oldest_queued) == (3, clock.now() - 10)
    assert stats.bytes > 200
    assert stats.deliveries == {"train": {"queued": 2}, "other": {"queued": 1}}
    one, two = await journal.claim("train", 2)
    assert ((await journal.stats()).in_flight("train"), (await journal.stats()).in_flight()) == (2, 2)
    assert (await journal.stats()).oldest_queued == clock.now()
    await journal.release([one.delivery], after=5, note="")
    assert (await journal.stats()).deliveries["train"] == {"queued": 1, "submitting": 1}
    assert (await journal.stats()).oldest_queued == clock.now() - 10
    await journal.finish([two.delivery], bad(two), Dead())
    assert (await journal.stats()).deliveries["train"] == {"queued": 1, "dead": 1}


async def test_deliveries_are_listed_newest_first_page_by_page(journal: AnyJournal) -> None:
    for number in range(10):
        await journal.append("uploads", admit(number, routes=("even", "odd")[number % 2 :][:1]), None)
    (claim,) = await journal.claim("even", 1)
    await journal.release([claim.delivery], after=1e12, note="")
    page = await journal.deliveries(limit=4)
    assert [one.subject for one in page] == [f"inbox/{number}" for number in (9, 8, 7, 6)]
    page = await journal.deliveries(limit=100, after=page[-1].id)
    assert [one.subject for one in page] == [f"inbox/{number}" for number in (5, 4, 3, 2, 1, 0)]
    evens = await journal.deliveries(route="even", state=State.QUEUED, limit=2, after=page[0].id)
    assert [one.subject for one in evens] == ["inbox/4", "inbox/2"]
    assert len(await journal.deliveries(state=State.QUEUED)) == 10
    assert list(await journal.deliveries(state=State.DEAD)) == []
    assert list(await journal.deliveries(route="nobody")) == []


async def test_show_takes_the_beginning_of_a_key(journal: AnyJournal) -> None:
    await journal.append("uploads", admit(*range(40)), None)
    key = make_event(7).key
    for start in (key, key[:9], f" {key[:10].upper()}\n"):
        event, (shown,) = await journal.show(start)
        assert event == make_event(7)
        assert shown.key == key
    for nonsense in ("", "xyz", "00" * 20, key + "0"):
        event, deliveries = await journal.show(nonsense)
        assert (event, list(deliveries)) == (None, [])
    crowded = next(digit for digit in "0123456789abcdef" if _starting(digit) > 1)
    with pytest.raises(JournalError, match=f"begin with {crowded}"):
        await journal.show(crowded)


def _starting(digit: str) -> int:
    return sum(make_event(number).key.startswith(digit) for number in range(40))


async def test_what_has_ended_and_whether_well(make: Maker) -> None:
    journal = await make(history=3)
    await journal.append("uploads", admit(*range(6)), None)
    await journal.append("uploads", admit(6, routes=("train", "archive")), None)
    await journal.append("uploads", admit(7, routes=()), None)
    keys = {number: event_key("uploads", number) for number in range(9)}

    async def ended() -> dict[int, bool]:
        found = await journal.ended([*keys.values(), keys[0]])
        assert set(found) <= set(keys.values())
        return {number: found[key] for number, key in keys.items() if key in found}

    assert await ended() == {}
    claims = await journal.claim("train", 7)
    assert await ended() == {}
    await journal.started([claims[0].delivery])
    await journal.finish([claims[0].delivery], good(claims[0]), Succeed())
    await journal.finish([claims[1].delivery], bad(claims[1]), Dead())
    await journal.finish([claims[2].delivery], bad(claims[2]), Retry(after=0))
    await journal.release([claims[3].delivery], after=None, note="")
    await journal.drop([claims[3].delivery], "not wanted")
    await journal.finish([claims[6].delivery], good(claims[6]), Succeed())
    assert await ended() == {0: True, 1: False, 3: False}  # 6 has another route to go
    (other,) = await journal.claim("archive", 1)
    await journal.finish([other.delivery], good(other), Succeed())
    assert await ended() == {0: True, 1: False, 3: False, 6: True}
    await journal.replay([claims[1].delivery])
    assert await ended() == {0: True, 3: False, 6: True}
    await journal.append("uploads", admit(10, 11, 12), None)
    for claim in await journal.claim("train", 10):  # newer ones push the rows of the older out
        await journal.finish([claim.delivery], good(claim), Succeed())
    assert (await ended())[0]
    assert 7 not in await ended()  # was never routed


async def test_on_change_tells_of_all_that_may_matter(journal: AnyJournal, clock: ManualClock) -> None:
    calls: list[str] = []
    journal.on_change(lambda: calls.append("changed"))

    async def noticed(step: Any) -> bool:
        calls.clear()
        await step
        return bool(calls)

    assert await noticed(journal.append("uploads", admit(1, 2), None))
    (claim,) = await journal.claim("train", 1)
    assert await noticed(journal.release([claim.delivery], after=None, note=""))
    (claim,) = await journal.claim("train", 1)
    assert await noticed(journal.finish([claim.delivery], bad(claim), Dead()))
    assert await noticed(journal.replay([claim.delivery]))
    assert await noticed(journal.drop([claim.delivery], ""))
    assert await noticed(journal.pause("train"))
    assert not await noticed(journal.pause("train"))
    assert await noticed(journal.resume("train"))
    assert not await noticed(journal.deliveries())


async def test_on_change_tells_when_a_retry_comes_due(journal: AnyJournal, clock: ManualClock) -> None:
    await journal.append("uploads", admit(1), None)
    (claim,) = await journal.claim("train", 1)
    await journal.release([claim.delivery], after=30, note="")
    due = asyncio.Event()
    journal.on_change(due.set)
    clock.pass_time(30)
    async with asyncio.timeout(10):
        await due.wait()
    assert numbers(await journal.claim("train", 1)) == [1]


async def test_long_and_broken_words_of_neighbours_do_no_harm(journal: AnyJournal) -> None:
    await journal.append("uploads", admit(1, 2), None)
    one, two = await journal.claim("train", 2)
    odd = Outcome(order=one.order, failure=None, message="\ud800", log_tail="\udcff" + "x" * 100_000)
    assert await journal.finish([one.delivery], odd, Dead()) == 1
    await journal.release([two.delivery], after=None, note="\ud800" * 10_000)
    (shown,) = (await journal.show(one.event.key))[1]
    assert shown.outcome is not None
    assert len(shown.outcome.log_tail) < 10_000
    assert len((await journal.show(two.event.key))[1][0].note) < 10_000


async def test_a_journal_that_is_not_open_says_so(journal: AnyJournal) -> None:
    await journal.append("uploads", admit(1), "here")
    await journal.aclose()
    with pytest.raises(JournalError, match="not open"):
        await journal.append("uploads", admit(2), None)
    await journal.open()
    assert await journal.cursor("uploads") == "here"
    assert numbers(await journal.claim("train", 5)) == [1]
