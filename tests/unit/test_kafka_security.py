"""What must be said to log in to Kafka, and which files are read when. The brokers' turn is in
tests/integration/test_guarded_kafka.py."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dcnios_daemon.core.errors import Disconnected, Rejected, SinkUnavailable
from dcnios_daemon.kafka import library, login
from dcnios_daemon.kafka.brokers import Brokers
from dcnios_daemon.kafka.settings import KafkaSecurity
from tests.servers.pki import Pki

SASL = {"protocol": "SASL_SSL"}
LOGIN = {"username": "u", "password": "hush-hush"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (SASL, "PLAIN needs username and password"),
        (SASL | {"mechanism": "SCRAM-SHA-512", "username": "u"}, "SCRAM-SHA-512 needs username and password"),
        (
            SASL | LOGIN | {"token": "hush-hush"},
            "PLAIN needs username and password, and no token: that is for OAUTHBEARER",
        ),
        (
            SASL | LOGIN | {"mechanism": "OAUTHBEARER"},
            "OAUTHBEARER needs token, and neither username nor password",
        ),
        (
            SASL | {"mechanism": "OAUTHBEARER", "token": "hush-hush", "username": "u"},
            "OAUTHBEARER needs token, and neither username nor password",
        ),
        (
            {"protocol": "SSL"} | LOGIN,
            "username and password need protocol SASL_PLAINTEXT or SASL_SSL, not SSL",
        ),
        ({"token": "hush-hush"}, "token needs protocol SASL_PLAINTEXT or SASL_SSL, not PLAINTEXT"),
        ({"mechanism": "PLAIN"}, "mechanism needs protocol SASL_PLAINTEXT or SASL_SSL, not PLAINTEXT"),
        (
            LOGIN | {"protocol": "SASL_PLAINTEXT", "ca_file": "x", "client_cert": "y"},
            "ca_file and client_cert need protocol SSL or SASL_SSL, not SASL_PLAINTEXT",
        ),
        ({"protocol": "SSL", "client_key": "x"}, "client_key needs client_cert"),
    ],
)
def test_what_is_missing_for_a_login_is_said_in_a_sentence(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        KafkaSecurity.model_validate(given)
    (error,) = raised.value.errors()
    assert error["msg"] == f"Value error, {said}"
    assert "hush-hush" not in said


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"protocol": "SSL"},
        {"protocol": "SSL", "client_cert": "both.pem"},
        {"protocol": "SSL", "ca_file": "ca", "client_cert": "cert", "client_key": "key"},
        SASL | LOGIN,
        SASL | {"mechanism": "SCRAM-SHA-256", "username": "u", "password_file": "p", "ca_file": "ca"},
        {"protocol": "SASL_PLAINTEXT", "mechanism": "OAUTHBEARER", "token_file": "t"},
    ],
)
def test_what_suffices_for_a_login(given: dict[str, Any]) -> None:
    assert KafkaSecurity.model_validate(given).protocol == given.get("protocol", "PLAINTEXT")


def said_of(given: dict[str, Any]) -> str:
    """Why the files of a login cannot be used."""
    with pytest.raises(login.Unusable) as raised:
        login.options(KafkaSecurity.model_validate(given))
    return str(raised.value)


def test_a_file_that_cannot_be_used_is_named_with_its_key(tmp_path: Path) -> None:
    ours, other = (Pki(tmp_path / name) for name in ("ours", "other"))
    for pki in (ours, other):
        pki.ca.parent.mkdir()
        pki.create()
    gone, text = tmp_path / "gone", tmp_path / "text"
    text.write_text("\n")
    tls = {"protocol": "SSL", "ca_file": ours.ca}
    fits_not = tls | {"client_cert": ours.certificate, "client_key": other.key}
    missing = "cannot be read: No such file or directory"
    assert said_of(tls | {"ca_file": gone}) == f"ca_file {gone} {missing}"
    assert said_of(tls | {"ca_file": text}).startswith(f"ca_file {text} is no certificate")
    assert said_of(tls | {"client_cert": gone}) == f"client_cert {gone} {missing}"
    assert (
        said_of(tls | {"client_cert": ours.certificate, "client_key": gone}) == f"client_key {gone} {missing}"
    )
    assert said_of(fits_not).startswith(
        f"client_key {other.key} is no certificate, or no key that fits one: "
    )
    by_word = {"protocol": "SASL_PLAINTEXT", "username": "u"}
    assert said_of(by_word | {"password_file": gone}) == f"password_file {gone} {missing}"
    assert said_of(by_word | {"password_file": text}) == f"password_file {text} is empty"
    text.write_bytes(b"\xff")
    assert said_of(by_word | {"password_file": text}) == f"password_file {text} is no text"


async def test_a_token_is_read_for_each_login(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    given = {"protocol": "SASL_PLAINTEXT", "mechanism": "OAUTHBEARER", "token_file": file}
    provider = login.options(KafkaSecurity.model_validate(given))["sasl_oauth_token_provider"]
    assert await provider.token() == "first"
    file.write_text("second\n")
    assert await provider.token() == "second"
    file.write_text("")
    with pytest.raises(OSError, match="is empty"):
        await provider.token()


def test_failures_are_raised_in_the_callers_errors() -> None:
    errors = library.library().errors
    ours = Brokers(bootstrap=["b:1", "c:2"], security=KafkaSecurity(), away=SinkUnavailable, refused=Rejected)
    with pytest.raises(SinkUnavailable, match=r"^Kafka at b:1, c:2: .*went away"), ours.failures():
        raise ConnectionError("it went away")
    with pytest.raises(Rejected, match=r"^Kafka at b:1, c:2: .*TopicAuthorizationFailed"), ours.failures():
        raise errors.TopicAuthorizationFailedError("t")
    with pytest.raises(Disconnected), ours.failures():
        raise Disconnected("ours already")


async def test_a_broker_that_refuses_tells_more_than_one_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = library.library().errors
    answers = {"a:1": ConnectionRefusedError("away"), "b:2": errors.SaslAuthenticationFailed("no")}

    async def knock(address: str, _options: dict[str, Any]) -> None:
        raise answers[address]

    class Client:
        async def start(self) -> None:
            raise errors.KafkaConnectionError("Unable to bootstrap")

    monkeypatch.setattr(library, "knock", knock)
    brokers = Brokers(bootstrap=list(answers), security=KafkaSecurity(), away=Disconnected, refused=Rejected)
    with pytest.raises(Rejected, match="SaslAuthenticationFailed"), brokers.failures():
        await brokers.start(Client(), await brokers.options())
