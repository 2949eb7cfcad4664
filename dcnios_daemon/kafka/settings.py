"""What can be said of a Kafka cluster in the configuration."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import StringConstraints, model_validator

from dcnios_daemon.core.settings import Secret, Settings

Bootstrap = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s:/,]+):\d{1,5}$")]
"""``host:port``."""
Topic = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
"""What Kafka allows as a topic's name."""


class KafkaSecurity(Settings):
    """How to reach and log in to the brokers."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """For the SASL protocols."""
    username: str | None = None
    password: Secret | None = None
    ca_file: Path | None = None
    """Certificates (PEM) that vouch for the brokers; default: the system's."""

    @model_validator(mode="after")
    def _login_fits_protocol(self) -> Self:
        with_login = self.protocol.startswith("SASL")
        if with_login and (self.username is None or self.password is None):
            raise ValueError(f"{self.protocol} needs username and password")
        if not with_login and (self.username is not None or self.password is not None):
            raise ValueError(f"username and password need SASL_PLAINTEXT or SASL_SSL, not {self.protocol}")
        if self.ca_file is not None and not self.protocol.endswith("SSL"):
            raise ValueError(f"ca_file needs SSL or SASL_SSL, not {self.protocol}")
        return self
