"""``dcnios services``: servers and notebooks beside the runs. With the rights of who runs the command."""
# ruff: noqa: PLC0415 - what a command does not need, it does not pay for

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import click

from dcnios_daemon.cli.common import config_option, json_option, load, print_json
from dcnios_daemon.core.errors import DcniosError

if TYPE_CHECKING:
    from dcnios_daemon.config.model import DaemonSettings
    from dcnios_daemon.exposed.settings import Service
    from dcnios_daemon.kubernetes.cluster import ClusterSession

_Result = TypeVar("_Result")
_dry_run = click.option("--dry-run", is_flag=True, help="Let the cluster say what would be done; do nothing.")


@click.group()
def services() -> None:
    """Servers and notebooks in the cluster: reachable, behind a login, asleep when not needed."""


def _in_cluster(
    settings: "DaemonSettings", work: Callable[["ClusterSession"], Awaitable[_Result]]
) -> _Result:
    from dcnios_daemon.core.clock import SystemClock
    from dcnios_daemon.kubernetes.cluster import ClusterSession

    async def inside() -> _Result:
        session = ClusterSession(settings.kubernetes, SystemClock())
        try:
            return await work(session)
        finally:
            await session.aclose()

    return asyncio.run(inside())


def _chosen(settings: "DaemonSettings", names: Sequence[str]) -> "dict[str, Service]":
    """The services of these names; of none: all."""
    from dcnios_daemon.config import wording

    for name in names:
        if name not in settings.services:
            raise click.UsageError(f"{name!r} is no service: {wording.suggest(name, settings.services)}")
    return {name: cast("Service", settings.services[name]) for name in names or settings.services}


@services.command(name="list")
@config_option
@json_option
def list_services(file: Path | None, *, as_json: bool) -> None:
    """How each service is, those among them that only the cluster has."""
    settings = load(file, files=False)
    import msgspec

    from dcnios_daemon.config.tables import table
    from dcnios_daemon.exposed import seen

    known = {name: (block.kind, cast("Service", block)) for name, block in settings.services.items()}
    found = _in_cluster(settings, lambda session: seen.look(session, known))
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    rows = [
        (one.name, one.kind or "?", one.state, f"{one.ready}/{one.wanted}", one.reason, one.url)
        for one in found
    ]
    click.echo(table(("service", "kind", "state", "ready", "reason", "where"), rows))


@services.command()
@click.argument("names", nargs=-1)
@config_option
@json_option
def render(names: tuple[str, ...], file: Path | None, *, as_json: bool) -> None:
    """Print the very objects that `apply` would send for these services (default: all), without secrets."""
    settings = load(file, files=False)
    from dcnios_daemon.config import report
    from dcnios_daemon.exposed.objects import build

    image = settings.kubernetes.staging_image
    made = [
        wish.shown()
        for name, service in _chosen(settings, names).items()
        for wish in build(name, service, image=image)
    ]
    if as_json:
        print_json(made)
    else:
        click.echo("---\n".join(report.as_yaml(body) for body in made), nl=False)


@services.command()
@click.argument("names", nargs=-1)
@config_option
@_dry_run
@click.option("--force", is_flag=True, help="Take fields that others have set.")
def apply(names: tuple[str, ...], file: Path | None, *, dry_run: bool, force: bool) -> None:
    """Bring services (default: all of the configuration) into the cluster, or up to date.

    Done twice, nothing happens. What is no longer wanted of a service is deleted; other objects are never
    touched, and fields that others have set only with --force.
    """
    settings = load(file, files=False)
    from dcnios_daemon.exposed import applying
    from dcnios_daemon.exposed.objects import build

    image = settings.kubernetes.staging_image
    wanted = {name: build(name, service, image=image) for name, service in _chosen(settings, names).items()}

    async def work(session: "ClusterSession") -> None:
        for name, objects in wanted.items():
            await _told(name, applying.apply(session, name, objects, force=force, dry_run=dry_run))

    _in_cluster(settings, work)


@services.command()
@click.argument("names", nargs=-1, required=True)
@config_option
@_dry_run
def delete(names: tuple[str, ...], file: Path | None, *, dry_run: bool) -> None:
    """Take these services out of the cluster, their tokens included. Volumes and buckets stay.

    They need not be in the configuration (any more).
    """
    settings = load(file, files=False)
    from dcnios_daemon.exposed import applying

    async def work(session: "ClusterSession") -> None:
        for name in names:
            await _told(name, applying.delete(session, name, dry_run=dry_run))

    _in_cluster(settings, work)


async def _told(name: str, done: AsyncIterator[str]) -> None:
    """Each line when it is true: what comes after may fail."""
    count = 0
    async for line in done:
        count += 1
        click.echo(f"{name}: {line}")
    if not count:
        click.echo(f"{name}: nothing to do")


@services.command()
@click.argument("name")
@config_option
@click.option("--tail", type=click.IntRange(1, 100_000), default=200, show_default=True, help="Lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes.")
def logs(name: str, file: Path | None, *, tail: int, follow: bool) -> None:
    """What the newest pod of service NAME says."""
    settings = load(file, files=False)
    from dcnios_daemon.exposed import seen

    async def work(session: "ClusterSession") -> None:
        async for line in seen.logs(session, name, tail=tail, follow=follow):
            click.echo(line)

    _in_cluster(settings, work)


@services.command()
@click.argument("name")
@config_option
def token(name: str, file: Path | None) -> None:
    """Print the token that lets people into service NAME, and nothing else."""
    settings = load(file, files=False)
    from dcnios_daemon.exposed import seen

    click.echo(_in_cluster(settings, lambda session: seen.token(session, name)))


@services.command()
@click.argument("name")
@click.argument("replicas", type=click.IntRange(0, 1000))
@config_option
@click.option("--if-idle", metavar="DURATION", help="Only if the notebook was not used for so long.")
def scale(name: str, replicas: int, file: Path | None, *, if_idle: str | None) -> None:
    """Give service NAME that many pods: 0 puts it to sleep, 1 wakes it."""
    settings = load(file, files=False)
    from dcnios_daemon.exposed import scaling

    async def work(session: "ClusterSession") -> None:
        if if_idle is not None and (busy := await _why_busy(if_idle)):
            click.echo(f"{name}: not idle: {busy}")
            return
        before = await scaling.scale(session, name, replicas)
        click.echo(f"{name}: {before} -> {replicas}")

    _in_cluster(settings, work)


async def _why_busy(if_idle: str) -> str | None:
    import datetime as dt

    from dcnios_daemon.core.units import duration
    from dcnios_daemon.exposed import reach, scaling

    try:
        idle_for = duration(if_idle)
        url, known = os.environ[reach.STATUS_URL], os.environ[reach.STATUS_TOKEN]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except KeyError as error:
        raise DcniosError(f"--if-idle is for the CronJobs of notebooks, which have {error}") from error
    return await scaling.why_busy(url, known, idle_for=idle_for, now=dt.datetime.now(dt.UTC))


@services.command()
@click.argument("name")
@config_option
def run(name: str, file: Path | None) -> None:
    """Start notebook NAME on this machine, for you alone, until Ctrl-C. No cluster is needed."""
    settings = load(file, files=False)
    from dcnios_daemon.exposed import local
    from dcnios_daemon.exposed.settings import Notebook

    service: object = _chosen(settings, [name])[name]
    if not isinstance(service, Notebook):
        raise click.UsageError(f"only notebooks run here; {name!r} is a container: apply it to a cluster")
    launch = local.prepare(name, service, state=settings.buffer.path.parent, environ=os.environ)
    click.echo(launch.opens, err=True)
    launch.become()
