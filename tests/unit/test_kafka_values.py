"""Values that name a schema of a registry: what becomes of them, also when the registry fails."""

import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import ValidationError

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import Disconnected, Rejected, SourceError
from dcnios_daemon.core.event import Event
from dcnios_daemon.sources.kafka import values as values_module
from dcnios_daemon.sources.kafka.records import Reader
from dcnios_daemon.sources.kafka.schema_registry import RegistrySettings
from dcnios_daemon.sources.kafka.values import Values
from dcnios_daemon.telemetry import events as telemetry
from tests.contract.kafka_rig import FakeRecord
from tests.fakes.registry import FakeRegistry

RUN = {"type": "record", "name": "org.example.Run", "fields": [{"name": "n", "type": "int"}]}


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as made:
        yield made


@pytest_asyncio.fixture
async def values(registry: FakeRegistry) -> AsyncIterator[Values]:
    made = values_of(registry)
    yield made
    await made.aclose()


@pytest.fixture(autouse=True)
def _short_doubts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values_module, "_DOUBTS", (0.01, 0.02))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[telemetry.Signal]:
    heard: list[telemetry.Signal] = []
    monkeypatch.setattr(telemetry.Signal, "emit", lambda self: heard.append(self))  # noqa: PLW0108 - a method
    return heard


def values_of(registry: FakeRegistry, **more: Any) -> Values:
    settings = RegistrySettings(url=registry.url, **more)
    return Values(source="frames", settings=settings, clock=SystemClock())


def framed(number: int, value: bytes) -> bytes:
    return struct.pack(">bI", 0, number) + value


async def event_of(values: Values, value: bytes | None, **more: Any) -> Event:
    record = FakeRecord("frames", 3, 41, value=value, **more)
    await values.learn([value])
    return values.decoded(Reader(source="frames", instance="x", clock=SystemClock()).event(record))


async def test_avro_becomes_json_and_tells_its_schema(registry: FakeRegistry, values: Values) -> None:
    number = registry.register(RUN)
    event = await event_of(values, framed(number, b"\x0e"), headers=(("content-type", b"avro/binary"),))
    assert (event.data, event.size, event.content_type) == (b'{"n":7}', 7, "application/json")
    assert event.attributes["schema_id"] == str(number)
    assert event.attributes["schema_type"] == "avro"
    assert event.attributes["schema_name"] == "org.example.Run"
    assert (event.attributes["partition"], event.attributes["offset"]) == ("3", "41")


async def test_json_is_freed_of_its_prefix_byte_for_byte(registry: FakeRegistry, values: Values) -> None:
    number = registry.register({"type": "object"}, kind="JSON")
    event = await event_of(values, framed(number, b'{ "a" : 1.10 }'))
    assert (event.data, event.content_type) == (b'{ "a" : 1.10 }', "application/json")
    assert event.attributes["schema_type"] == "json"


async def test_protobuf_stays_as_it_is_and_that_is_said_once(
    registry: FakeRegistry, values: Values, said: list[telemetry.Signal]
) -> None:
    number = registry.register('syntax = "proto3"; message A {}', kind="PROTOBUF")
    for _ in range(3):
        event = await event_of(values, framed(number, b"\x00\x08\x01"))
        assert event.data == framed(number, b"\x00\x08\x01")
        assert event.attributes["schema_type"] == "protobuf"
        assert "value_error" not in event.attributes
    assert said == [telemetry.ValuesKept(source="frames", schema=number, schema_type="PROTOBUF")]


async def test_bare_bytes_are_freed_of_their_prefix(registry: FakeRegistry, values: Values) -> None:
    event = await event_of(values, framed(registry.register('"bytes"'), b"\x00\xff"))
    assert (event.data, event.content_type) == (b"\x00\xff", "application/octet-stream")


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\x00\x00\x00", b"\x01\x00\x00\x00\x01x"])
async def test_values_that_name_no_schema_are_left_alone(
    registry: FakeRegistry, values: Values, value: bytes | None
) -> None:
    await event_of(values, framed(0, b"which makes zero a known bad one"))
    event = await event_of(values, value)
    assert event.data == (value or b"")
    assert set(event.attributes) == {"partition", "offset"}
    assert not registry.asked


async def test_without_a_registry_nothing_is_touched() -> None:
    values = Values(source="frames", settings=None, clock=SystemClock())
    event = await event_of(values, framed(1, b"x"))
    assert event.data == framed(1, b"x")
    await values.check()
    await values.aclose()


async def test_a_schema_is_asked_for_once(registry: FakeRegistry, values: Values) -> None:
    number = registry.register(RUN)
    for n in range(5):
        assert (await event_of(values, framed(number, bytes([2 * n])))).data == b'{"n":%d}' % n
    assert registry.asked.total() == 1


async def test_only_so_many_schemas_are_kept(
    registry: FakeRegistry, values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values_module, "_KEPT_SCHEMAS", 2)
    one, two, three = (registry.register(RUN, subject=name) for name in "abc")
    for number in (one, two, one, three, one):
        await values.learn([framed(number, b"\x02")])
    assert registry.asked.total() == 3
    await values.learn([framed(two, b"\x02")])
    assert registry.asked.total() == 4
    await values.learn([framed(number, b"") for number in (one, two, three)])
    assert values.decoded(await event_of(values, framed(one, b"\x02"))).data == b'{"n":1}'


async def test_references_are_fetched_deepest_first_and_each_once(
    registry: FakeRegistry, values: Values
) -> None:
    point = {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "int"}]}
    line = {
        "type": "record",
        "name": "Line",
        "fields": [{"name": "a", "type": "Point"}, {"name": "b", "type": "Point"}],
    }
    both = {
        "type": "record",
        "name": "Both",
        "fields": [{"name": "l", "type": "Line"}, {"name": "p", "type": "Point"}],
    }
    to_point = {"name": "Point", "subject": "a/point", "version": 1}
    to_line = {"name": "Line", "subject": "line", "version": 1}
    registry.register(point, subject="a/point")
    registry.register(line, subject="line", references=[to_point])
    number = registry.register(both, references=[to_line, to_point])
    event = await event_of(values, framed(number, b"\x02\x04\x06"))
    assert json.loads(event.data) == {"l": {"a": {"x": 1}, "b": {"x": 2}}, "p": {"x": 3}}
    assert registry.asked.total() == 3


async def test_references_in_a_circle_end(registry: FakeRegistry, values: Values) -> None:
    circle = [{"name": "R", "subject": "circle", "version": 1}]
    number = registry.register('"R"', subject="circle", references=circle)
    event = await event_of(values, framed(number, b"\x02"))
    assert "cannot be used" in event.attributes["value_error"]


# --- poison -------------------------------------------------------------------------------------------


async def test_what_cannot_be_understood_is_an_event_with_its_bytes_and_the_reason(
    registry: FakeRegistry, values: Values, said: list[telemetry.Signal]
) -> None:
    avro = registry.register(RUN)
    text = registry.register({}, kind="JSON")
    broken = registry.register('{"type": "unheard"}')
    lost = registry.register(RUN, references=[{"name": "X", "subject": "gone", "version": 1}])
    reasons = {
        framed(avro, b""): "EOFError",
        framed(avro, b"\x02\x02\x02"): "2 bytes are left over",
        framed(text, b"{"): "it is no JSON: ",
        framed(broken, b"\x02"): "its schema cannot be used: ",
        framed(lost, b"\x02"): "the registry does not have it: Subject 'gone' not found.",
        framed(9, b"\x02"): "the registry does not have it: Schema 9 not found",
        framed(0, b"\x02"): "the registry does not have it: no schema has such a number",
        framed(2**32 - 1, b"\x02"): "the registry does not have it: no schema has such a number",
    }
    for value, reason in reasons.items():
        event = await event_of(values, value)
        assert (event.data, event.content_type) == (value, "application/octet-stream")
        assert event.attributes["value_error"].startswith(reason)
    assert [type(each) for each in said] == [telemetry.InputMalformed] * len(reasons)
    first = said[0]
    assert isinstance(first, telemetry.InputMalformed)
    assert first.what == "value at frames/3/41"
    assert first.error.startswith(f"schema {avro}: EOFError")


async def test_an_unknown_schema_is_asked_for_again_since_one_registry_may_lag_behind_another(
    registry: FakeRegistry, values: Values
) -> None:
    number = registry.register(RUN)
    registry.lags = 2
    assert (await event_of(values, framed(number, b"\x02"))).data == b'{"n":1}'


async def test_rubbish_is_doubted_only_now_and_then_and_not_asked_for_twice(
    registry: FakeRegistry, values: Values
) -> None:
    for _ in range(2):
        await values.learn([framed(number, b"") for number in range(1, 51)])
    assert registry.asked.total() == 50 + 2


async def test_an_unknown_schema_that_comes_later_is_found(
    registry: FakeRegistry, values: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values_module, "_BELIEVED_FOR", 0.0)
    assert "value_error" in (await event_of(values, framed(100_001, b"\x02"))).attributes
    assert registry.register(RUN) == 100_001
    assert (await event_of(values, framed(100_001, b"\x02"))).data == b'{"n":1}'


# --- the registry's bad days --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (
            500,
            '{"error_code": 50001, "message": "Error in the backend"}',
            Disconnected,
            "Error in the backend",
        ),
        (503, "<html>", Disconnected, "answers 503"),
        (429, "", Disconnected, "answers 429"),
        (401, '{"error_code": 401, "message": "Unauthorized"}', Rejected, "correct the registry's login"),
        (403, '{"error_code": 40301, "message": "denied"}', Rejected, "grant it the right to read"),
        (404, "<html>no such page</html>", Rejected, "correct the registry's url"),
        (404, '{"error_code": 404, "message": "HTTP 404 Not Found"}', Rejected, "correct the registry's url"),
        (302, "", Rejected, "correct the registry's url"),
        (200, "<html>log in here</html>", Rejected, "does not answer as a schema registry does"),
        (200, '{"no": "schema"}', Rejected, "does not answer as a schema registry does"),
    ],
)
async def test_a_registry_that_fails_makes_the_source_wait(
    registry: FakeRegistry, values: Values, status: int, body: str, kind: type[SourceError], words: str
) -> None:
    number = registry.register(RUN)
    registry.answers = [(status, body)]
    with pytest.raises(kind, match=f"^the schema registry at {registry.url}.*{words}"):
        await values.learn([framed(number, b"\x02")])
    assert (await event_of(values, framed(number, b"\x02"))).data == b'{"n":1}'


async def test_a_registry_that_is_away_makes_the_source_wait(registry: FakeRegistry, values: Values) -> None:
    number = registry.register(RUN)
    await registry.fall()
    for ask in (values.check(), values.learn([framed(number, b"\x02")])):
        with pytest.raises(Disconnected, match="the schema registry at "):
            await ask
    await registry.rise()
    await values.check()
    assert (await event_of(values, framed(number, b"\x02"))).data == b'{"n":1}'


async def test_it_logs_in_with_what_the_files_hold(registry: FakeRegistry, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("wört\n", encoding="utf-8")
    registry.login = "user:wört"
    for more in ({"username": "user", "password_file": file}, {"token_file": file}):
        values = values_of(registry, **more)
        await values.check()
        await values.aclose()
        registry.login, registry.token = None, "tok"
        file.write_text("tok")
    values = values_of(registry, token="hush-hush")
    with pytest.raises(Rejected) as raised:
        await values.check()
    assert "hush-hush" not in str(raised.value)
    await values.aclose()
    for path, reason in ((tmp_path / "gone", "cannot be read"), (file, "header injection")):
        file.write_text("a\nb")
        values = values_of(registry, token_file=path)
        with pytest.raises(Disconnected, match=reason):
            await values.check()
        await values.aclose()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"username": "u"}, "give username and password, or neither"),
        ({"username": "u", "password": "p", "token": "t"}, "not both"),
        ({"ca_file": "x"}, "ca_file needs an https url"),
        ({"url": "registry:8081"}, "String should match"),
        ({"url": "http://u:p@registry"}, "String should match"),
    ],
)
def test_settings_that_cannot_work_are_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RegistrySettings.model_validate({"url": "http://registry:8081"} | given)
