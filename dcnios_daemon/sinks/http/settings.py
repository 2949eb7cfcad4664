"""The ``run`` block of ``kind: http``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from yarl import URL

from dcnios_daemon.core.settings import Secret, Settings
from dcnios_daemon.core.units import Duration
from dcnios_daemon.sinks.http.client import Access

_OURS = frozenset({"content-length", "content-type", "host", "transfer-encoding"})


def _address(value: str) -> str:
    try:
        url = URL(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is no address: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"{value!r} is no address: write http://host/path or https://host/path")
    if url.user is not None or url.password is not None:
        raise ValueError("has a login in it: give username and password_file, or token_file")
    return value


def _header_name(value: str) -> str:
    if value.lower() in _OURS or value.lower().startswith("ce-"):
        raise ValueError(f"the header {value} is the daemon's own")
    if value.lower() == "authorization":
        raise ValueError("give token_file, or username and password_file, instead of this header")
    return value


Address = Annotated[str, AfterValidator(_address)]
HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"), AfterValidator(_header_name)
]
HeaderText = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]*$")]


class HttpRun(Settings):
    """A POST of a CloudEvent for each order. 2xx is success. 5xx, 408, 425, 429 and no answer are tried
    again with the same ``id``, by which receivers know it; so are answers that are not about the event
    (redirections, 401, 403, 404, 405, 410…), until somebody mends it. Other 4xx make the delivery dead."""

    url: Address
    mode: Literal["binary", "structured"] = "binary"
    """``binary``: the event's data is the body, all else headers. ``structured``: one JSON document. An order
    for several events is a JSON batch in both. Of the route's ``payload`` only ``reference`` counts: it
    leaves the data out."""
    headers: Mapping[HeaderName, HeaderText] = Field(default_factory=dict)
    """Sent as they are; no secrets."""
    token: Secret | None = None
    """Sent as ``Authorization: Bearer``. Its file is read anew while the daemon runs."""
    username: str | None = None
    password: Secret | None = None
    ca_file: Path | None = None
    """Certificates (PEM) that vouch for the receiver; default: the system's."""
    timeout: Annotated[Duration, Field(gt=0, le=240)] = 30.0
    """How long an answer may take. Orders that wait for one keep their slots: see ``in_flight``."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.token is not None and self.username is not None:
            raise ValueError("give a token, or username and password, not both")
        if self.ca_file is not None and URL(self.url).scheme != "https":
            raise ValueError("ca_file needs an https:// url")
        return self

    def access(self) -> Access:
        """The same as the client takes it."""
        return Access(
            token=self.token,
            username=self.username,
            password=self.password,
            ca_file=self.ca_file,
            timeout=self.timeout,
            headers=self.headers,
        )
