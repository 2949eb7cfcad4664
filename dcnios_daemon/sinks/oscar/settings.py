"""The ``run`` block of ``kind: oscar``."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from yarl import URL

from dcnios_daemon.core.settings import Secret, Settings
from dcnios_daemon.core.units import Duration
from dcnios_daemon.sinks.http.client import Access
from dcnios_daemon.sinks.http.settings import Address


def _endpoint(value: str) -> str:
    url = URL(value)
    if url.query_string or url.fragment:
        raise ValueError("has more than an address: write https://host, without /job and what follows")
    return value.rstrip("/")


ServiceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,37}[a-z0-9])?$")]


class OscarRun(Settings):
    """A call of a service of OSCAR (4.1.0 or later) for each order: ``POST /job/<service>``, with a name for
    the job, so that sending it again makes no second one. With ``username`` and ``password`` the delivery
    ends as the job does, and ``in_flight`` counts jobs that run; without them it is over when OSCAR has taken
    it. An event of MinIO or dCache arrives as OSCAR's supervisor knows it, another JSON object as it is,
    anything else as base64, of which the supervisor makes the input file."""

    endpoint: Annotated[Address, AfterValidator(_endpoint)]
    """Of the cluster: ``https://oscar.example.org``."""
    service: ServiceName
    token: Secret | None = None
    """The service's own, or one of OpenID Connect. Its file is read anew while the daemon runs. Default: with
    ``username`` OSCAR is asked for the service's."""
    username: str | None = None
    """Of OSCAR's system user (HTTP Basic): it alone is shown all jobs."""
    password: Secret | None = None
    ca_file: Path | None = None
    """Certificates (PEM) that vouch for OSCAR; default: the system's."""
    timeout: Annotated[Duration, Field(gt=0, le=240)] = 60.0
    """How long an answer may take. OSCAR is slow when it has much to do."""
    every: Annotated[Duration, Field(gt=0)] = 30.0
    """How often OSCAR is asked how jobs are, while there are some. Never more than a quarter of the time
    goes into asking: OSCAR looks at each job of the service for it."""
    deadline: Annotated[Duration, Field(gt=0)] = 86400.0
    """Longest life of one attempt, waiting for a place included; then the job is deleted in OSCAR. Only with
    ``username``."""
    keep: Annotated[Duration, Field(ge=60)] = 30 * 86400.0
    """How long OSCAR keeps jobs that have ended: its ``TTL_JOB``. What it forgot it would run again."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.token is None and self.username is None:
            raise ValueError("give token_file, or username and password_file")
        if self.ca_file is not None and URL(self.endpoint).scheme != "https":
            raise ValueError("ca_file needs an https:// endpoint")
        return self

    @property
    def job_url(self) -> str:
        """Where the service is called."""
        return f"{self.endpoint}/job/{self.service}"

    def calling(self) -> Access:
        """How it is called."""
        return Access(token=self.token, ca_file=self.ca_file, timeout=self.timeout)

    def asking(self) -> Access | None:
        """How the rest of OSCAR's API is reached; None: not at all."""
        if self.username is None:
            return None
        return Access(
            username=self.username, password=self.password, ca_file=self.ca_file, timeout=self.timeout
        )
