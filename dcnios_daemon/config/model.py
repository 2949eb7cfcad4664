"""The settings tree: every key that the daemon knows, with its type, its default and its meaning.

What a source or a ``run`` block takes beside ``kind`` is declared by that kind's own module.
"""

import math
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from dcnios_daemon.config.kinds import RUN, SERVICE, SOURCE, Block
from dcnios_daemon.core.event import Action
from dcnios_daemon.core.payload import PayloadForm
from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Failure, State
from dcnios_daemon.core.results import RESULTS, ResultRule
from dcnios_daemon.core.routing import Router, Rule
from dcnios_daemon.core.settings import Secret, Settings
from dcnios_daemon.core.units import Duration, Rate, Size
from dcnios_daemon.kubernetes.login import KubernetesSettings

_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


def _label(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise ValueError(
            f"{value!r} is no label: write up to 63 letters, digits, '-', '_' and '.', "
            "the first and the last a letter or digit"
        )
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is no name: write up to 31 small letters, digits and '-', the first a letter"
        )
    return value


def _host_label() -> str:
    """The host's name with all that a label may not hold left out."""
    legal = re.sub(r"[^a-z0-9.-]+", "-", socket.gethostname().lower())[:63].strip("-.")
    return legal or "dcnios"


def _journal_path() -> Path:
    """Below the state directory that systemd gives, else beside where the daemon was started."""
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder or "state") / "journal.db"


Label = Annotated[str, AfterValidator(_label)]
Name = Annotated[str, AfterValidator(_name)]


class Http(Settings):
    """The one port: status page, API, probes, metrics, webhooks."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs an admin token, and a token on every webhook."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """0 takes any free one."""
    admin_token: Secret | None = None
    """For the calls that change something; without it they answer 403."""


class Log(Settings):
    """What the daemon says on standard error."""

    format: Literal["json", "console"] | None = None
    """Default: console on a terminal, else json."""
    level: Literal["debug", "info", "warning", "error"] = "info"


class Daemon(Settings):
    """The process itself."""

    instance: Label = Field(default_factory=_host_label)
    """In Job labels and Kafka groups. Two daemons on one cluster need two. Default: the host's name."""
    shutdown_grace: Duration = 30.0
    """How long an orderly stop may take."""
    http: Http = Http()
    log: Log = Log()


class Buffer(Settings):
    """The journal. Either bound shuts the gate."""

    path: Path = Field(default_factory=_journal_path)
    """On a local disk. Default: ``$STATE_DIRECTORY/journal.db``, else ``./state/journal.db``."""
    max_events: Annotated[int, Field(gt=0)] = 1_000_000
    max_bytes: Annotated[Size, Field(gt=0)] = 2 * 1024**3
    resume_at: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """The share of the bounds at which a shut gate opens again."""
    dedupe_for: Duration = 30 * 86400.0
    """How long the keys of settled events are remembered. It must be longer than any source may take to meet
    an event again: for a queue of AWS 14 days, for listings of S3 a day and more."""


class LimitSettings(Settings):
    """Over all routes; a route's own limits apply too."""

    rate: Rate | None = 200.0
    """Orders per second. null: no limit."""
    in_flight: Annotated[int, Field(gt=0)] | None = 500
    """Orders submitted and not yet ended. null: no limit."""

    @property
    def burst(self) -> float:
        """Orders that may go at once after a quiet time: one second's worth, at least one."""
        return _second_of(self.rate)


class Match(Settings):
    """Which events a route takes; a field left out asks nothing. Globs: ``*`` stops at ``/``, ``**`` not."""

    subject: str | None = None
    action: tuple[Literal["created", "moved", "removed", "staged", "message"], ...] = ()
    attributes: Mapping[str, str] = Field(default_factory=dict)
    """Attribute to glob."""
    where: Mapping[str, str] = Field(default_factory=dict)
    """Path into the JSON data (``Records.0.s3.object.size``) to glob over the value's text."""


class RetrySettings(Settings):
    """When another attempt is made, and when."""

    attempts: Annotated[int, Field(gt=0)] = 5
    """All of them together, the first included."""
    backoff: Duration = 2.0
    """Before the second attempt; doubled before each further one."""
    max_backoff: Duration = 600.0
    on: tuple[Literal["infrastructure", "script", "deadline", "unknown"], ...] = ("infrastructure",)
    """Kinds of failure. What follows from a ``suspicious`` end is said by the ``run`` of its kind."""
    exit_codes: tuple[Annotated[int, Field(gt=0, le=255)], ...] = ()
    """Exit codes of the script that are worth another attempt, whatever ``on`` says."""

    def policy(self) -> RetryPolicy:
        """The same as the dispatcher takes it."""
        return RetryPolicy(
            attempts=self.attempts,
            backoff=self.backoff,
            max_backoff=self.max_backoff,
            on=frozenset(Failure(failure) for failure in self.on),
            exit_codes=frozenset(self.exit_codes),
        )


class BatchSettings(Settings):
    """One order for many events, with one outcome. If it fails, each of them is tried again alone, whatever
    ``retry`` says, so that a bad one finds itself and the good ones are done; what the batch had done of them
    is done again. A batch of which nobody knows whether it ran (``unknown``) is left to ``retry``."""

    size: Annotated[int, Field(gt=0, le=1000)] = 1
    """Events at most. Only first attempts are batched."""
    wait: Duration = 0.0
    """How long an incomplete batch waits for more."""


class Selection(Settings):
    """Which events a route is for."""

    sources: Annotated[tuple[Name, ...], Field(alias="from", min_length=1)]
    match: Match = Match()


class Sending(Settings):
    """How fast orders go out, and what they are."""

    rate: Rate | None = None
    """Orders per second. null: only the limit over all routes."""
    burst: Annotated[float, Field(ge=1, default_factory=lambda given: _second_of(given.get("rate")))]
    """Orders that may go at once after a quiet time. Default: one second's worth, at least one."""
    in_flight: Annotated[int, Field(gt=0)] | None = None
    """Orders submitted and not yet ended. null: only the limit over all routes."""
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    """Routes of a higher one go first: while one of them has work and room, no lower one does. Give an urgent
    route a ``rate`` or ``in_flight`` of its own if others must go on beside its floods."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Fair share when routes of the same priority compete."""
    retry: RetrySettings = RetrySettings()
    batch: BatchSettings = BatchSettings()
    payload: PayloadForm = PayloadForm.ORIGINAL
    run: Annotated[Block, RUN]


class Fallback(Settings):
    """Another way for a route's orders while its own has no room: from an HPC to the cluster, or from the
    cluster to an HPC. Only what certainly does not exist there goes the other way, and what this refuses (a
    payload that is too large for it) is dead."""

    after: Annotated[Duration, Field(ge=60)] = 1800.0
    """How long ``run`` must have had no room, at each try."""
    run: Annotated[Block, RUN]
    """Of the other kind, ``job`` or ``interlink``."""


class Route(Sending, Selection):
    """Which events are run, how fast, and what is run."""

    fallback: Fallback | None = None

    def rule(self) -> Rule:
        """What it asks of an event."""
        return Rule(
            sources=frozenset(self.sources),
            subject=self.match.subject,
            actions=frozenset(Action(action) for action in self.match.action),
            attributes=self.match.attributes,
            where=self.match.where,
        )


class Results(Sending):
    """What became of deliveries, as CloudEvents: made when they end, and sent by the route of this name."""

    routes: tuple[Name, ...] = ()
    """Of these routes only. Default: of all."""
    of: Annotated[tuple[Literal["succeeded", "dead"], ...], Field(min_length=1)] = ("succeeded", "dead")
    """Which ends are told."""
    payload: PayloadForm = PayloadForm.CLOUDEVENT

    @property
    def sources(self) -> tuple[str, ...]:
        """Where their events come from: the journal itself."""
        return (RESULTS,)

    def rule(self, instance: str) -> ResultRule:
        """The same as the journal takes it."""
        return ResultRule(
            instance=instance, routes=frozenset(self.routes), of=frozenset(State(state) for state in self.of)
        )


class DaemonSettings(Settings):
    """The whole configuration."""

    daemon: Daemon = Field(default_factory=Daemon)
    buffer: Buffer = Field(default_factory=Buffer)
    limits: LimitSettings = LimitSettings()
    kubernetes: KubernetesSettings = Field(default_factory=KubernetesSettings)
    sources: Mapping[Name, Annotated[Block, SOURCE]] = Field(default_factory=dict)
    routes: Mapping[Name, Route] = Field(default_factory=dict)
    results: Results | None = None
    services: Mapping[Name, Annotated[Block, SERVICE]] = Field(default_factory=dict)
    """Servers and notebooks. ``dcnios services`` brings them into the cluster; the daemon does nothing with
    them."""

    @property
    def sendings(self) -> Mapping[str, Route | Results]:
        """All that orders go out by: the routes, and the results' own."""
        return {**self.routes, **({RESULTS: self.results} if self.results else {})}

    def run_kinds(self) -> set[str]:
        """The kinds of ``run`` that there are."""
        return {run.kind for run in self.runs.values()}

    @property
    def runs(self) -> Mapping[tuple[str, ...], Block]:
        """All blocks that say what is run, by their place."""
        found = {run_path(name): sending.run for name, sending in self.sendings.items()}
        for name, route in self.routes.items():
            if route.fallback is not None:
                found[fallback_path(name)] = route.fallback.run
        return found

    def router(self) -> Router:
        """Which routes an event takes."""
        return Router({name: route.rule() for name, route in self.routes.items()})


def run_path(route: str) -> tuple[str, ...]:
    """Where the ``run`` of one of :attr:`DaemonSettings.sendings` stands in the configuration."""
    return (RESULTS, "run") if route == RESULTS else ("routes", route, "run")


def fallback_path(route: str) -> tuple[str, ...]:
    """Where the ``run`` of a route's fallback stands."""
    return ("routes", route, "fallback", "run")


def route_of(path: tuple[str, ...]) -> str:
    """Whose ``run`` stands there: one of :attr:`DaemonSettings.sendings`."""
    return RESULTS if path[0] == RESULTS else path[1]


def _second_of(rate: Any) -> float:  # noqa: ANN401 - absent when it was a mistake
    return max(1.0, float(math.floor(rate))) if rate else 1.0


def renew() -> None:
    """Take in kinds that were registered after this module was imported."""
    known = _known_kinds()
    if known != _built[0]:
        for model in (Sending, Fallback, Route, Results):
            model.model_rebuild(force=True)
        DaemonSettings.model_rebuild(force=True)
        _built[0] = known


def _known_kinds() -> tuple[type[Block], ...]:
    return (*SOURCE.kinds().values(), *RUN.kinds().values(), *SERVICE.kinds().values())


_built = [_known_kinds()]
