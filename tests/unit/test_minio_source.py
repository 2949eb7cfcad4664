"""What S3 stores tell, and what listing them finds."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.ports import Inbound, Reply
from dcnios_daemon.sources import runner as runners
from dcnios_daemon.sources.minio.records import from_listing
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.sources.minio.source import MinioSource
from dcnios_daemon.sources.registry import KINDS
from dcnios_daemon.staging.s3_answers import Refused, S3Object
from dcnios_daemon.telemetry.events import VersionsHidden
from tests.clocks import ManualClock
from tests.contract.source_rig import NAME, Bench
from tests.contract.source_rigs import FakeS3, MinioRig, post
from tests.unit import s3_samples as samples
from tests.unit.s3_samples import AWS, minio_body

# --- the source, told ---------------------------------------------------------------------------------


def source(store: Any = None, **settings: Any) -> MinioSource:
    given = {"endpoint": "http://s3.example", "buckets": ["inbox"], "reconcile": 0} | settings
    return MinioSource(
        name=NAME,
        settings=MinioSettings.model_validate(given),
        lister=lambda _: store or FakeS3(),
        clock=ManualClock(1_700_000_000),
    )


async def told(made: MinioSource, body: bytes) -> tuple[Reply, list[Event]]:
    """What the store is answered, and what was read."""
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(made.receive(post(body)))
        for _ in range(5):
            await asyncio.sleep(0)
        if asked.done():
            return asked.result(), []
        batch = await made.read()
        await made.ack(batch)
    return asked.result(), list(batch.events)


@pytest.mark.parametrize(
    ("settings", "taken"),
    [
        ({}, ["a.png", "run/b.png", "run/c.txt"]),
        ({"prefix": "run/"}, ["run/b.png", "run/c.txt"]),
        ({"suffix": ".png"}, ["a.png", "run/b.png"]),
        ({"events": ["s3:ObjectRemoved:*"]}, []),
        ({"buckets": ["other"]}, []),
    ],
)
async def test_only_what_the_filters_pass_becomes_an_event(settings: Any, taken: Sequence[str]) -> None:
    keys = ("a.png", "run/b.png", "run/c.txt")
    records = [json.loads(minio_body(key))["Records"][0] for key in keys]
    marker = json.loads(minio_body("run/", size=0))["Records"][0]
    reply, events = await told(source(**settings), json.dumps({"Records": [*records, marker]}).encode())
    assert reply.status == 200
    assert [event.attributes["object"] for event in events] == list(taken)


async def test_a_probe_is_answered_and_nothing_else_than_a_post() -> None:
    made = source()
    assert (await made.receive(Inbound("HEAD", {}, b""))).status == 200
    assert (await made.receive(Inbound("GET", {}, b""))).status == 200
    assert (await made.receive(Inbound("PUT", {}, b""))).status == 405
    assert (await source(receive=[], reconcile=1).receive(Inbound("POST", {}, b""))).status == 404


async def test_where_a_record_does_not_tell_the_instant_the_store_is_asked() -> None:
    store = FakeS3()
    store.put("Happy Face.jpg", size=1024)
    made = source(store, reconcile=60)
    _, (event,) = await told(made, samples.aws("ObjectCreated:Put", thing={"size": 1024}))
    listed = from_listing("inbox", store.objects["Happy Face.jpg"]).event(source=NAME, kind="minio")
    assert event.key == listed.key
    store.objects.clear()
    _, (gone,) = await told(made, json.dumps(AWS).encode())
    assert gone.key != listed.key


@pytest.mark.parametrize("version", ["096fKKXTRTtl3on89fVO.nfljtsv6qko", "null"])
async def test_of_a_version_the_store_is_asked_though_it_is_not_the_latest_any_more(version: str) -> None:
    store = FakeS3(page=1)
    etag = "d41d8cd98f00b204e9800998ecf8427e"
    told_of = S3Object("Happy Face.jpg", 1024, etag, 1_700_000_000, version, is_latest=False)
    newer = [S3Object("Happy Face.jpg", 1024, etag, 1_700_000_000 + n, f"v{n}") for n in (1, 2)]
    store.history = [told_of, *newer, S3Object("Happy Face.jpg.bak", 1, etag, 1_700_000_009, version)]
    made = source(store, reconcile=60)
    _, (event,) = await told(made, samples.aws("ObjectCreated:Put", thing={"versionId": version}))
    assert event.key == from_listing("inbox", told_of).event(source=NAME, kind="minio").key
    store.history = newer
    _, (gone,) = await told(made, samples.aws("ObjectCreated:Put", thing={"versionId": version}))
    assert gone.key not in {from_listing("inbox", one).event(source=NAME, kind="minio").key for one in newer}


@pytest.mark.parametrize("version", ["v1", "null"])
async def test_a_delete_marker_has_the_same_key_told_or_listed(version: str) -> None:
    store = FakeS3()
    marker = S3Object("Happy Face.jpg", 0, "", 1_700_000_000, version, is_marker=True)
    store.history = [marker]
    made = source(store, reconcile=60, events=["s3:ObjectRemoved:*", "s3:LifecycleExpiration:*"])
    listed = from_listing("inbox", marker).event(source=NAME, kind="minio")
    assert (listed.action, listed.size, listed.attributes["version_id"]) == (Action.REMOVED, None, version)
    for name in ("ObjectRemoved:DeleteMarkerCreated", "LifecycleExpiration:DeleteMarkerCreated"):
        thing = {"versionId": version, "eTag": "d41d8cd98f00b204e9800998ecf8427e"}
        _, (event,) = await told(made, samples.aws(name, thing=thing))
        assert event.key == listed.key


async def test_what_was_overwritten_before_the_store_could_be_asked_is_an_event_of_its_own() -> None:
    store = FakeS3()
    store.put("Happy Face.jpg", etag="newer", size=7)
    thing = {"size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e"}
    body = samples.aws("ObjectCreated:Put", thing=thing)
    _, (older,) = await told(source(store, reconcile=60), body)
    listed = from_listing("inbox", store.objects["Happy Face.jpg"]).event(source=NAME, kind="minio")
    assert older.key != listed.key
    assert (older.size, older.attributes["etag"]) == (1024, "d41d8cd98f00b204e9800998ecf8427e")


async def test_a_store_that_cannot_be_asked_makes_us_busy() -> None:
    reply, _ = await told(
        source(Refusing(StoreUnavailable("timeout")), reconcile=60), json.dumps(AWS).encode()
    )
    assert reply.status == 503


class Refusing:
    """A store that answers every listing with an error."""

    def __init__(self, error: StoreError) -> None:
        self._error = error

    async def pages(
        self, bucket: str, *, prefix: str = "", after: str = ""
    ) -> AsyncGenerator[Sequence[S3Object], None]:
        raise self._error
        yield ()

    versions = pages

    async def keeps_versions(self, bucket: str) -> bool:
        raise self._error

    async def aclose(self) -> None: ...


def test_settings_that_would_hear_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match="never see anything"):
        source(receive=[], reconcile=0)
    with pytest.raises(ValidationError):
        source(buckets=[])
    with pytest.raises(ValidationError):
        source(receive=["carrier pigeon"])
    with pytest.raises(ValidationError, match="events"):
        source(events=["ObjectCreated:*"])


DAY = 86400


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({}, DAY + 1800 + 300),
        ({"reconcile": "1h", "visible_after": "3d"}, 3 * DAY + 1800 + 3600),
        ({"reconcile": 0}, 0),
        ({"events": ["s3:ObjectRemoved:Delete"]}, 0),
        ({"receive": ["sqs"], "queue_url": "https://sqs/1/q"}, 14 * DAY),
        ({"receive": ["sqs"], "queue_url": "https://sqs/1/q", "visible_after": "20d"}, 20 * DAY + 2100),
    ],
)
def test_how_long_an_event_may_come_again_is_known(settings: dict[str, Any], seconds: float) -> None:
    given = MinioSettings.model_validate({"buckets": ["b"]} | settings)
    assert KINDS["minio"].again_for(given) == seconds


# --- the source, listing ------------------------------------------------------------------------------

HOUR = 3600 * 1000


class Listed(Bench):
    """A bucket that nobody tells of; the daemon's clock stands where the test puts it."""

    def __init__(self, **settings: Any) -> None:
        self.store = FakeS3()
        self.clock = ManualClock(1_700_000_000 + 3600)
        given = {"endpoint": "http://s3.example", "buckets": ["inbox"], "receive": [], "reconcile": 3600}
        self.settings = MinioSettings.model_validate(given | settings)
        rig = MinioRig()
        rig.build = self.build  # type: ignore[method-assign]
        super().__init__(rig)

    def build(self) -> MinioSource:
        return MinioSource(name=NAME, settings=self.settings, lister=lambda _: self.store, clock=self.clock)

    def put(self, *keys: str, at: int | None = None) -> None:
        for key in keys:
            self.store.put(key)
            if at is not None:
                self.store.objects[key] = S3Object(key, 3, "e", at / 1000)

    async def life(self) -> list[str]:
        """One life of the daemon, until a pass is done; returns the keys of the objects that it accepted."""
        events, commits = len(self.journal.events), len(self.journal.commits)
        async with self.running():
            await self.journal.until(
                lambda: any('"began":null' in (cursor or "") for cursor in self.journal.commits[commits:])
            )
        return [event.attributes["object"] for event in self.journal.events[events:]]

    def forget_all_keys(self) -> None:
        """As the journal does long after events are settled."""
        self.journal.keys.clear()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(runners, "FINISH_WITHIN", 0.05)


async def test_what_was_there_before_the_first_start_is_taken() -> None:
    bench = Listed()
    bench.put(*(f"{number:02}" for number in range(10)))
    assert await bench.life() == [f"{number:02}" for number in range(10)]


async def test_objects_of_a_settled_past_are_not_offered_again_though_their_keys_are_forgotten() -> None:
    now = 1_700_000_000_000
    bench = Listed()
    bench.put("old", at=now - 48 * HOUR)
    bench.put("young", at=now)
    await bench.life()
    bench.forget_all_keys()
    bench.put("new", at=now + HOUR)
    assert await bench.life() == ["new", "young"]


async def test_an_object_dated_in_the_future_hides_nothing() -> None:
    now = 1_700_000_000_000
    bench = Listed()
    bench.put("a", at=now)
    bench.put("from the future", at=now + 999 * HOUR)
    await bench.life()
    bench.clock.pass_time(3600)
    bench.put("b", at=now + 2 * HOUR)
    assert await bench.life() == ["b"]


async def test_a_clock_of_ours_that_was_ahead_hides_nothing() -> None:
    now = 1_700_000_000_000
    bench = Listed()
    bench.clock.step_wall(999 * 3600)
    bench.put("a", at=now)
    await bench.life()
    bench.clock.step_wall(-999 * 3600)
    bench.put("b", at=now + HOUR)
    assert await bench.life() == ["b"]


async def test_a_clock_that_was_set_back_with_the_stores_hides_nothing() -> None:
    now = 1_700_000_000_000
    bench = Listed()
    bench.put("a", at=now)
    await bench.life()
    bench.clock.step_wall(-48 * 3600)
    bench.put("b", at=now - 47 * HOUR)
    assert await bench.life() == ["b"]


@pytest.mark.parametrize(
    ("etag", "settings", "late", "found"),
    [
        ("e", {}, 1, []),
        ("e-17", {}, 20, ["b"]),
        ("e-17", {}, 48, []),
        ("e", {"visible_after": "2d"}, 40, ["b"]),
        ("e-17", {"visible_after": "2d"}, 40, ["b"]),
    ],
)
async def test_what_appears_later_than_it_says_is_found_if_it_is_not_too_late(
    etag: str, settings: dict[str, Any], late: int, found: list[str]
) -> None:
    """An upload in parts is dated when it began, a replica when its original was made."""
    now = 1_700_000_000_000
    bench = Listed(**settings)
    bench.put("a", at=now)
    await bench.life()
    bench.store.objects["b"] = S3Object("b", 3, etag, (now - late * HOUR) / 1000)
    assert await bench.life() == found


def _versions(key: str, *instants: int, deleted: bool = False) -> list[S3Object]:
    """Of one key, the oldest first; the last may be a delete marker."""
    last = len(instants) - 1
    return [
        S3Object(
            key,
            0 if deleted and at == last else 3,
            "" if deleted and at == last else "e",
            instant / 1000,
            f"v{at}",
            is_latest=at == last,
            is_marker=deleted and at == last,
        )
        for at, instant in enumerate(instants)
    ]


def _facts(bench: Listed) -> list[tuple[str, str, str]]:
    return [
        (event.attributes["object"], event.attributes["version_id"], event.action)
        for event in bench.journal.events
    ]


BOTH = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


async def test_versions_that_were_overwritten_and_deleted_before_anybody_looked_are_found() -> None:
    now = 1_700_000_000_000
    bench = Listed(events=BOTH)
    bench.store = FakeS3(page=100)
    bench.store.history = _versions("a", now)
    await bench.life()
    bench.store.history += _versions("b", now + HOUR, now + HOUR + 1, now + HOUR + 2, deleted=True)
    bench.store.history += _versions("c", now + HOUR)
    await bench.life()
    created, removed = Action.CREATED, Action.REMOVED
    assert _facts(bench) == [
        ("a", "v0", created),
        ("b", "v0", created),
        ("b", "v1", created),
        ("b", "v2", removed),
        ("c", "v0", created),
    ]


@pytest.mark.parametrize(
    ("events", "actions"),
    [
        (["s3:ObjectCreated:*"], [Action.CREATED, Action.CREATED]),
        (["s3:ObjectRemoved:*"], [Action.REMOVED]),
        (["s3:ObjectRemoved:Delete"], []),
    ],
)
async def test_of_versions_only_what_is_wanted_is_found(events: list[str], actions: list[Action]) -> None:
    now = 1_700_000_000_000 + HOUR
    bench = Listed(events=events)
    bench.store.history = _versions("b", now, now + 1, now + 2, deleted=True)
    assert bench.settings.lists is bool(actions)
    if actions:
        await bench.life()
    assert [event.action for event in bench.journal.events] == actions


async def test_the_first_look_takes_the_bucket_as_it_is_not_how_it_came_to_be_so() -> None:
    old = 1_600_000_000_000
    bench = Listed(events=BOTH)
    bench.store.history = [*_versions("a", old, old + 1), *_versions("b", old, old + 1, deleted=True)]
    await bench.life()
    await bench.life()
    assert _facts(bench) == [("a", "v1", Action.CREATED)]


async def test_what_happens_after_the_first_look_at_an_empty_bucket_is_no_history() -> None:
    bench = Listed(events=BOTH)
    await bench.life()
    first = round(bench.clock.now() * 1000)
    bench.clock.pass_time(7200)
    bench.store.history = _versions("a", first + 1, first + HOUR)
    await bench.life()
    assert _facts(bench) == [("a", "v0", Action.CREATED), ("a", "v1", Action.CREATED)]


async def test_a_key_whose_versions_fill_pages_is_gone_through_and_a_broken_pass_goes_on_before_it() -> None:
    now = 1_700_000_000_000 + HOUR
    bench = Listed()
    bench.store.history = [*_versions("a", now), *_versions("b", *range(now, now + 10))]
    assert len(await bench.life()) == 11
    places = [json.loads(cursor or "{}")["inbox"]["after"] for cursor in bench.journal.commits]
    assert set(places) == {"a", ""}, "never at a key of which there may be more"


@pytest.mark.parametrize("where", ["keeps_versions", "versions"])
async def test_where_versions_may_not_be_seen_the_latest_are_found_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    said: list[VersionsHidden] = []
    monkeypatch.setattr(VersionsHidden, "emit", lambda self: said.append(self))  # noqa: PLW0108 - binds
    bench = Listed(reconcile=0.01)
    bench.put("a")
    bench.store.history = _versions("a", 1, 2)
    monkeypatch.setattr(bench.store, where, getattr(Refusing(Refused("403", code="AccessDenied")), where))
    async with bench.running():
        await bench.journal.until(lambda: bench.journal.duplicates > 2)
    assert [event.attributes["object"] for event in bench.journal.events] == ["a"]
    assert [(one.bucket, one.error) for one in said] == [("inbox", "403")]


async def test_an_unfinished_pass_over_another_prefix_is_begun_anew() -> None:
    bench = Listed(prefix="b")
    bench.put("a1", "a2", "b1")
    cursor = {"inbox": {"since": 0, "began": 1_600_000_000_000, "newest": 0, "after": "z", "prefix": "z"}}
    bench.journal.cursors[NAME] = json.dumps(cursor)
    assert await bench.life() == ["b1"]


async def test_a_pass_that_was_broken_off_goes_on_and_is_followed_by_a_whole_one() -> None:
    bench = Listed()
    bench.put(*(f"{number:02}" for number in range(12)))
    bench.journal.takes.clear()
    async with bench.running(), asyncio.TaskGroup() as group:
        group.create_task(_let_through_one_page(bench))
    first = [event.attributes["object"] for event in bench.journal.events]
    assert first
    assert len(first) < 12
    bench.put("00-behind")
    bench.store.calls.clear()
    bench.journal.takes.set()
    async with bench.running():
        await bench.journal.until(lambda: len(bench.journal.events) == 13)
    assert bench.store.calls[1] == first[-1], "it went on where it was"
    assert bench.journal.events[-1].attributes["object"] == "00-behind"


async def _let_through_one_page(bench: Listed) -> None:
    await asyncio.sleep(0.01)
    bench.journal.takes.set()
    await bench.journal.until(lambda: len(bench.journal.events) >= 3)
    bench.journal.takes.clear()


async def test_one_call_lists_a_page_and_none_is_made_per_object() -> None:
    bench = Listed()
    bench.store = FakeS3(page=100)
    bench.put(*(f"{number:04}" for number in range(1000)))
    await bench.life()
    assert len(bench.store.calls) <= 10 + 1


async def test_a_gap_is_followed_by_a_listing() -> None:
    bench = Listed()
    async with bench.running() as running:
        bench.put("before")
        await bench.journal.until(lambda: bool(bench.journal.cursors))
        bench.gate.set("full")
        while running.status.state != "paused":  # noqa: ASYNC110 - a status calls nobody
            await asyncio.sleep(0)
        bench.put("while paused")
        bench.gate.set(None)
        await bench.journal.until(lambda: len(bench.journal.events) == 2)


@pytest.mark.parametrize("error", [StoreError("403 AccessDenied: no"), StoreUnavailable("refused")])
async def test_a_store_that_refuses_is_said_in_its_words(error: StoreError) -> None:
    bench = Listed()
    bench.store = Refusing(error)  # type: ignore[assignment]
    async with bench.running() as running:
        while running.status.state != "failed":  # noqa: ASYNC110 - a status calls nobody
            await asyncio.sleep(0)
        assert running.status.error == str(error)
        assert (await bench.receive(post(b"{}"))).status == 503


async def test_a_cursor_of_another_kind_of_source_is_no_obstacle() -> None:
    bench = Listed()
    bench.put("a")
    bench.journal.cursors[NAME] = "1234567890"
    assert await bench.life() == ["a"]
