"""Avro from a real broker, a registry with bad days: each record is one event, decoded or with a reason."""

import asyncio
import secrets
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Source
from dcnios_daemon.sources import runner
from dcnios_daemon.sources.kafka import values as values_module
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.sources.kafka.source import KafkaSource
from dcnios_daemon.sources.status import SourceState
from tests.contract.source_rig import NAME, Bench, Rig
from tests.e2e.stores import make_topic, produce
from tests.fakes.registry import FakeRegistry
from tests.integration.test_check_connections import source
from tests.servers.fixtures import KafkaAccess

RUN = {"type": "record", "name": "Run", "fields": [{"name": "n", "type": "int"}]}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.5)
    monkeypatch.setattr(values_module, "_DOUBTS", (0.01, 0.02))


class RegistryRig(Rig):
    """Records of a registered schema; each seventh cannot be read."""

    def __init__(self, bootstrap: str, registry: FakeRegistry) -> None:
        super().__init__()
        self.topic = f"runs-{secrets.token_hex(4)}"
        self.bootstrap = bootstrap
        self.registry = registry
        self.schema = registry.register(RUN)
        self.block: dict[str, Any] = {
            "bootstrap": [bootstrap],
            "topics": [self.topic],
            "group": self.topic,
            "registry": {"url": registry.url},
        }

    async def open(self) -> None:
        """Make the topic."""
        await make_topic(self.bootstrap, self.topic, 2)

    def build(self) -> Source:
        """As the registry of kinds would."""
        return KafkaSource(name=NAME, settings=KafkaSettings(**self.block), instance="test")

    async def happen(self, count: int) -> None:
        """Small numbers: one byte of Avro each."""
        sent = []
        for _ in range(count):
            n = len(self.happened)
            poison = b"\x00" * (n % 7 == 6)
            sent.append(
                struct.pack(">bIH", 0, self.schema, 0x8000 + ((2 * n & 0x7F) << 8) + (2 * n >> 7)) + poison
            )
            self.happened.append(str(n))
        await produce(self.bootstrap, self.topic, sent)

    def identify(self, event: Event) -> str:
        """The number, decoded by us or by hand."""
        if event.data.startswith(b'{"n":'):
            assert event.content_type == "application/json"
            return event.data[5:-1].decode()
        assert "1 bytes are left over" in event.attributes["value_error"]
        low, high = event.data[5:7]
        return str((low & 0x7F | high << 7) // 2)


@pytest_asyncio.fixture
async def rig(kafka: KafkaAccess) -> AsyncIterator[RegistryRig]:
    async with FakeRegistry() as registry:
        made = RegistryRig(kafka.bootstrap, registry)
        await made.open()
        yield made


async def test_each_record_is_an_event_once_whatever_the_registry_does(rig: RegistryRig) -> None:
    bench = Bench(rig)
    await rig.registry.fall()
    async with bench.running() as running:
        await rig.happen(100)
        async with asyncio.timeout(30):
            while running.status.state is not SourceState.FAILED:  # noqa: ASYNC110 - a status calls nobody
                await asyncio.sleep(0.01)
        assert (running.status.error or "").startswith("the schema registry at ")
        assert bench.journal.events == []
        rig.registry.answers = [(503, ""), (401, ""), (404, "<html>"), (200, "{}")]
        await rig.registry.rise()
        await bench.all_accepted()
        await rig.happen(100)
        await bench.all_accepted()
    assert bench.journal.duplicates == 0
    failed = [event for event in bench.journal.events if "value_error" in event.attributes]
    assert len(failed) == 200 // 7


async def test_what_is_wrong_with_the_registry_is_told_before_the_start(rig: RegistryRig) -> None:
    block = rig.block | {"kind": "kafka"}
    assert await source(**block) == []
    rig.registry.login = "u:p"
    (said,) = await source(**block)
    assert said.startswith(
        f"the schema registry at {rig.registry.url} answers 401: Unauthorized: correct the"
    )
    assert said.endswith(" (sources.it.registry)")
    await rig.registry.fall()
    (said,) = await source(**block)
    assert said.startswith(f"the schema registry at {rig.registry.url}: ")
