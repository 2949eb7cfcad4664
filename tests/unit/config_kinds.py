"""Kinds of source and run made for the tests of the configuration: small, and with every sort of key."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from unittest import mock

from pydantic import Field

from dcnios_daemon.config import model
from dcnios_daemon.core.settings import Secret, Settings
from dcnios_daemon.core.units import Duration
from dcnios_daemon.sinks import registry as sinks
from dcnios_daemon.sinks.spec import ContainerRun
from dcnios_daemon.sources import registry as sources


class Folder(Settings):
    path: str = "/data"
    recursive: bool = False


class Shop(Settings):
    """A store with credentials."""

    endpoint: str
    access_key: Secret | None = None
    secret_key: Secret | None = None
    buckets: tuple[str, ...] = ()
    prefix: str = ""
    watch: Mapping[str, Folder] = Field(default_factory=dict)
    reconcile: Duration = 300.0
    ca_file: Path | None = None
    receive: tuple[Literal["webhook", "listen"], ...] = ("webhook",)
    webhook_token: Secret | None = None


class Hook(Settings):
    """Told of events, no store."""

    token: Secret | None = None


class Box(ContainerRun):
    """A container."""

    image: str
    labels: Mapping[str, str] = Field(default_factory=dict)
    slurm: Mapping[str, str] = Field(default_factory=dict)
    pod: Mapping[str, Any] = Field(default_factory=dict)


class Nothing(Settings):
    """Nothing at all."""


def _never(*_: object, **__: object) -> Any:
    raise AssertionError("the configuration builds nothing")


SOURCES = {
    "shop": sources.SourceKind(
        settings=Shop,
        build=_never,
        store=_never,
        receives=True,
        again_for=lambda settings: 3 * settings.reconcile,
        token=lambda settings: settings.webhook_token,
    ),
    "hook": sources.SourceKind(
        settings=Hook, build=_never, receives=True, token=lambda settings: settings.token
    ),
}
SINKS = {
    "box": sinks.SinkKind(settings=Box, build=_never),
    "nothing": sinks.SinkKind(settings=Nothing, build=_never),
}


@contextmanager
def only_test_kinds() -> Iterator[None]:
    """Only these kinds are known inside."""
    with mock.patch.object(sources, "KINDS", SOURCES), mock.patch.object(sinks, "KINDS", SINKS):
        model.renew()
        yield
    model.renew()
