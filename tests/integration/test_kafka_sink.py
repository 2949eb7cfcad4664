"""The Kafka sink against a real broker: what it writes, what is refused, and brokers that go and come."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import yaml
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.protocol.admin import CreateAclsRequest

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import OrderRefused, SinkUnavailable
from dcnios_daemon.core.event import Action
from dcnios_daemon.core.payload import PayloadForm, build_payload
from dcnios_daemon.core.ports import Order
from dcnios_daemon.sinks.kafka import KafkaRun, KafkaSink, check
from dcnios_daemon.sinks.kafka.sink import KafkaPlan
from dcnios_daemon.sinks.spec import SinkContext
from dcnios_daemon.sources.kafka.records import Reader
from tests.daemon import daemon, eventually
from tests.fakes.desk import make_order
from tests.integration.kafka_rig import admin_of
from tests.servers.fixtures import KafkaAccess
from tests.servers.guarded_kafka import PASSWORD, GuardedKafka
from tests.servers.kafka import Kafka
from tests.servers.workspace import Workspace

_TOPIC, _LITERAL, _ALLOW, _WRITE, _DESCRIBE = 2, 3, 3, 4, 8
"""Kafka's codes for rights."""
ODD = bytes(range(256)) * 3


async def new_topic(bootstrap: str, partitions: int = 3, **configs: str) -> str:
    topic = f"out-{secrets.token_hex(4)}"
    async with admin_of(bootstrap) as admin:
        named = {name.replace("_", "."): value for name, value in configs.items()}
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=named)])
    return topic


@asynccontextmanager
async def plan(bootstrap: str, topic: str, **more: Any) -> AsyncIterator[KafkaPlan]:
    sink = KafkaSink(SinkContext(instance="writer", state=Path(), stores={}, clock=SystemClock()))
    try:
        yield sink.plan("r", KafkaRun.model_validate({"bootstrap": [bootstrap], "topic": topic, **more}))
    finally:
        await sink.aclose()


async def records(bootstrap: str, topic: str, count: int) -> list[Any]:
    """So many records, and no more of them."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    found: list[Any] = []
    try:
        async with asyncio.timeout(20):
            while len(found) < count:
                found += [await consumer.getone()]
        more = await consumer.getmany(timeout_ms=200)
    finally:
        await consumer.stop()
    return found + [one for some in more.values() for one in some]


def orders(*numbers: int, payload: bytes = b"{}") -> Sequence[Order]:
    return [make_order(str(number), payload=payload) for number in numbers]


async def submit(plan: KafkaPlan, *orders: Order) -> None:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for order in orders:
            group.create_task(plan.submit(order))


def _sockets(pid: int, port: int) -> int:
    """How many connections the process has to that port."""
    own = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            own.add(str(file.readlink()).removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[9] in own for row in rows)


async def test_after_a_reload_the_old_producer_is_gone(kafka: KafkaAccess, tmp_path: Path) -> None:
    topic, port = await new_topic(kafka.bootstrap), int(kafka.bootstrap.rpartition(":")[2])
    run = {"kind": "kafka", "bootstrap": [kafka.bootstrap], "topic": topic}
    settings = {
        "sources": {"hooks": {"kind": "cloudevents"}},
        "routes": {"pass": {"from": ["hooks"], "run": run}},
    }
    async with daemon(tmp_path, settings) as process:

        async def passed(number: int) -> int:
            """Pass one on; the connections that are open then."""
            headers = {"ce-id": str(number), "ce-source": "/t", "ce-type": "t", "ce-specversion": "1.0"}
            async with (
                aiohttp.ClientSession() as session,
                session.post(f"{process.url}/sources/hooks", headers=headers, data=b"x") as reply,
            ):
                assert reply.status == 200

            async def done() -> bool:
                return (await process.counts("pass")).get("succeeded") == number

            await eventually(done, f"{number} written", within=60)
            return await asyncio.to_thread(_sockets, process.pid, port)

        first = await passed(1)
        assert first
        for number in (2, 3, 4):
            run["linger"] = f"{number}ms"
            document = yaml.safe_load(process.config.read_text())
            document["routes"]["pass"]["run"] = run
            process.config.write_text(yaml.safe_dump(document))
            os.kill(process.pid, signal.SIGHUP)

            async def reloaded(times: int = number - 1) -> bool:
                return process.tail().count("daemon.reloaded") == times

            await eventually(reloaded, "the reload", within=60)
            await passed(number)

        async def as_before() -> bool:
            return await asyncio.to_thread(_sockets, process.pid, port) <= first

        await eventually(as_before, "the old producers' connections are closed", within=60)
    assert len(await records(kafka.bootstrap, topic, 4)) == 4


async def test_an_event_is_a_record_that_another_daemon_reads_as_the_same_event(kafka: KafkaAccess) -> None:
    topic = await new_topic(kafka.bootstrap)
    order = make_order("a", payload=ODD, subject="in box/ü.png")
    event = msgspec.structs.replace(order.events[0], content_type="image/png")
    order = msgspec.structs.replace(order, events=(event,))
    async with plan(kafka.bootstrap, topic, compression="zstd") as writing:
        await submit(writing, order)
    (record,) = await records(kafka.bootstrap, topic, 1)
    assert (record.value, record.key) == (ODD, order.key.encode())
    assert dict(record.headers) == {
        "dcnios-key": order.key.encode(),
        "dcnios-instance": b"writer",
        "content-type": b"image/png",
        "ce_specversion": b"1.0",
        "ce_id": order.key.encode(),
        "ce_source": b"/dcnios/uploads",
        "ce_type": b"dcnios.minio.created",
        "ce_subject": "in box/ü.png".encode(),
        "ce_time": b"1970-01-01T00:00:00.000Z",
    }
    read = Reader(source="frames", instance="reader", clock=SystemClock()).event(record)
    assert (read.key, read.data, read.content_type) == (event.key, ODD, "image/png")
    own = Reader(source="frames", instance="writer", clock=SystemClock()).event(record)
    assert own.key != event.key


async def test_a_cloudevent_and_a_batch_and_a_tombstone(kafka: KafkaAccess) -> None:
    topic = await new_topic(kafka.bootstrap, partitions=1)
    one, two = orders(1, 2, payload=b'{"n": 1}')
    form = PayloadForm.CLOUDEVENT
    structured = msgspec.structs.replace(one, form=form, payload=build_payload(one.events, form))
    both = (*one.events, *two.events)
    batch = msgspec.structs.replace(one, events=both, payload=build_payload(both, PayloadForm.ORIGINAL))
    gone = make_order("gone", payload=b"")
    event = msgspec.structs.replace(gone.events[0], action=Action.REMOVED)
    gone = msgspec.structs.replace(gone, events=(event,))
    async with plan(kafka.bootstrap, topic) as writing:
        for order in (structured, batch, gone):
            await submit(writing, order)
    first, second, third = await records(kafka.bootstrap, topic, 3)
    assert json.loads(first.value)["data"] == {"n": 1}
    assert dict(first.headers)["content-type"].startswith(b"application/cloudevents+json")
    assert json.loads(second.value) == {"events": [{"n": 1}, {"n": 1}]}
    assert dict(second.headers)["dcnios-key"] == second.key == batch.key.encode()
    assert third.value is None


async def test_records_travel_together(kafka: KafkaAccess) -> None:
    """Many at a time take hardly longer than one: they share requests."""
    topic = await new_topic(kafka.bootstrap, partitions=1)
    async with plan(kafka.bootstrap, topic, linger=1) as writing:
        await submit(writing, make_order("first"))
        async with asyncio.timeout(10):  # one by one it would be a second for each
            await submit(writing, *orders(*range(32)))
    assert len(await records(kafka.bootstrap, topic, 33)) == 33


async def test_a_record_that_is_too_large_is_refused_and_holds_up_nobody(kafka: KafkaAccess) -> None:
    topic = await new_topic(kafka.bootstrap, partitions=1)
    large = make_order("large", payload=b"x" * (9 << 20))
    async with plan(kafka.bootstrap, topic) as writing:
        refused = asyncio.gather(
            *(writing.submit(order) for order in [*orders(*range(20)), large, *orders(*range(20, 40))]),
            return_exceptions=True,
        )
        async with asyncio.timeout(30):
            ends = await refused
        assert [type(end) for end in ends if end is not None] == [OrderRefused]
        with pytest.raises(OrderRefused, match="are the most"):
            await submit_alone(writing, make_order("huge", payload=b"x" * (65 << 20)))
    found = await records(kafka.bootstrap, topic, 40)
    assert len({record.key for record in found}) == len(found) == 40


async def insist(plan: KafkaPlan, order: Order) -> None:
    while True:
        with contextlib.suppress(SinkUnavailable):
            return await plan.submit(order)


async def submit_alone(plan: KafkaPlan, order: Order) -> None:
    async with asyncio.timeout(30):
        await plan.submit(order)


async def test_a_topic_that_takes_less_than_what_travels_together(kafka: KafkaAccess) -> None:
    topic = await new_topic(kafka.bootstrap, partitions=1, max_message_bytes="3000")
    async with plan(kafka.bootstrap, topic, linger=0.2) as writing:
        await submit(writing, *orders(*range(20), payload=b"x" * 1000))
        with pytest.raises(OrderRefused, match=topic):
            await submit_alone(writing, make_order("large", payload=b"x" * 5000))
        await submit(writing, *orders(*range(20, 25)))
    found = await records(kafka.bootstrap, topic, 25)
    assert len({record.key for record in found}) == len(found) == 25


async def test_a_record_that_brokers_call_invalid_is_refused_and_no_other_that_travels_with_it(
    kafka: KafkaAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compacted topic takes no record without a key. The library has no name for that answer."""
    topic = await new_topic(kafka.bootstrap, partitions=1, cleanup_policy="compact")
    bad = [make_order(name) for name in ("bad", "worse")]
    send = AIOKafkaProducer.send

    async def forget_keys(self: Any, to: str, value: Any, *, key: bytes, **more: Any) -> Any:
        is_bad = key.decode() in {order.key for order in bad}
        return await send(self, to, value, key=None if is_bad else key, **more)

    monkeypatch.setattr(AIOKafkaProducer, "send", forget_keys)
    async with plan(kafka.bootstrap, topic, linger=0.2) as writing:
        wanted = [*orders(*range(10)), bad[0], *orders(*range(10, 20)), bad[1], *orders(*range(20, 30))]
        async with asyncio.timeout(60):
            ends = await asyncio.gather(*(insist(writing, order) for order in wanted), return_exceptions=True)
    refused = {order.key: str(end) for order, end in zip(wanted, ends, strict=True) if end is not None}
    assert set(refused) == {order.key for order in bad}
    assert all(f"topic {topic}: [Error 87] InvalidRecordError" in words for words in refused.values())
    found = await records(kafka.bootstrap, topic, 30)
    assert len({record.key for record in found}) == len(found) == 30


async def test_a_missing_topic_is_waited_for(kafka: KafkaAccess) -> None:
    async with plan("127.0.0.1:1", "frames") as writing:
        with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1:1"):
            await submit_alone(writing, make_order())


@pytest.mark.slow
async def test_a_broker_that_is_killed_and_comes_back_has_every_record_once(workspace: Workspace) -> None:
    """While it is away, orders are sent again and again: none of them twice."""
    server = Kafka(workspace)
    await asyncio.to_thread(server.start)
    topic = await new_topic(server.bootstrap)
    doubts = 0

    async def insist(writing: KafkaPlan, order: Order) -> None:
        nonlocal doubts
        while True:
            try:
                return await writing.submit(order)
            except SinkUnavailable:
                doubts += 1
                await asyncio.sleep(0.05)

    async with plan(server.bootstrap, topic, timeout=0.5) as writing:
        await submit(writing, *orders(*range(50)))
        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            for order in orders(*range(50, 150)):
                group.create_task(insist(writing, order))
            await asyncio.sleep(0)
            await asyncio.to_thread(server.kill)
            for order in orders(*range(150, 200)):
                group.create_task(insist(writing, order))
            await asyncio.sleep(2)  # some are given up on meanwhile
            assert doubts > 50
            await asyncio.to_thread(server.start)
    found = await records(server.bootstrap, topic, 200)
    assert len({record.key for record in found}) == len(found) == 200
    await asyncio.to_thread(server.stop)


async def look(**block: Any) -> list[str]:
    run = KafkaRun.model_validate(block)
    return list(await check(kubernetes=None, any_payload=True, runs={"routes.r.run": run}))  # type: ignore[arg-type]


@pytest.mark.slow
async def test_what_is_missing_is_found_without_writing(workspace: Workspace) -> None:
    server = GuardedKafka(workspace)
    await asyncio.to_thread(server.start)
    topic = await new_topic(server.bootstrap)
    login = {"protocol": "SASL_PLAINTEXT", "mechanism": "SCRAM-SHA-512", "password": PASSWORD}
    there = {"bootstrap": [server.at("sasl")], "topic": topic}
    assert await look(**there, security=login | {"username": "dcnios"}) == []
    (said,) = await look(**(there | {"topic": "none"}), security=login | {"username": "dcnios"})
    assert "'none' does not exist" in said
    (said,) = await look(**there, security=login | {"username": "stranger"})
    assert said.endswith("correct routes.r.run")
    other = await new_topic(server.bootstrap)
    await allow(server, _WRITE, other)
    await allow(server, _DESCRIBE, topic)
    (said,) = await look(**there, security=login | {"username": "stranger"})
    assert said == f"no right to write to topic {topic!r} on {server.at('sasl')}: grant it"
    assert await look(**(there | {"topic": other}), security=login | {"username": "stranger"}) == []
    (said,) = await look(**there, security=login | {"username": "nobody"})
    assert said.endswith("correct routes.r.run")
    assert PASSWORD not in said
    assert await records(server.bootstrap, topic, 0) == []
    await asyncio.to_thread(server.stop)


async def allow(server: GuardedKafka, operation: int, topic: str) -> None:
    """Give the stranger a right to a topic."""
    async with admin_of(server.bootstrap) as admin:
        client = admin._client
        request = CreateAclsRequest(_TOPIC, topic, _LITERAL, "User:stranger", "*", operation, _ALLOW)
        answer = await client.send(client.get_random_node(), request)
    assert [code for code, _ in answer.creation_responses] == [0]
