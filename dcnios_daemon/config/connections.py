"""Whether the neighbours that the configuration names are there, let us in and have what it asks of them."""

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence

from dcnios_daemon.config.checks import written_by
from dcnios_daemon.config.model import DaemonSettings, route_of
from dcnios_daemon.core.errors import DcniosError
from dcnios_daemon.core.payload import PayloadForm
from dcnios_daemon.exposed import check as exposed
from dcnios_daemon.sinks import registry as sinks
from dcnios_daemon.sources import registry as sources

WITHIN = 10.0
"""Seconds that each neighbour has to answer all questions."""
Finding = tuple[str, str | None]
"""A neighbour (``source uploads``, ``sink job``, ``services``) and what is missing there; None: nothing."""


async def check_connections(settings: DaemonSettings) -> Sequence[Finding]:
    """Go to all neighbours at the same time and say what is missing: a line for each thing, or one for each
    neighbour that is fine. Nothing is changed there, no topic is made and no group joined."""
    checks = [*_of_sources(settings), *_of_sinks(settings), *_of_services(settings)]
    async with asyncio.TaskGroup() as group:
        asked = [(who, group.create_task(_ask(check))) for who, check in checks]
    return [(who, finding) for who, task in asked for finding in task.result() or (None,)]


async def _ask(check: Awaitable[Sequence[str]] | None) -> Sequence[str]:
    if check is None:
        return ()
    limit = asyncio.timeout(WITHIN)
    try:
        async with limit:
            return await check
    except TimeoutError as error:
        return [f"no answer within {WITHIN:g} s" if limit.expired() else str(error)]
    except (DcniosError, OSError) as error:
        return [str(error) or type(error).__name__]


def _of_sources(settings: DaemonSettings) -> Iterator[tuple[str, Awaitable[Sequence[str]] | None]]:
    for name, source in settings.sources.items():
        check = sources.KINDS[source.kind].check
        yield (
            f"source {name}",
            check
            and check(
                name=name,
                settings=source,
                instance=settings.daemon.instance,
                targets=_targets(settings, name),
            ),
        )


def _targets(settings: DaemonSettings, source: str) -> Mapping[str, str]:
    """Where results are put by way of the source, by the place that says so."""
    found = {}
    for path, run in settings.runs.items():
        for place, out in written_by(run).items():
            if out.using == source and getattr(out, "secret", None) is None:
                found[".".join((*path, *place, "to"))] = out.to
    return found


def _of_sinks(settings: DaemonSettings) -> Iterator[tuple[str, Awaitable[Sequence[str]] | None]]:
    for kind in dict.fromkeys(run.kind for run in settings.runs.values()):
        check = sinks.KINDS[kind].check
        runs = {path: run for path, run in settings.runs.items() if run.kind == kind}
        yield (
            f"sink {kind}",
            check
            and check(
                kubernetes=settings.kubernetes,
                any_payload=any(_may_be_odd(settings, route_of(path)) for path in runs),
                runs={".".join(path): run for path, run in runs.items()},
            ),
        )


def _of_services(settings: DaemonSettings) -> Iterator[tuple[str, Awaitable[Sequence[str]]]]:
    if settings.services:
        yield "services", exposed.check(settings.kubernetes)


def _may_be_odd(settings: DaemonSettings, name: str) -> bool:
    """Whether the route's payloads may be more than a text of some kilobytes."""
    route = settings.sendings[name]
    kinds = [settings.sources[source].kind for source in route.sources if source in settings.sources]
    odd = any(sources.KINDS[kind].any_payload for kind in kinds)
    return route.batch.size > 1 or (odd and route.payload is not PayloadForm.REFERENCE)
