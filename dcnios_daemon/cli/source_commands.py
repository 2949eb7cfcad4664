"""``dcnios sources``: what is to be done once at the stores and brokers that events come from."""
# ruff: noqa: PLC0415 - what a command does not need, it does not pay for

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import click

from dcnios_daemon.cli.common import config_option, json_option, load, print_json


@click.group()
def sources() -> None:
    """Prepare the stores that events come from."""


@sources.command()
@click.argument("name")
@config_option
@json_option
@click.option("--arn", help="Whom the store is to tell. Default: notification_arn, else the store is asked.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def setup(name: str, file: Path | None, arn: str | None, *, as_json: bool, dry_run: bool) -> None:
    """Have the buckets of source NAME tell the daemon of their objects.

    Adds what is missing to each bucket's notification configuration. What is there stays; done twice, nothing
    happens.
    """
    settings = load(file, files=False)
    from dcnios_daemon.config import wording
    from dcnios_daemon.sources.registry import KINDS

    if name not in settings.sources:
        raise click.UsageError(f"{name!r} is no source: {wording.suggest(name, settings.sources)}")
    source = settings.sources[name]
    make = KINDS[source.kind].setup
    if make is None:
        raise click.UsageError(f"a source of kind {source.kind} needs no setup")
    done = make(name=name, settings=source, arn=arn, dry_run=dry_run)
    told = asyncio.run(_told(done, as_json=as_json))
    if as_json:
        print_json({"source": name, "dry_run": dry_run, "buckets": told})


async def _told(done: AsyncIterator[str], *, as_json: bool) -> list[str]:
    """Each line when it is true: what comes after may fail."""
    told = []
    async for line in done:
        told.append(line)
        if not as_json:
            click.echo(line)
    return told
