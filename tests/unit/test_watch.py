"""Seeing Jobs end, whatever happens to the watch, the Job, its pod and the daemon meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dcnios_daemon.core.errors import SinkUnavailable
from dcnios_daemon.core.ports import Failure, Order, State
from dcnios_daemon.sinks.job.sink import JobPlan, JobRun, JobSink
from dcnios_daemon.sinks.kubernetes import ended_pods, pauses
from dcnios_daemon.sinks.kubernetes.follow import LIST_SECONDS
from dcnios_daemon.sinks.kubernetes.objects import Job
from dcnios_daemon.sinks.kubernetes.watch import Change, Collection
from dcnios_daemon.sinks.spec import SinkContext
from tests.clocks import ManualClock
from tests.fakes.cluster import FakeCluster, refusal
from tests.fakes.desk import FakeDesk, flying, make_order

KEEP = 600.0


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "FIRST", 0.001)
    monkeypatch.setattr(pauses, "LONGEST", 0.01)


class Rig:
    """A job sink on a cluster in memory."""

    def __init__(self, *flying_before: Any) -> None:
        self.cluster = FakeCluster()
        self.clock = ManualClock()
        self.desk = FakeDesk(*flying_before)
        context = SinkContext(instance="here", state=Path(), stores={}, clock=self.clock)
        self.sink = JobSink(context, session=self.cluster)
        self.plan: JobPlan = self.sink.plan("gray", JobRun(image="img", keep=KEEP))
        self.ready = asyncio.Event()

    async def made(self, *orders: Order) -> None:
        """These have Jobs."""
        for order in orders:
            await self.plan.submit(order)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            task = group.create_task(self.sink.serve(self.desk, self.ready.set))
            await self.ready.wait()
            yield
            task.cancel()

    async def ends(self, order: Order, kind: str = "Complete") -> None:
        await self.cluster.end(order.name, kind)

    async def nothing_more_for(self, order: Order) -> None:
        """Whatever is under way for it has been told when a later one's end has."""
        later = make_order(f"later than {order.name} {len(self.desk.reports)}")
        await self.made(later)
        await self.ends(later)
        await self.desk.outcome(later.name)

    async def until(self, check: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not check():  # noqa: ASYNC110 - the cluster's own steps are loop turns
                await asyncio.sleep(0)


def run(code: int, message: str = "") -> dict[str, Any]:
    how = {"exitCode": code, "reason": "Error", "message": message, "startedAt": "2026-11-23T10:00:00Z"}
    return {"name": "run", "state": {"terminated": how}}


async def test_a_job_that_completes_has_succeeded_once() -> None:
    rig, order = Rig(), make_order()
    async with rig.served():
        await rig.made(order)
        await rig.ends(order)
        assert (await rig.desk.outcome(order.name)).succeeded
        await rig.cluster.change(
            "jobs", order.name, metadata={**rig.cluster.objects["jobs"][order.name]["metadata"], "x": 1}
        )
        await rig.cluster.delete("jobs", order.name)
        await rig.nothing_more_for(order)
    assert len(rig.desk.of(order.name)) == 1


async def test_the_pods_exit_code_is_told_without_asking_for_it() -> None:
    rig, order = Rig(), make_order()
    async with rig.served():
        await rig.made(order)
        await rig.cluster.pod(order.name, run(7))
        await rig.until(lambda: order.name in rig.sink._follower._pods._known)
        rig.cluster.calls.clear()
        rig.cluster.errors["GET", f"pods/{order.name}-pod/log"] = [refusal(404)]
        await rig.ends(order, "Failed")
        found = await rig.desk.outcome(order.name)
    assert (found.failure, found.exit_code, found.node) == (Failure.SCRIPT, 7, "node-1")
    assert ("GET", "pods") not in rig.cluster.calls


async def test_of_several_pods_the_one_that_failed_tells_why() -> None:
    rig, order, later = Rig(), make_order(), make_order("later")
    rig.cluster.errors["GET", f"pods/{order.name}-first/log"] = [refusal(404)]
    async with rig.served():
        await rig.made(order, later)
        await rig.cluster.pod(order.name, run(7), name="first")
        await rig.cluster.pod(order.name, run(0), name="second")
        await rig.cluster.pod(later.name, run(0))
        await rig.until(lambda: later.name in rig.sink._follower._pods._known)
        await rig.ends(order, "Failed")
        assert (await rig.desk.outcome(order.name)).exit_code == 7


async def test_a_pod_that_was_missed_is_asked_for_even_while_the_cluster_stumbles() -> None:
    rig, order = Rig(), make_order()
    rig.cluster.errors["WATCH", "pods"] = [refusal(403)] * 1000
    rig.cluster.errors["GET", f"pods/{order.name}-pod/log"] = [refusal(500)]
    async with rig.served():
        await rig.made(order)
        await rig.cluster.pod(order.name, run(7))
        rig.cluster.errors["GET", "pods"] = [refusal(503), refusal(429)]
        await rig.ends(order, "Failed")
        assert (await rig.desk.outcome(order.name)).exit_code == 7


async def test_without_the_right_to_see_pods_a_failure_is_unknown_not_lost() -> None:
    rig, order = Rig(), make_order()
    rig.cluster.errors["GET", "pods"] = [refusal(403)] * 1000
    async with rig.served():
        await rig.made(order)
        await rig.ends(order, "Failed")
        assert (await rig.desk.outcome(order.name)).failure is Failure.UNKNOWN


async def test_why_a_pod_waits_is_noted_before_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended_pods, "SURVEY_SECONDS", 0.001)
    rig, order = Rig(), make_order()
    stuck = {"name": "run", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    async with rig.served():
        await rig.made(order)
        await rig.cluster.pod(order.name, stuck, phase="Pending")
        await rig.until(lambda: order.name in rig.sink._follower._pods._stuck)
        await rig.cluster.delete("pods", f"{order.name}-pod")
        rig.sink._follower._pods._known.clear()
        await rig.cluster.end(order.name, "Failed", "DeadlineExceeded")
        found = await rig.desk.outcome(order.name)
    assert found.failure is Failure.INFRASTRUCTURE
    assert "no such image" in found.message


async def test_a_deleted_job_is_unknown() -> None:
    rig, order = Rig(), make_order()
    async with rig.served():
        await rig.made(order)
        await rig.cluster.delete("jobs", order.name)
        found = await rig.desk.outcome(order.name)
    assert (found.failure, found.reason) == (Failure.UNKNOWN, "Deleted")


async def test_jobs_of_other_routes_are_none_of_our_business() -> None:
    rig, order, other = Rig(), make_order(), make_order(route="other")
    async with rig.served():
        await rig.made(other, order)
        labels = {
            **rig.cluster.objects["jobs"][other.name]["metadata"]["labels"],
            "dcnios-daemon/route": "other",
        }
        del rig.cluster.objects["jobs"][other.name]
        await rig.cluster.change("jobs", other.name, metadata={"name": other.name, "labels": labels})
        rig.sink._follower._live.discard(other.name)
        await rig.ends(other)
        await rig.nothing_more_for(other)
    assert rig.desk.of(other.name) == []


@pytest.mark.parametrize("forgotten", [False, True], ids=["watch-again", "list-again"])
async def test_an_end_while_the_watch_was_cut_is_seen(forgotten: bool) -> None:
    rig, order = Rig(), make_order()
    async with rig.served():
        await rig.made(order)
        rig.desk.flying = [flying(order)]
        rig.cluster.errors["WATCH", "jobs"] = [SinkUnavailable("away")] * 3
        await rig.cluster.cut()
        await rig.ends(order)
        if forgotten:
            await rig.cluster.forget()
        assert (await rig.desk.outcome(order.name)).succeeded
        await rig.nothing_more_for(order)
    assert len(rig.desk.of(order.name)) == 1


async def test_a_job_that_vanished_while_nobody_watched_is_unknown() -> None:
    """A running one that the listing lacks is gone; one that is just being submitted may not be made yet."""
    rig, gone, coming = Rig(), make_order("gone"), make_order("coming")
    async with rig.served():
        await rig.made(gone)
        just_now = rig.clock.now() - 1
        rig.desk.flying = [flying(gone), flying(coming, State.SUBMITTING, claimed=just_now)]
        rig.cluster.errors["WATCH", "jobs"] = [SinkUnavailable("away")] * 3
        await rig.cluster.cut()
        await rig.cluster.delete("jobs", gone.name)
        await rig.cluster.forget()
        assert (await rig.desk.outcome(gone.name)).failure is Failure.UNKNOWN
        await rig.nothing_more_for(gone)
    assert rig.desk.of(coming.name) == []
    assert rig.desk.retracted == []


async def test_a_job_made_and_ended_between_two_looks_into_the_journal_is_told() -> None:
    """It was claimed after the first look, and had ended before the listing: the second look knows it."""
    rig, order = Rig(), make_order()
    await rig.made(order)
    await rig.ends(order)
    looks = [[], [flying(order, State.SUBMITTING)]]
    rig.desk.in_flight = lambda: _soon(looks.pop(0))  # type: ignore[method-assign]
    async with rig.served():
        assert (await rig.desk.outcome(order.name)).succeeded


async def test_a_job_that_ended_before_it_was_known_to_be_ours_is_told_when_it_is_found() -> None:
    """A creation that an earlier life had sent came late: nobody had it in flight when its end was told."""
    rig, order = Rig(), make_order()
    async with rig.served():
        await rig.made(order)
        await rig.ends(order)
        await rig.desk.outcome(order.name)
        rig.desk.reports.clear()  # as nobody who asks does about what is not in flight
        await rig.made(order)
        assert (await rig.desk.outcome(order.name)).succeeded


async def test_what_the_watch_never_told_is_found_by_the_next_listing() -> None:
    rig, order = Rig(), make_order()
    async with rig.served():
        await rig.made(order)
        rig.desk.flying = [flying(order)]
        del rig.cluster.objects["jobs"][order.name]
        await rig.cluster.cut()
        await rig.nothing_more_for(order)
        assert rig.desk.of(order.name) == []
        rig.clock.pass_time(LIST_SECONDS)
        await rig.cluster.cut()
        assert (await rig.desk.outcome(order.name)).failure is Failure.UNKNOWN


async def _soon(value: Any) -> Any:
    return value


async def test_what_an_earlier_life_left_is_settled_before_ready() -> None:
    now = ManualClock().now()
    ended, alive, gone = make_order("ended"), make_order("alive"), make_order("gone")
    never, too_old, future = make_order("never"), make_order("old"), make_order("future")
    rig = Rig(
        flying(ended),
        flying(alive, State.SUBMITTING, claimed=now - KEEP * 9),
        flying(gone, claimed=now - 1),
        flying(never, State.SUBMITTING, claimed=now - KEEP + 1),
        flying(too_old, State.SUBMITTING, claimed=now - KEEP),
        flying(future, State.SUBMITTING, claimed=now + 5),
    )
    await rig.made(ended, alive)
    await rig.ends(ended)
    async with rig.served():
        known = {outcome.order: outcome.failure for outcome in rig.desk.reports}
    assert known == {
        ended.name: None,
        gone.name: Failure.UNKNOWN,
        too_old.name: Failure.UNKNOWN,
        future.name: Failure.UNKNOWN,  # the wall clock was set back: its age is anybody's guess
    }
    assert rig.desk.retracted == [never.name]


async def test_how_long_a_job_was_kept_counts_as_it_was_when_it_was_made() -> None:
    """``keep`` was raised, or lowered, while the daemon was down."""
    now = ManualClock().now()
    cleaned_up, never = make_order("cleaned up"), make_order("never")
    was = [(cleaned_up, KEEP / 3, KEEP / 2), (never, KEEP * 3, KEEP * 2)]
    rig = Rig(
        *(
            replace(flying(order, State.SUBMITTING, claimed=now - age), sink="job", keep=keep)
            for order, keep, age in was
        )
    )
    async with rig.served():
        assert [outcome.order for outcome in rig.desk.reports] == [cleaned_up.name]
    assert rig.desk.retracted == [never.name]


async def test_a_job_of_a_route_that_runs_otherwise_now_is_still_ours() -> None:
    was, beside = make_order("was", route="moved"), make_order("beside", route="moved")
    rig = Rig(flying(was), flying(beside, State.SUBMITTING, claimed=ManualClock().now()))
    moved = rig.sink.plan("moved", JobRun(image="img", keep=KEEP))
    await moved.submit(was)
    await moved.submit(beside)
    rig.sink = JobSink(
        SinkContext(instance="here", state=Path(), stores={}, clock=rig.clock), session=rig.cluster
    )
    rig.sink.plan("gray", JobRun(image="img", keep=KEEP))
    async with rig.served():
        assert (rig.desk.reports, rig.desk.retracted, rig.desk.confirmed) == ([], [], [beside.name])
        await rig.ends(was)
        assert (await rig.desk.outcome(was.name)).succeeded


async def test_a_job_of_an_earlier_life_is_followed_to_its_end() -> None:
    order = make_order()
    rig = Rig(flying(order))
    await rig.made(order)
    async with rig.served():
        assert rig.desk.reports == []
        await rig.cluster.change(
            "jobs", order.name, status={"conditions": [{"type": "Complete", "status": "True"}]}
        )
        assert (await rig.desk.outcome(order.name)).succeeded


async def test_nothing_is_dispatched_while_the_cluster_cannot_list() -> None:
    rig, order = Rig(flying(make_order())), make_order()
    rig.cluster.errors["GET", "jobs"] = [refusal(403), SinkUnavailable("away"), refusal(410), refusal(500)]
    async with rig.served():
        assert rig.cluster.errors["GET", "jobs"] == []
    assert (await rig.desk.outcome(order.name)).failure is Failure.UNKNOWN


async def test_a_payload_secret_left_alone_by_a_crash_is_adopted() -> None:
    order = make_order(payload=b"\xff")
    rig = Rig(flying(order, State.SUBMITTING))
    rig.cluster.errors["PATCH", f"secrets/{order.name}"] = [SinkUnavailable("crash here")]
    with pytest.raises(SinkUnavailable):
        await rig.made(order)
    async with rig.served():
        owner = rig.cluster.objects["secrets"][order.name]["metadata"]["ownerReferences"][0]
    assert owner["uid"] == f"uid-{order.name}"


# --- the collection itself ----------------------------------------------------------------------------


class Script(FakeCluster):
    """Answers lists and watches with what it was given, and writes down the queries."""

    def __init__(
        self, pages: list[dict[str, Any]] | None = None, watches: list[list[Any]] | None = None
    ) -> None:
        super().__init__()
        self.pages, self.watches = pages or [], watches or []
        self.queries: list[dict[str, str]] = []
        self.clock = ManualClock()

    async def request(self, method: str, path: str, *, query: Any = None, **_: Any) -> bytes:
        self.queries.append(dict(query))
        return json.dumps(self.pages.pop(0)).encode()

    async def lines(self, path: str, query: Any, *, quiet: float) -> AsyncIterator[bytes]:  # type: ignore[override]
        self.queries.append(dict(query))
        if not self.watches:
            raise SinkUnavailable("the script ends")
        for line in self.watches.pop(0):
            self.clock.pass_time(10)
            yield line if isinstance(line, bytes) else json.dumps(line).encode()

    def collection(self) -> Collection[Job]:
        return Collection(self, self.clock, "jobs", Job, {"labelSelector": "a=b"})


def item(name: str, version: int = 0) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "status": {"active": 1}}


async def changes(script: Script, collection: Collection[Job]) -> tuple[list[Change[Job]], Exception]:
    seen: list[Change[Job]] = []
    try:
        async for change in collection.changes():
            seen.append(change)  # noqa: PERF401 - what came before the error counts
    except SinkUnavailable as error:
        return seen, error
    raise AssertionError("a watch has no end")


async def test_a_listing_is_taken_in_pages_that_fit_what_is_in_them() -> None:
    fat = {
        "metadata": {"continue": "more", "resourceVersion": "5"},
        "items": [{**item("a"), "x": "y" * 400_000}],
    }
    last = {"metadata": {"resourceVersion": "5"}, "items": [item("b")]}
    script = Script([fat, last], [[{"type": "ADDED", "object": item("c", 9)}]])
    names: list[str] = []

    async def visit(jobs: list[Job]) -> None:
        names.extend(job.metadata.name for job in jobs)

    collection = script.collection()
    await collection.list(visit)
    assert names == ["a", "b"]
    assert script.queries[1]["continue"] == "more"
    assert int(script.queries[1]["limit"]) <= 5
    await changes(script, collection)
    assert script.queries[2]["resourceVersion"] == "5"
    assert script.queries[2]["labelSelector"] == "a=b"
    assert script.queries[3]["resourceVersion"] == "9"


async def test_bookmarks_move_the_place_to_go_on_from() -> None:
    script = Script(watches=[[{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "77"}}}]])
    seen, _ = await changes(script, script.collection())
    assert seen == []
    assert script.queries[1]["resourceVersion"] == "77"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}}, "too old"),
        ({"type": "ERROR", "object": {"code": 500, "reason": "InternalError", "message": "etcd"}}, "etcd"),
        (b"{half a li", "cannot be read"),
        (b'{"type": "ADDED", "object": {"metadata": 7}}', "cannot be read"),
    ],
)
async def test_an_error_in_the_stream_is_an_error(line: Any, said: str) -> None:
    script = Script(watches=[[{"type": "ADDED", "object": item("a", 3)}, line]])
    seen, error = await changes(script, script.collection())
    assert [change.item.metadata.name for change in seen] == ["a"]
    assert said in str(error)


async def test_a_watch_that_ends_at_once_is_not_asked_for_in_circles() -> None:
    script = Script(watches=[[], [], []])
    _, error = await changes(script, script.collection())
    assert "at once" in str(error)
    assert len(script.queries) == 1
