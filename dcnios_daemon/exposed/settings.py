"""The ``services`` block: what is kept running and reachable, and who gets in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from dcnios_daemon.core.settings import Secret, Settings
from dcnios_daemon.core.units import Duration
from dcnios_daemon.kubernetes.pods import EnvName, Quantity, Resources, SecretName, Volume, VolumeName

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
Host = Annotated[str, StringConstraints(pattern=rf"^{_LABEL}(\.{_LABEL})*$")]
PathPrefix = Annotated[str, StringConstraints(pattern=r"^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$")]
"""``/`` or ``/a/b``, without an end slash."""
Bucket = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]
_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,-]+")
_CRON_FIELDS = 5


def _cron(value: str) -> str:
    fields = value.split()
    if len(fields) != _CRON_FIELDS or not all(map(_CRON_FIELD.fullmatch, fields)):
        raise ValueError(
            f'{value!r} is no schedule: write minute, hour, day, month and weekday, as in "0 20 * * 1-5"'
        )
    return value


Cron = Annotated[str, AfterValidator(_cron)]
"""Minute, hour, day of the month, month, weekday, as Kubernetes' CronJobs take them."""


class Expose(Settings):
    """Where a service is reached from outside of the cluster: by an Ingress, or by a Gateway's HTTPRoute."""

    host: Host
    path: PathPrefix = "/"
    """All below it goes to the service, which sees the path as it is."""
    tls_secret: SecretName | None = None
    """The Secret with the host's certificate. Without one the login crosses the network in the clear, unless
    something before the Ingress ends TLS."""
    ingress_class: SecretName | None = None
    """Default: the cluster's own."""
    gateway: Annotated[str, StringConstraints(pattern=r"^([a-z0-9.-]+/)?[a-z0-9.-]+$")] | None = None
    """A Gateway, ``name`` or ``namespace/name``: an HTTPRoute is made in place of an Ingress. TLS is the
    Gateway's."""
    annotations: Mapping[str, str] = Field(default_factory=dict)
    """On the Ingress or HTTPRoute."""

    @model_validator(mode="after")
    def _gateway_stands_alone(self) -> "Expose":
        if self.gateway and (self.tls_secret or self.ingress_class):
            raise ValueError("a gateway has its own class and certificate: leave out those keys")
        return self

    @property
    def is_secure(self) -> bool:
        """Whether it ends TLS, as far as can be known here."""
        return bool(self.tls_secret or self.gateway)

    @property
    def url(self) -> str:
        """What people open."""
        return f"{'https' if self.is_secure else 'http'}://{self.host}{self.path}"


class Sleep(Settings):
    """When a service has no pods. CronJobs scale it; ``dcnios services scale`` does at any time."""

    at: Cron
    """When it goes to sleep: ``"0 20 * * *"``. A notebook, only if it is idle: then ``"*/15 * * * *"`` may be
    right."""
    wake: Cron | None = None
    """When it comes back. Default: when somebody scales it."""
    time_zone: str = "Etc/UTC"
    """Of both, as in ``Europe/Berlin``."""
    service_account: SecretName = "dcnios-services-scale"
    """Whom the CronJobs run as; ``deploy/kubernetes/services`` has it. It may scale Deployments."""


class Replicas(Settings):
    """How many pods serve it."""

    min: Annotated[int, Field(ge=1)] = 1
    max: Annotated[int, Field(ge=1)] | None = None
    """More than ``min``: an autoscaler chooses between them."""
    cpu_percent: Annotated[int, Field(ge=1, le=100)] = 80
    """The share of ``resources.cpu`` that the autoscaler aims at."""

    @model_validator(mode="after")
    def _order(self) -> "Replicas":
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max is below min: {self.max} < {self.min}")
        return self


class Exposed(Settings):
    """What all kinds of services take."""

    image: str | None = None
    env: Mapping[EnvName, str] = Field(default_factory=dict)
    secrets: Mapping[EnvName, Annotated[str, StringConstraints(pattern=r"^[^/]+/[^/]+$")]] = Field(
        default_factory=dict
    )
    """Environment variables from Kubernetes Secrets: ``PASSWORD: my-secret/password``."""
    token: Secret | None = None
    """Who has it gets in. Default: a random one, made by the first ``apply`` and kept in the Secret
    ``<name>-token``; ``dcnios services token NAME`` prints it."""
    resources: Resources = Resources()
    volumes: Mapping[VolumeName, Volume] = Field(default_factory=dict)
    expose: Expose | None = None
    """Default: reached inside the cluster only, and by ``kubectl port-forward``."""
    sleep: Sleep | None = None
    labels: Mapping[str, str] = Field(default_factory=dict)
    """On the Deployment and its pods."""
    annotations: Mapping[str, str] = Field(default_factory=dict)
    """On the Deployment and its pods."""
    service_account: str | None = None
    """Default: the namespace's own, without its token."""
    image_pull_secrets: tuple[str, ...] = ()
    pod: Mapping[str, Any] = Field(default_factory=dict)
    """Merged into the pod's spec, for all that has no key here; the container is called ``service``."""


class Container(Exposed):
    """A server of any kind: an image and the port that it listens on."""

    image: str
    port: Port
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    auth: Literal["token", "own", "none"] = "token"
    """Who asks visitors for a login. ``token``: the program itself, for the token in ``token_variable``.
    ``own``: the program, in its own way. ``none``: nobody, it is public."""
    token_variable: EnvName | None = None
    """The environment variable by which the program is told its token."""
    health_path: PathPrefix | None = None
    """Answers 200 when it can serve. Default: a connection to the port is enough."""
    replicas: Replicas = Replicas()

    @model_validator(mode="after")
    def _somebody_asks(self) -> "Container":
        if self.auth == "token" and self.token_variable is None:
            raise ValueError(
                "nobody would ask visitors for a login: name the variable by which the program takes its "
                "token (token_variable), or say auth: own where it asks in its own way, or auth: none where "
                "it is public"
            )
        if self.auth != "token" and (self.token_variable or self.token):
            raise ValueError(f"auth: {self.auth} uses no token: leave out token and token_variable")
        return self

    @model_validator(mode="after")
    def _cpu_for_the_autoscaler(self) -> "Container":
        if (self.replicas.max or 0) > self.replicas.min and not self.resources.cpu:
            raise ValueError("the autoscaler needs resources.cpu, of which replicas.cpu_percent is a share")
        return self


class NotebookSleep(Sleep):
    """When a notebook server has no pod. What is not in a bucket or volume is lost then."""

    idle_for: Duration | None = 3600.0
    """Only if no browser is connected, no kernel works and nothing happened for so long. null: whatever
    happens there."""


class NotebookResources(Resources):
    """What the server and all its kernels together get."""

    cpu: Quantity | None = "1"
    memory: Quantity | None = "2Gi"


class Notebook(Exposed):
    """JupyterLab, whose file browser shows buckets of an S3 store beside its own files."""

    endpoint: str
    """The store, as pods (or, for ``dcnios services run``, this machine) reach it."""
    buckets: Annotated[tuple[Bucket, ...], Field(min_length=1)]
    """Shown in the file browser, each as a tree of its own."""
    region: str = "us-east-1"
    access_key: Secret | None = None
    """``apply`` puts both keys into the Secret ``<name>-keys``. Whoever gets in can use them: give the
    notebook keys of its own that open these buckets only."""
    secret_key: Secret | None = None
    keys: SecretName | None = None
    """In place of both: a Kubernetes Secret that you made, with ``access_key`` and ``secret_key``."""
    resources: NotebookResources = NotebookResources()
    port: Port = 8888
    folder: Path = Path()
    """Where ``dcnios services run`` has its own files. In the cluster: the image's working directory, or a
    volume."""
    args: tuple[str, ...] = ()
    """More words for ``jupyter lab``."""
    sleep: NotebookSleep | None = None

    @model_validator(mode="after")
    def _one_pair_of_keys(self) -> "Notebook":
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key go together")
        if self.access_key is not None and self.keys is not None:
            raise ValueError("give access_key and secret_key, or keys, not both")
        return self


Service = Container | Notebook
"""Any of them."""
