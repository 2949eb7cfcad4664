"""Services of an OSCAR that loses answers, answers twice, hangs, forgets and comes back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import ValidationError

from dcnios_daemon.core.clock import Clock, SystemClock
from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkMisconfigured, SinkUnavailable
from dcnios_daemon.core.ports import Failure, InFlight, State
from dcnios_daemon.sinks.oscar import OscarRun, OscarSink, check
from dcnios_daemon.sinks.oscar.sink import OscarPlan, job_name
from dcnios_daemon.sinks.spec import SinkContext
from tests.clocks import ManualClock
from tests.fakes.desk import FakeDesk, flying, make_order
from tests.fakes.oscar import PASSWORD, TOKEN, USER, FakeOscar

SERVICE = "edgan3"
LOGIN = {"username": USER, "password": PASSWORD}
CLAIMED = 1_000_000.0


@pytest_asyncio.fixture
async def oscar() -> AsyncIterator[FakeOscar]:
    async with FakeOscar(SERVICE).up() as made:
        yield made


def settings(oscar: FakeOscar, **more: object) -> OscarRun:
    block = {"endpoint": oscar.url, "service": SERVICE, "token": TOKEN, "every": 0.01, "timeout": 2}
    return OscarRun.model_validate({**block, **more})


@asynccontextmanager
async def served(
    run: OscarRun, desk: FakeDesk, *, clock: Clock | None = None, route: str = "gray"
) -> AsyncIterator[OscarPlan]:
    sink = OscarSink(SinkContext(instance="here", state=Path(), stores={}, clock=clock or SystemClock()))
    plan = sink.plan(route, run)
    ready = asyncio.Event()
    try:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            task = group.create_task(sink.serve(desk, ready.set))
            await ready.wait()
            yield plan
            task.cancel()
    finally:
        await sink.aclose()


def in_flight(name: str, state: State = State.RUNNING, *, claimed: float = CLAIMED) -> InFlight:
    return flying(make_order(name), state, claimed=claimed)


def job(name: str) -> str:
    return job_name(SERVICE, make_order(name).name)


# --- calling ---------------------------------------------------------------------------------------------


async def test_the_body_and_the_jobs_name_arrive(oscar: FakeOscar) -> None:
    async with served(settings(oscar), FakeDesk()) as plan:
        await plan.submit(make_order("a", payload=b'{"n": 1}'))
        shown = await plan.render(make_order("a", payload=b'{"n": 1}'))
    assert oscar.jobs[job("a")].event == '{"n":1}' == shown["body"]
    assert shown["headers"]["X-Delegated-Job-ID"] == job("a")
    assert TOKEN not in str(shown)


async def test_without_a_login_an_order_is_over_when_oscar_has_it(oscar: FakeOscar) -> None:
    desk = FakeDesk()
    async with served(settings(oscar), desk) as plan:
        await plan.submit(make_order("a"))
        found = await desk.outcome(make_order("a").name)
    assert (found.succeeded, found.reason) == (True, "Accepted")
    assert f"job {job('a')}; how that ends is not seen" in found.message
    assert oscar.looks == 0


async def test_an_answer_that_is_lost_makes_no_second_job(oscar: FakeOscar) -> None:
    oscar.to_lose = 1
    async with served(settings(oscar), FakeDesk()) as plan:
        with pytest.raises(SinkUnavailable):
            await plan.submit(make_order("a"))
        await plan.submit(make_order("a"))
    assert oscar.made == [job("a")]


async def test_one_that_is_carried_out_twice_makes_one_job(oscar: FakeOscar) -> None:
    oscar.to_double = 1
    async with served(settings(oscar), FakeDesk()) as plan:
        await plan.submit(make_order("a"))
    assert oscar.made == [job("a")]


async def test_one_that_hangs_is_left_after_a_while(oscar: FakeOscar) -> None:
    oscar.to_hang = 1
    async with served(settings(oscar, timeout=0.2), FakeDesk()) as plan:
        with pytest.raises(SinkUnavailable, match=r"no answer within 0\.2 s"):
            await plan.submit(make_order("a"))
        await plan.submit(make_order("a"))
    assert oscar.made == [job("a")]


async def test_two_services_of_one_namespace_do_not_share_a_jobs_name() -> None:
    """What exists already would be taken for a yes."""
    order = make_order("a").name
    assert job_name("edgan3", order) != job_name("edgan3-test", order)
    longest = job_name("a" * 16 + "-" + "b" * 22, order)
    assert len(longest) <= 63
    assert job_name("a" * 15 + "-b", order)[15:17] != "--"


async def test_more_than_a_job_can_be_handed_is_refused_unsent(oscar: FakeOscar) -> None:
    async with served(settings(oscar), FakeDesk()) as plan:
        with pytest.raises(OrderRefused):
            await plan.submit(make_order("a", payload=b"\xff" * 200_000))
    assert oscar.calls == 0


async def test_the_token_is_asked_for_and_asked_for_again_once_it_is_wrong(oscar: FakeOscar) -> None:
    async with served(settings(oscar, token=None, **LOGIN), FakeDesk()) as plan:
        await plan.submit(make_order("a"))
        oscar.tokens[SERVICE] = "f" * 64
        with pytest.raises(SinkMisconfigured, match="401: correct token"):
            await plan.submit(make_order("b"))
        await plan.submit(make_order("b"))
    assert len(oscar.made) == 2


async def test_while_no_token_can_be_had_nothing_is_sent_and_nothing_in_doubt() -> None:
    oscar = FakeOscar(SERVICE)
    async with served(settings(oscar, token=None, **LOGIN), FakeDesk()) as plan:
        with pytest.raises(SinkBusy):
            await plan.submit(make_order("a"))
        async with oscar.up():
            await plan.submit(make_order("a"))


async def test_a_token_file_is_read_anew(oscar: FakeOscar, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old")
    run = settings(oscar).model_dump() | {"token": None, "token_file": file}
    async with served(OscarRun.model_validate(run), FakeDesk()) as plan:
        with pytest.raises(SinkMisconfigured):
            await plan.submit(make_order("a"))
        file.write_text(f"{TOKEN}\n")
        await plan.submit(make_order("a"))


# --- ends ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "has_begun", "failure"),
    [
        ("Succeeded", True, None),
        ("Failed", True, Failure.SCRIPT),
        ("Failed", False, Failure.INFRASTRUCTURE),
    ],
)
async def test_the_outcome_is_the_jobs_end(
    oscar: FakeOscar, status: str, *, has_begun: bool, failure: Failure | None
) -> None:
    desk, order = FakeDesk(), make_order("a")
    async with served(settings(oscar, **LOGIN), desk) as plan:
        await plan.submit(order)
        await looked(oscar, 2)
        assert desk.reports == []
        oscar.jobs[job("a")].has_begun = has_begun
        await oscar.end(job("a"), status, log="x" * 9000 + "the end")
        found = await desk.outcome(order.name)
    assert (found.failure, found.reason) == (failure, status)
    assert job("a") in found.message
    assert found.log_tail == ("" if found.succeeded else "x" * 2041 + "the end")
    assert (found.ended is not None) == has_begun


async def looked(oscar: FakeOscar, times: int) -> None:
    """Until it was asked so often more."""
    target = oscar.looks + times
    async with asyncio.timeout(30):
        while oscar.looks < target:  # noqa: ASYNC110 - it is asked over a socket
            await asyncio.sleep(0.005)


async def test_jobs_are_found_on_whatever_page_they_are(oscar: FakeOscar) -> None:
    desk, names = FakeDesk(), [str(number) for number in range(25)]
    oscar.page_size = 3
    async with served(settings(oscar, **LOGIN), desk) as plan:
        for name in names:
            await plan.submit(make_order(name))
        for name in names:
            await oscar.end(job(name))
        for name in names:
            assert (await desk.outcome(make_order(name).name)).succeeded
        assert len(desk.reports) == len(names)
        await asyncio.sleep(0)
        before = oscar.looks
        await plan.exists(make_order("none"))
        assert oscar.looks - before == 9, "nothing else asks while nothing is in flight"


async def test_a_job_that_is_gone_may_have_run(oscar: FakeOscar) -> None:
    desk = FakeDesk()
    async with served(settings(oscar, **LOGIN), desk) as plan:
        await plan.submit(make_order("a"))
        del oscar.jobs[job("a")]
        found = await desk.outcome(make_order("a").name)
    assert (found.failure, found.reason) == (Failure.UNKNOWN, "Gone")


async def test_an_older_oscar_that_names_jobs_itself_is_not_believed(oscar: FakeOscar) -> None:
    oscar.takes_names = False
    desk = FakeDesk()
    async with served(settings(oscar, **LOGIN), desk) as plan:
        await plan.submit(make_order("a"))
        assert (await desk.outcome(make_order("a").name)).failure is Failure.UNKNOWN


async def test_while_it_cannot_tell_nothing_is_concluded(oscar: FakeOscar) -> None:
    desk = FakeDesk()
    async with served(settings(oscar, **LOGIN), desk) as plan:
        await plan.submit(make_order("a"))
        oscar.lists = False
        await looked(oscar, 2)
        assert desk.reports == []
        await oscar.end(job("a"))
        oscar.lists = True
        assert (await desk.outcome(make_order("a").name)).succeeded


@pytest.mark.parametrize(
    ("has_begun", "failure"), [(True, Failure.DEADLINE), (False, Failure.INFRASTRUCTURE)]
)
async def test_after_its_deadline_a_job_is_deleted(
    oscar: FakeOscar, *, has_begun: bool, failure: Failure
) -> None:
    clock, desk = ManualClock(), FakeDesk()
    oscar.begins = has_begun
    async with served(settings(oscar, deadline="1h", **LOGIN), desk, clock=clock) as plan:
        await plan.submit(make_order("a"))
        await looked(oscar, 2)
        assert job("a") in oscar.jobs
        clock.pass_time(3601)
        found = await desk.outcome(make_order("a").name)
    assert oscar.jobs == {}
    assert (found.failure, found.reason) == (failure, "DeadlineExceeded")


# --- lives -----------------------------------------------------------------------------------------------


async def test_what_an_earlier_life_left_is_looked_for(oscar: FakeOscar) -> None:
    async with served(settings(oscar, **LOGIN), FakeDesk()) as plan:
        for name in ("sent", "ended", "runs"):
            await plan.submit(make_order(name))
    await oscar.end(job("ended"), "Failed")
    left = [in_flight("sent", State.SUBMITTING), in_flight("never", State.SUBMITTING)]
    desk = FakeDesk(*left, in_flight("ended"), in_flight("runs"), in_flight("gone"))
    clock = ManualClock(CLAIMED + 1)
    async with served(settings(oscar, **LOGIN), desk, clock=clock):
        assert desk.confirmed == [make_order("sent").name]
        assert desk.retracted == [make_order("never").name]
        told = {outcome.order: outcome.failure for outcome in desk.reports}
        assert told == {
            make_order("ended").name: Failure.SCRIPT,
            make_order("gone").name: Failure.UNKNOWN,
        }
        await oscar.end(job("runs"))
        await oscar.end(job("sent"))
        assert (await desk.outcome(make_order("runs").name)).succeeded
        assert (await desk.outcome(make_order("sent").name)).succeeded


async def test_one_that_is_away_at_the_start_keeps_its_slots_until_it_is_back() -> None:
    oscar, desk = FakeOscar(SERVICE), FakeDesk(in_flight("a"), in_flight("b", State.SUBMITTING))
    clock = ManualClock(CLAIMED + 1)
    async with served(settings(oscar, **LOGIN), desk, clock=clock):
        assert (desk.reports, desk.retracted) == ([], [])
        async with oscar.up():
            assert (await desk.outcome(make_order("a").name)).failure is Failure.UNKNOWN
            assert desk.retracted == [make_order("b").name]


@pytest.mark.parametrize("login", [LOGIN, {}])
async def test_what_was_claimed_longer_ago_than_oscar_remembers_may_have_run(
    oscar: FakeOscar, login: dict[str, Any]
) -> None:
    desk = FakeDesk(in_flight("a", State.SUBMITTING))
    clock = ManualClock(CLAIMED + 31 * 86400)
    async with served(settings(oscar, **login), desk, clock=clock):
        assert (await desk.outcome(make_order("a").name)).failure is Failure.UNKNOWN
        assert desk.retracted == []


async def test_a_changed_login_serves_what_is_in_flight_too(oscar: FakeOscar) -> None:
    sink = OscarSink(SinkContext(instance="here", state=Path(), stores={}, clock=SystemClock()))
    desk, ready = FakeDesk(), asyncio.Event()
    plan = sink.plan("gray", settings(oscar, username=USER, password="wrong"))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task = group.create_task(sink.serve(desk, ready.set))
        await ready.wait()
        await plan.submit(make_order("a"))
        await oscar.end(job("a"))
        await asyncio.to_thread(sink.plan, "gray", settings(oscar, **LOGIN))
        assert (await desk.outcome(make_order("a").name)).succeeded
        task.cancel()
    await sink.aclose()


# --- settings and check ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"endpoint": "oscar.example.org"}, "no address"),
        ({"endpoint": "https://o/?a=b"}, "without /job"),
        ({"service": "Edgan"}, "pattern"),
        ({"service": "a" * 40}, "pattern"),
        ({"token": None}, "give token_file, or username"),
        ({"username": "u"}, "go together"),
        ({"endpoint": "http://o", "ca_file": "x"}, "https"),
        ({"timeout": 300}, "less than or equal to 240"),
    ],
)
def test_what_cannot_work_is_said(block: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OscarRun.model_validate({"endpoint": "https://o", "service": "s", "token": "t"} | block)


Look = Callable[..., Awaitable[str]]


async def look(oscar: FakeOscar, **more: object) -> str:
    run = settings(oscar, **more)
    said = await check(kubernetes=None, any_payload=True, runs={"routes.r.run": run})  # type: ignore[arg-type]
    return "\n".join(said)


async def test_what_is_missing_is_found_without_calling_the_service(oscar: FakeOscar) -> None:
    assert await look(oscar) == ""
    assert await look(oscar, **LOGIN) == ""
    assert await look(oscar, token=None, **LOGIN) == ""
    assert "401 to the token of edgan3: correct routes.r.run.token" in await look(oscar, token="x")
    wrong = await look(oscar, username="u", password="p")
    assert "answers 401: correct username and password, see routes.r.run" in wrong
    assert "answers 404: correct service" in await look(oscar, service="other", token=None, **LOGIN)
    oscar.version = "v3.6.1"
    assert "OSCAR v3.6.1" in await look(oscar, **LOGIN)
    assert oscar.calls == 0


async def test_one_that_is_away_is_said_to_be() -> None:
    assert "correct routes.r.run.endpoint, or start it" in await look(FakeOscar(SERVICE))
