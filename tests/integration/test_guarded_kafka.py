"""Each way to log in to a real broker, and each way to be turned away: the operator is told exactly which."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Source
from dcnios_daemon.kafka import login
from dcnios_daemon.sources import runner
from dcnios_daemon.sources.kafka import source as kafka_source
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.sources.kafka.source import KafkaSource
from dcnios_daemon.sources.status import SourceState
from tests.contract.source_rig import NAME, Bench, Rig
from tests.e2e.stores import make_topic, produce
from tests.integration.test_check_connections import source
from tests.servers.guarded_kafka import PASSWORD, GuardedKafka
from tests.servers.pki import Pki
from tests.servers.workspace import Workspace

pytestmark = pytest.mark.servers

WRONG = "wrong-word"
Given = dict[str, Any]


@pytest.fixture(scope="module")
def broker() -> Iterator[GuardedKafka]:
    with Workspace() as space, GuardedKafka(space) as started:
        yield started


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority that the broker has never heard of."""
    pki = Pki(tmp_path_factory.mktemp("strange"))
    pki.create()
    return pki


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.5)


def by_password(mechanism: str, password: str = PASSWORD, user: str = "dcnios") -> Given:
    word = {"username": user, "password": password}
    return {"protocol": "SASL_PLAINTEXT", "mechanism": mechanism} | word


def by_token(token: str) -> Given:
    return {"protocol": "SASL_PLAINTEXT", "mechanism": "OAUTHBEARER", "token": token}


def certified(broker: GuardedKafka, **more: object) -> Given:
    pki = broker.pki
    return {
        "protocol": "SSL",
        "ca_file": pki.ca,
        "client_cert": pki.certificate,
        "client_key": pki.key,
    } | more


def over_tls(broker: GuardedKafka, security: Given, **more: object) -> Given:
    return security | {"protocol": "SASL_SSL", "ca_file": broker.pki.ca} | more


GOOD: dict[str, tuple[str, Callable[[GuardedKafka], Given]]] = {
    "plain": ("sasl", lambda _: by_password("PLAIN")),
    "scram-256": ("sasl", lambda _: by_password("SCRAM-SHA-256")),
    "scram-512": ("sasl", lambda _: by_password("SCRAM-SHA-512")),
    "token": ("sasl", lambda broker: by_token(broker.token())),
    "certificate": ("tls", certified),
    "plain over TLS": ("sasl_tls", lambda broker: over_tls(broker, by_password("PLAIN"))),
    "scram over TLS": ("sasl_tls", lambda broker: over_tls(broker, by_password("SCRAM-SHA-512"))),
    "token over TLS": ("sasl_tls", lambda broker: over_tls(broker, by_token(broker.token()))),
}


class GuardedRig(Rig):
    """A topic of its own, written to by the open door and read from by another."""

    def __init__(self, broker: GuardedKafka, listener: str, security: Given) -> None:
        super().__init__()
        self.topic = f"frames-{secrets.token_hex(4)}"
        self.block = {"bootstrap": [broker.at(listener)], "topics": [self.topic], "security": security}
        self._bootstrap = broker.bootstrap

    async def open(self) -> None:
        """Make the topic."""
        await make_topic(self._bootstrap, self.topic, 1)

    def build(self) -> Source:
        """As the registry would."""
        return KafkaSource(name=NAME, settings=KafkaSettings(**self.block), instance="test")

    async def happen(self, count: int) -> None:
        """Records, told by their values."""
        new = [f"record {len(self.happened) + number}" for number in range(count)]
        self.happened += new
        await produce(self._bootstrap, self.topic, [value.encode() for value in new])

    def identify(self, event: Event) -> str:
        """The value."""
        return event.data.decode()


@pytest.mark.parametrize("way", GOOD)
async def test_each_way_in_leads_to_events(broker: GuardedKafka, way: str) -> None:
    listener, security = GOOD[way]
    rig = GuardedRig(broker, listener, security(broker))
    await rig.open()
    bench = Bench(rig)
    async with bench.running():
        await rig.happen(5)
        await bench.all_accepted()
    assert await source(kind="kafka", **rig.block) == []


BAD: dict[str, tuple[str, Callable[[GuardedKafka, Pki], Given], str]] = {
    "plain": ("sasl", lambda *_: by_password("PLAIN", WRONG), "Invalid username or password"),
    "scram": (
        "sasl",
        lambda *_: by_password("SCRAM-SHA-256", WRONG),
        "invalid credentials with SASL mechanism SCRAM-SHA-256",
    ),
    "nobody": ("sasl", lambda *_: by_password("SCRAM-SHA-512", user="nobody"), "invalid credentials"),
    "expired": ("sasl", lambda broker, _: by_token(broker.token(seconds=-99)), "the token is refused: "),
    "just expired": (
        "sasl",
        lambda broker, _: by_token(broker.token(seconds=-1)),
        "the token is taken, but has expired",
    ),
    "not for it": ("sasl", lambda broker, _: by_token(broker.token(audience="x")), "the token is refused: "),
    "no token": (
        "sasl",
        lambda *_: by_token("wrong-word"),
        'the token is refused: {"status":"invalid_token"}',
    ),
    "authority": (
        "tls",
        lambda broker, strange: certified(broker, ca_file=strange.ca),
        "their certificate is not trusted: unable to get local issuer certificate",
    ),
    "no certificate": (
        "tls",
        lambda broker, _: {"protocol": "SSL", "ca_file": broker.pki.ca},
        "they refuse our TLS, perhaps for want of a client certificate (client_cert): ",
    ),
    "certificate": (
        "tls",
        lambda broker, strange: certified(broker, client_cert=strange.certificate, client_key=strange.key),
        "they refuse our client certificate ",
    ),
    "no login": ("sasl", lambda *_: {}, "perhaps they want TLS (protocol SSL) or a login ("),
    "no TLS": ("tls", lambda *_: {}, "perhaps they want TLS (protocol SSL) or a login ("),
    "login without TLS": (
        "sasl_tls",
        lambda *_: by_password("PLAIN"),
        "perhaps they want TLS (protocol SASL_SSL)",
    ),
    "TLS without login": (
        "sasl_tls",
        lambda broker, _: {"protocol": "SSL", "ca_file": broker.pki.ca},
        "perhaps they speak no TLS there, or want a login (protocol SASL_SSL)",
    ),
}


@pytest.mark.parametrize("way", BAD)
async def test_who_is_turned_away_is_told_why(broker: GuardedKafka, strange: Pki, way: str) -> None:
    listener, security, expected = BAD[way]
    given = security(broker, strange)
    (said,) = await source(kind="kafka", bootstrap=[broker.at(listener)], topics=["t"], security=given)
    assert said.startswith(f"Kafka at {broker.at(listener)}: ")
    assert expected in said
    assert not any(word in said for word in (WRONG, PASSWORD, given.get("token", WRONG)))


async def test_a_listener_that_wants_no_login_says_so(broker: GuardedKafka) -> None:
    block = {"kind": "kafka", "bootstrap": [broker.bootstrap], "topics": ["t"]}
    (said,) = await source(**block, security=by_password("PLAIN"))
    assert said.endswith("they want no login there: correct the port, or protocol SASL_PLAINTEXT")
    (said,) = await source(**block, security={"protocol": "SSL"})
    assert "perhaps they speak no TLS there" in said


@pytest.mark.parametrize("way", ["password", "token"])
async def test_a_login_without_rights_is_told_of_each(broker: GuardedKafka, way: str) -> None:
    topic = f"locked-{way}"
    await make_topic(broker.bootstrap, topic, 1)
    token = by_token(broker.token(subject="stranger"))
    security = token if way == "token" else by_password("SCRAM-SHA-256", user="stranger")
    where = broker.at("sasl")
    no_topic, no_group = await source(kind="kafka", bootstrap=[where], topics=[topic], security=security)
    assert no_topic.startswith(f"topic '{topic}' does not exist on {where}, or must not be seen: ")
    assert no_group.endswith(
        "GroupAuthorizationFailedError: dcnios-test: grant it, or correct sources.it.group"
    )


async def test_a_password_that_is_mended_lets_the_source_in(broker: GuardedKafka, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(WRONG)
    security = {"protocol": "SASL_PLAINTEXT", "username": "dcnios", "password_file": file}
    rig = GuardedRig(broker, "sasl", security)
    await rig.open()
    bench = Bench(rig)
    async with bench.running() as running:
        async with asyncio.timeout(20):
            while running.status.state is not SourceState.FAILED:  # noqa: ASYNC110 - a status calls nobody
                await asyncio.sleep(0.01)
        assert "Invalid username or password" in (running.status.error or "")
        file.write_text(PASSWORD)
        await rig.happen(3)
        await bench.all_accepted()


async def test_tokens_that_expire_are_read_anew_and_reading_goes_on(
    broker: GuardedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    logins = 0
    revealed = login.revealed

    def counted(name: str, secret: Any) -> str:
        nonlocal logins
        logins += 1
        file.write_text(broker.token(seconds=1.5))
        return revealed(name, secret)

    monkeypatch.setattr(login, "revealed", counted)
    security = {"protocol": "SASL_PLAINTEXT", "mechanism": "OAUTHBEARER", "token_file": file}
    rig = GuardedRig(broker, "sasl", security)
    await rig.open()
    bench = Bench(rig)
    async with bench.running() as running:
        while logins < 12:  # three or so for each time
            await rig.happen(1)
            await bench.all_accepted()
            assert running.status.state is SourceState.CONNECTED, running.status.error
    assert len(bench.journal.events) == len(rig.happened)


async def test_a_token_that_nobody_renews_is_told_and_the_next_one_mends_it(
    broker: GuardedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_source, "_PROBE_AFTER", 0.2)
    monkeypatch.setattr(kafka_source, "_POLL", 0.2)
    file = tmp_path / "token"
    file.write_text(broker.token(seconds=1.5))
    security = {"protocol": "SASL_PLAINTEXT", "mechanism": "OAUTHBEARER", "token_file": file}
    rig = GuardedRig(broker, "sasl", security)
    await rig.open()
    bench = Bench(rig)
    async with bench.running() as running:
        await rig.happen(1)
        await bench.all_accepted()
        async with asyncio.timeout(30):
            while "the token is taken, but has expired" not in (running.status.error or ""):  # noqa: ASYNC110 - it calls nobody
                await asyncio.sleep(0.01)
        file.write_text(broker.token())
        await rig.happen(3)
        await bench.all_accepted()
    assert bench.journal.duplicates == 0


async def allow(broker: GuardedKafka, *rules: tuple[int, str, int]) -> None:
    """Let the stranger do it: kind of thing (2 topic, 3 group), its name, operation (3 read, 8 describe)."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    for kind, name, operation in rules:
        request = CreateAclsRequest(kind, name, 3, "User:stranger", "*", operation, 3)
        answer = await admin._client.send(1, request)
        assert [code for code, _ in answer.creation_responses] == [0]
    await admin.close()


async def test_a_topic_that_may_be_seen_but_not_read_is_told(broker: GuardedKafka) -> None:
    rig = GuardedRig(broker, "sasl", by_password("PLAIN", user="stranger"))
    await rig.open()
    rig.block["group"] = rig.topic
    other, open_to_us = f"{rig.topic}-other", f"{rig.topic}-open"
    for topic in (other, open_to_us):
        await make_topic(broker.bootstrap, topic, 1)
    await allow(broker, (2, rig.topic, 8), (2, other, 8), (2, open_to_us, 3), (3, rig.topic, 3))
    where = broker.at("sasl")
    topics = [rig.topic, other, open_to_us]
    assert await source(kind="kafka", **rig.block | {"topics": topics}) == [
        f"topic '{topic}' on {where} may be seen but not read: grant the right to read it"
        for topic in (rig.topic, other)
    ]
    bench = Bench(rig)
    async with bench.running() as running:
        async with asyncio.timeout(20):
            while running.status.state is not SourceState.FAILED:  # noqa: ASYNC110 - a status calls nobody
                await asyncio.sleep(0.01)
        assert f"TopicAuthorizationFailedError: {rig.topic}" in (running.status.error or "")
        await allow(broker, (2, rig.topic, 3))
        await rig.happen(3)
        await bench.all_accepted()
