"""Looks whether OSCAR is there, has the service and knows us, without calling it."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from yarl import URL

from dcnios_daemon.core.clock import Clock, SystemClock
from dcnios_daemon.core.errors import SinkError, SinkMisconfigured
from dcnios_daemon.kubernetes.login import KubernetesSettings
from dcnios_daemon.sinks.http.client import Access, Client
from dcnios_daemon.sinks.oscar.settings import OscarRun
from dcnios_daemon.sinks.oscar.system import System

_OLDEST = (4, 1)
"""The first that lets us name a job; before, what is sent again runs again."""


async def check(
    *,
    kubernetes: KubernetesSettings,  # noqa: ARG001 - all kinds are asked alike
    any_payload: bool,  # noqa: ARG001
    runs: Mapping[str, OscarRun],
) -> Sequence[str]:
    """What is missing. See :class:`~dcnios_daemon.sinks.registry.SinkKind`."""
    return [finding for place, run in runs.items() for finding in await _look(place, run, SystemClock())]


async def _look(place: str, run: OscarRun, clock: Clock) -> list[str]:
    try:
        return [*await _by_login(run, clock), *await _by_token(place, run, clock)]
    except SinkMisconfigured as error:
        return [f"{error}, see {place}"]
    except SinkError as error:
        return [f"{error}: correct {place}.endpoint, or start it"]


async def _by_login(run: OscarRun, clock: Clock) -> list[str]:
    access = run.asking()
    if access is None:
        return []
    system = System(run.endpoint, run.service, access, clock)
    try:
        await system.token()
        version = await system.version()
    finally:
        await system.aclose()
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found and tuple(map(int, found.groups())) < _OLDEST:
        return [f"{run.endpoint} is OSCAR {version}: what is sent again would run again there, 4.1 is needed"]
    return []


async def _by_token(place: str, run: OscarRun, clock: Clock) -> list[str]:
    """OSCAR's gates ask it in the same way whether to let somebody through to a service."""
    if run.token is None:
        return []
    access = Access(token=run.token, ca_file=run.ca_file, timeout=run.timeout)
    client = Client(run.endpoint, access, clock)
    try:
        url = URL(run.endpoint) / "system" / "services" / run.service / "auth"
        answer = await client.ask("GET", {}, None, at=url)
    finally:
        await client.aclose()
    if answer.status == HTTPStatus.OK:
        return []
    said = f"{run.endpoint} answers {answer.status} to the token of {run.service}"
    return [f"{said}: correct {place}.token, service or endpoint"]
