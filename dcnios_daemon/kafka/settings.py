"""What can be said of a Kafka cluster in the configuration."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import StringConstraints, model_validator

from dcnios_daemon.core.settings import Secret, Settings

Bootstrap = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s:/,]+):\d{1,5}$")]
"""``host:port``."""
Topic = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
"""What Kafka allows as a topic's name."""


def addresses(bootstrap: Iterable[str], topic: str) -> Sequence[str]:
    """What a topic is called by each of the brokers: two that share one of these are the same."""
    return [f"kafka://{broker.lower()}/{topic}" for broker in bootstrap]


class KafkaSecurity(Settings):
    """How to reach and log in to the brokers. Files are read anew for each connection."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "PLAIN"
    """For the SASL protocols. `OAUTHBEARER` needs `token`, the others `username` and `password`."""
    username: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    """For `OAUTHBEARER`. Tokens expire: name a file that something renews. It is read for each login."""
    ca_file: Path | None = None
    """Certificates (PEM) that vouch for the brokers; default: the system's."""
    client_cert: Path | None = None
    """Our certificate chain (PEM), for brokers that want to know us by one."""
    client_key: Path | None = None
    """Its key (PEM, not encrypted), where that is not in the same file."""

    @model_validator(mode="after")
    def _login_fits_protocol(self) -> Self:
        if not self.protocol.startswith("SASL"):
            self._only_for("SASL_PLAINTEXT or SASL_SSL", "mechanism", "username", "password", "token")
        elif self.mechanism == "OAUTHBEARER":
            if self.token is None or self._given("username", "password"):
                raise ValueError("OAUTHBEARER needs token, and neither username nor password")
        elif self.username is None or self.password is None or self.token is not None:
            other = ", and no token: that is for OAUTHBEARER" if self.token else ""
            raise ValueError(f"{self.mechanism} needs username and password{other}")
        if not self.protocol.endswith("SSL"):
            self._only_for("SSL or SASL_SSL", "ca_file", "client_cert", "client_key")
        if self.client_key is not None and self.client_cert is None:
            raise ValueError("client_key needs client_cert")
        return self

    def _given(self, *names: str) -> list[str]:
        return [name for name in names if name in self.model_fields_set and getattr(self, name) is not None]

    def _only_for(self, protocols: str, *names: str) -> None:
        if given := self._given(*names):
            what = f"{' and '.join(given)} need{'s' if len(given) == 1 else ''}"
            raise ValueError(f"{what} protocol {protocols}, not {self.protocol}")
