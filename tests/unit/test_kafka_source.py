"""Records become events; what is committed is what was acknowledged. On a group in memory."""

import asyncio
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import Disconnected
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.sources.kafka import source as kafka_source
from dcnios_daemon.sources.kafka.places import Mark
from dcnios_daemon.sources.kafka.records import Reader, content_type
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.sources.kafka.source import KafkaSource
from tests.contract.kafka_rig import SETTINGS, Broker, FakeMembership, FakeRecord

FRAME = FakeRecord("frames", 3, 41, timestamp=1_700_000_000_123, value=b'{"run": 7}')


def event(record: FakeRecord) -> Event:
    return Reader(source="frames", instance="hall-b", clock=SystemClock()).event(record)


def made(broker: Broker, settings: KafkaSettings = SETTINGS) -> KafkaSource:
    return KafkaSource(name="frames", settings=settings, instance="x", membership=FakeMembership(broker))


# --- records ------------------------------------------------------------------------------------------


def test_a_record_becomes_an_event_with_its_place_and_time() -> None:
    assert event(FRAME) == Event(
        key=event_key("frames", "frames", 3, 41, 1_700_000_000_123),
        source="frames",
        kind="kafka",
        subject="frames",
        action=Action.MESSAGE,
        time=1_700_000_000.123,
        size=10,
        data=b'{"run": 7}',
        content_type="application/json",
        attributes={"partition": "3", "offset": "41"},
    )


@pytest.mark.parametrize("value", [b"", b"\x00\xff\xfe", b"x" * 1_000_000, "{é\u2028".encode()])
def test_values_are_carried_byte_for_byte(value: bytes) -> None:
    made = event(FakeRecord("frames", 0, 0, value=value))
    assert (made.data, made.size) == (value, len(value))


def test_a_tombstone_says_removed_and_an_empty_value_does_not() -> None:
    tombstone = event(FakeRecord("frames", 0, 0, key=b"run-7", value=None))
    assert (tombstone.action, tombstone.data, tombstone.attributes["record_key"]) == (
        Action.REMOVED,
        b"",
        "run-7",
    )
    assert event(FakeRecord("frames", 0, 0, value=b"")).action is Action.MESSAGE


def test_headers_and_key_are_attributes_whatever_bytes_they_hold() -> None:
    headers = (("Content-Type", b"text/csv"), ("Trace", b"\xff"), ("nothing", None))
    made = event(FakeRecord("frames", 0, 0, key=b"\xc3\xa9\xff", headers=headers))
    assert made.content_type == "text/csv"
    assert made.attributes["header.trace"] == "\ufffd"
    assert made.attributes["header.nothing"] == ""
    assert made.attributes["record_key"] == "é\ufffd"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a": 1}', "application/json"),
        (b" [1]\n", "application/json"),
        (b"{}", "application/json"),
        (b"{a: 1}", "application/octet-stream"),
        (b'{"a": "\xff"}', "application/octet-stream"),
        (b"{", "application/octet-stream"),
        (b"17", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_only_what_is_json_is_called_json(data: bytes, expected: str) -> None:
    assert content_type(data) == expected


def test_another_topic_partition_offset_or_time_is_another_happening() -> None:
    records = [
        FRAME,
        FakeRecord("frame", 3, 41, timestamp=FRAME.timestamp),
        FakeRecord("frames", 34, 1, timestamp=FRAME.timestamp),
        FakeRecord("frames", 3, 42, timestamp=FRAME.timestamp),
        FakeRecord("frames", 3, 41, timestamp=FRAME.timestamp + 1),  # the topic was made again
    ]
    assert len({event(record).key for record in records}) == 5
    assert event(FakeRecord("frames", 3, 41, value=b"else")).key == event(FRAME).key


def test_a_record_without_a_time_gets_the_present() -> None:
    assert event(FakeRecord("frames", 0, 0, timestamp=-1)).time > 1_700_000_000


KEPT = "0123456789abcdef" * 2 + "01234567"


def test_the_key_of_an_event_from_another_daemon_is_kept() -> None:
    headers = (("dcnios-key", KEPT.encode()), ("dcnios-instance", b"hall-a"))
    assert event(FakeRecord("frames", 0, 0, headers=headers)).key == KEPT
    assert event(FakeRecord("frames", 1, 9, headers=headers)).key == KEPT


@pytest.mark.parametrize(
    "headers",
    [
        (("dcnios-key", KEPT.encode()), ("dcnios-instance", b"hall-b")),  # ours: the journal knows that key
        (("dcnios-key", KEPT[:-1].encode()),),
        (("dcnios-key", KEPT.upper().encode()),),
        (("dcnios-key", None),),
    ],
)
def test_no_other_key_is_kept(headers: tuple[tuple[str, bytes | None], ...]) -> None:
    place = ("frames", 0, 0, FakeRecord("", 0, 0).timestamp)
    assert event(FakeRecord("frames", 0, 0, headers=headers)).key == event_key("frames", *place)


# --- batches and commits ------------------------------------------------------------------------------


async def test_nothing_is_committed_before_the_acknowledgement() -> None:
    broker = Broker()
    for _ in range(5):
        broker.write(b"x")
    source = made(broker)
    await source.connect(None)
    batch = await source.read()
    assert len(batch.events) == 5
    assert broker.committed == {("frames", 0): 0, ("frames", 1): 0}
    await source.ack(batch)
    assert broker.committed == {("frames", 0): 3, ("frames", 1): 2}
    assert batch.cursor == '{"frames":{"topic_id":"one","offsets":{"0":3,"1":2}}}'
    await source.aclose()


async def test_what_is_read_ahead_is_not_committed_ahead() -> None:
    broker = Broker(partitions=1)
    broker.write(b"first")
    source = made(broker)
    await source.connect(None)
    batch = await source.read()
    broker.write(b"second")
    await source.ack(batch)
    assert len(source._made) == 1
    assert broker.committed == {("frames", 0): 1}
    ahead = await source.read()
    assert [each.data for each in ahead.events] == [b"second"]
    assert broker.committed == {("frames", 0): 1}
    await source.ack(ahead)
    assert broker.committed == {("frames", 0): 2}


async def test_what_is_read_ahead_is_dropped_at_a_rebalance() -> None:
    broker = Broker(partitions=1)
    broker.write(b"first")
    source = made(broker)
    await source.connect(None)
    batch = await source.read()
    broker.write(b"second")
    await source.ack(batch)
    await broker.rebalance()
    assert [each.data for each in (await source.read()).events] == [b"second"]


async def test_what_goes_wrong_reading_ahead_harms_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(partitions=1)
    broker.write(b"x")
    source = made(broker)
    await source.connect(None)
    batch = await source.read()

    async def fails(**_: object) -> object:
        raise Disconnected("gone")

    monkeypatch.setattr(source._membership, "fetch", fails)
    await source.ack(batch)
    assert broker.committed == {("frames", 0): 1}
    with pytest.raises(Disconnected):
        await source.read()


async def test_a_commit_that_fails_says_so_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(partitions=1)
    broker.write(b"x")
    source = made(broker)
    await source.connect(None)

    async def fails(_offsets: object) -> bool:
        raise Disconnected("gone")

    batch = await source.read()
    monkeypatch.setattr(source._membership, "commit", fails)
    with pytest.raises(Disconnected):
        await source.ack(batch)


async def test_a_batch_that_was_not_acknowledged_comes_again() -> None:
    broker = Broker()
    broker.write(b"x")
    source = made(broker)
    await source.connect(None)
    assert await source.read() is await source.read()


async def test_a_cancelled_read_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(partitions=1)
    broker.write(b"first")
    source = made(broker)
    await source.connect(None)
    fetch = source._membership.fetch

    async def hang_at_the_second(*, wait: float, most: int) -> object:
        if source._made:
            await asyncio.Event().wait()
        return await fetch(wait=wait, most=most)

    monkeypatch.setattr(source._membership, "fetch", hang_at_the_second)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await source.read()
    monkeypatch.undo()
    broker.write(b"second")
    assert [each.data for each in (await source.read()).events] == [b"first", b"second"]


async def test_batches_are_bounded_by_count_and_by_bytes() -> None:
    broker = Broker(partitions=1)
    for _ in range(5500):
        broker.write(b"")
    for _ in range(190):
        broker.write(bytes(100_000))
    source = made(broker)
    await source.connect(None)
    sizes: list[tuple[int, int]] = []
    while sum(count for count, _ in sizes) < 5690:
        batch = await source.read()
        sizes.append((len(batch.events), sum(len(each.data) for each in batch.events)))
        await source.ack(batch)
    assert sizes[0] == (5000, 0)
    assert all(size < 15_000_000 for _, size in sizes)
    assert len(sizes) >= 3


async def test_what_comes_after_a_rebalance_is_not_committed_by_what_was_read_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another member had the partition meanwhile and went further: an old commit would set it back."""
    monkeypatch.setattr(kafka_source, "_REVOKE_PATIENCE", 0.01)
    broker = Broker(partitions=1)
    for _ in range(4):
        broker.write(b"x")
    source = made(broker)
    await source.connect(None)
    batch = await source.read()
    await broker.rebalance()  # the journal took too long
    broker.marks = {("frames", 0): Mark(17, "one")}
    await source.ack(batch)
    assert broker.committed == {("frames", 0): 17}


async def test_a_rebalance_waits_for_the_journal_so_that_nothing_is_done_twice() -> None:
    broker = Broker(partitions=1)
    broker.write(b"x")
    source = made(broker)
    await source.connect(None)
    batch = await source.read()
    async with asyncio.TaskGroup() as group:
        rebalance = group.create_task(broker.rebalance())
        await asyncio.sleep(0.01)
        assert not rebalance.done()
        await source.ack(batch)
    broker.write(b"y")
    assert [each.data for each in (await source.read()).events] == [b"y"]


async def test_what_was_fetched_but_not_given_is_dropped_at_a_rebalance() -> None:
    broker = Broker(partitions=1)
    broker.write(b"x")
    source = made(broker)
    await source.connect(None)
    await source._take()
    await broker.rebalance()
    assert [each.data for each in (await source.read()).events] == [b"x"]


async def test_latest_begins_at_the_end_and_stays_there_over_a_crash() -> None:
    """Without the commit at the beginning, what comes between it and the first batch would be skipped."""
    broker = Broker(partitions=1)
    broker.write(b"old")
    latest = SETTINGS.model_copy(update={"start": "latest"})
    source = made(broker, latest)
    await source.connect(None)
    broker.write(b"new")
    again = made(broker, latest)  # the first one crashed before it read
    await again.connect(None)
    assert [each.data for each in (await again.read()).events] == [b"new"]


async def test_latest_is_for_the_first_time_only() -> None:
    broker = Broker(partitions=1)
    broker.write(b"while we were away, and the group's offsets have expired")
    source = made(broker, SETTINGS.model_copy(update={"start": "latest"}))
    await source.connect('{"frames":{"topic_id":"one","offsets":{"0":0}}}')
    assert len((await source.read()).events) == 1


async def test_what_goes_wrong_in_a_rebalance_ends_the_next_read(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(partitions=1)
    broker.write(b"old")
    source = made(broker, SETTINGS.model_copy(update={"start": "latest"}))

    async def fail(*_: object) -> None:
        raise Disconnected("gone")

    monkeypatch.setattr(source._membership, "offsets", fail)
    await source.connect(None)
    with pytest.raises(Disconnected):
        await source.read()


async def test_a_cursor_of_another_shape_does_no_harm() -> None:
    broker = Broker(partitions=1)
    broker.write(b"x")
    source = made(broker)
    await source.connect("[what")
    assert (await source.read()).cursor == '{"frames":{"topic_id":"one","offsets":{"0":1}}}'


# --- where to begin and to go on -------------------------------------------------------------------------


async def all_of(source: KafkaSource, count: int) -> list[str]:
    """Read and acknowledge until there are so many."""
    found: list[str] = []
    while len(found) < count:
        batch = await source.read()
        found += [f"{each.attributes['offset']}" for each in batch.events]
        await source.ack(batch)
    return found


async def test_an_offset_of_a_topic_that_is_gone_says_nothing_about_the_new_one() -> None:
    broker = Broker(partitions=1)
    for _ in range(3):
        broker.write(b"old")
    source = made(broker)
    await source.connect(None)
    await all_of(source, 3)
    broker.make_again("two")
    for _ in range(5):
        broker.write(b"new")
    again = made(broker)
    await again.connect("{}")
    assert await all_of(again, 5) == ["0", "1", "2", "3", "4"]
    assert broker.marks["frames", 0] == Mark(5, "two")


async def test_a_topic_made_again_while_we_read_ends_the_connection_at_the_next_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_source, "_PROBE_AFTER", 0.0)
    broker = Broker(partitions=1)
    source = made(broker)
    await source.connect(None)
    broker.make_again("two")
    broker.write(b"x")
    with pytest.raises(Disconnected, match="made again"):
        await source.read()


async def test_brokers_that_know_no_ids_are_believed_until_an_offset_cannot_be() -> None:
    broker = Broker(partitions=1)
    broker.topic_id = ""
    for _ in range(3):
        broker.write(b"old")
    source = made(broker)
    await source.connect(None)
    await all_of(source, 3)
    broker.make_again("")
    broker.write(b"new")
    again = made(broker)
    await again.connect("{}")
    assert await all_of(again, 1) == ["0"]


async def test_a_group_that_was_forgotten_goes_on_at_the_cursor() -> None:
    broker = Broker(partitions=1)
    for _ in range(5):
        broker.write(b"x")
    source = made(broker)
    await source.connect('{"frames":{"topic_id":"one","offsets":{"0":3}}}')
    assert await all_of(source, 2) == ["3", "4"]


async def test_a_cursor_of_another_topic_is_no_witness() -> None:
    broker = Broker(partitions=1)
    for _ in range(2):
        broker.write(b"x")
    source = made(broker)
    await source.connect('{"frames":{"topic_id":"gone","offsets":{"0":1}}}')
    assert await all_of(source, 2) == ["0", "1"]


async def test_a_first_start_that_could_not_be_told_to_the_group_is_begun_again() -> None:
    """A rebalance in the middle of the first one: what is not committed must not be taken for seen."""
    broker = Broker(partitions=1)
    broker.write(b"old")
    source = made(broker, SETTINGS.model_copy(update={"start": "latest"}))
    member = source._membership
    assert isinstance(member, FakeMembership)
    member.refuses_commits = True
    await source.connect(None)
    member.refuses_commits = False
    await broker.rebalance()
    broker.write(b"new")
    assert await all_of(source, 1) == ["1"]


async def test_nothing_is_given_or_committed_between_two_assignments(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched is dropped then, and the positions are behind it."""
    monkeypatch.setattr(kafka_source, "_POLL", 0.01)
    broker = Broker(partitions=1)
    broker.write(b"x")
    source = made(broker)
    await source.connect(None)
    await source.ack(await source.read())  # the first start is told
    broker.write(b"y")
    await source._take()
    await source._revoked()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await source.read()
    assert broker.committed == {("frames", 0): 1}


async def test_a_dropped_batch_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_source, "_REVOKE_PATIENCE", 0.01)
    broker = Broker(partitions=1)
    broker.write(b"x")
    source = made(broker)
    await source.connect(None)
    await source.read()
    broker.marks.clear()
    await broker.rebalance()
    assert await all_of(source, 1) == ["0"]


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("security", "word"),
    [
        ({"protocol": "SASL_SSL"}, "needs username and password"),
        ({"protocol": "SSL", "username": "u", "password": "p"}, "SASL"),
        ({"ca_file": "/ca.pem"}, "SSL"),
        ({"protocol": "SASL_SSL", "username": "u", "password": "p", "mechanism": "MD5"}, "SCRAM"),
    ],
)
def test_security_that_cannot_work_is_refused(security: dict[str, str], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        KafkaSettings.model_validate({"bootstrap": ["b:1"], "topics": ["t"], "security": security})


@pytest.mark.parametrize(
    "given",
    [
        {"bootstrap": []},
        {"topics": []},
        {"bootstrap": ["b"]},
        {"topics": ["a b"]},
        {"pattern": "raw.*"},
        {"topics": [], "pattern": "("},
        {"start": "2026-03-01"},
        {"start": "soon"},
        {"static_member": "a b"},
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        KafkaSettings.model_validate({"bootstrap": ["b:1"], "topics": ["t"]} | given)


def test_a_start_a_pattern_and_a_static_member_are_read_as_they_are_meant() -> None:
    given = {"bootstrap": ["b:1"], "pattern": r"raw\..*", "start": "2026-03-01T00:00:00Z"}
    settings = KafkaSettings.model_validate(given | {"static_member": "TRUE"})
    assert settings.start == datetime(2026, 3, 1, tzinfo=UTC)
    assert settings.static_member is True
