"""Commands, nothing else. Each imports what it needs when it runs: help must be quick.

Exit codes: 0 fine, 1 failed, 2 wrong usage or configuration. ``stage``, which runs in pods, has its own.
"""
# ruff: noqa: PLC0415 - see above: the top of this file is paid for by every command

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dcnios_daemon import __version__
from dcnios_daemon.cli.common import FILE, Commands, config_option, json_option, load, print_json
from dcnios_daemon.cli.import_commands import import_
from dcnios_daemon.cli.queue_commands import queue
from dcnios_daemon.cli.service_commands import services
from dcnios_daemon.cli.source_commands import sources
from dcnios_daemon.core.errors import DcniosError

if TYPE_CHECKING:
    from dcnios_daemon.config.connections import Finding


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dcnios")
def main() -> None:
    """Runs a container for every file that lands and every message that arrives."""


main.add_command(import_)
main.add_command(queue)
main.add_command(services)
main.add_command(sources)


@main.command()
@config_option
@click.pass_context
def run(ctx: click.Context, file: Path | None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    settings = load(file, files=True)
    from dcnios_daemon import app

    ctx.exit(asyncio.run(app.run(settings, reread=lambda: load(file, files=True))))


@main.command()
@config_option
@json_option
@click.option("--connect", is_flag=True, help="Log in to every store, broker and cluster, too.")
@click.option("--quiet", "-q", is_flag=True, help="Print mistakes only.")
@click.option("--without-files", is_flag=True, help="Do not look for secret files and scripts.")
def check(file: Path | None, *, as_json: bool, connect: bool, quiet: bool, without_files: bool) -> None:
    """Check the configuration and print what is in force, without secrets.

    With --connect, also go to all that it names and say what is missing there. Nothing is changed.
    """
    settings = load(file, files=not without_files)
    from dcnios_daemon.config import connections, report

    shown, notes, summary = report.effective(settings), report.notes(settings), report.summary(settings)
    if not as_json and not quiet:
        click.echo(report.as_yaml(shown), nl=False)
    if not as_json:
        for line in notes if quiet else [*notes, f"{summary}: fine"]:
            click.echo(line, err=True)
    findings = asyncio.run(connections.check_connections(settings)) if connect else ()
    if as_json:
        met = [{"name": name, "finding": finding} for name, finding in findings]
        known = {"settings": shown, "notes": notes, "summary": summary}
        print_json(known | ({"connections": met} if connect else {}))
    _tell(findings, quiet=quiet or as_json)


def _tell(findings: "Sequence[Finding]", *, quiet: bool) -> None:
    """A line for each; what is missing is a failure."""
    missing = [finding for _, finding in findings if finding is not None]
    for name, finding in findings:
        if finding is not None or not quiet:
            click.echo(f"{name}: {finding or 'fine'}", err=True)
    if missing:
        raise DcniosError(f"{len(missing)} missing" if len(missing) > 1 else "1 is missing")


@main.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from dcnios_daemon.config import report

    print_json(report.schema())


@main.command()
@click.argument("route")
@click.argument("event", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--fallback", is_flag=True, help="What its fallback would submit.")
@config_option
@json_option
def render(route: str, event: str, file: Path | None, *, fallback: bool, as_json: bool) -> None:
    """Print the very object that ROUTE would submit for the event in the file EVENT (- is standard input).

    EVENT holds JSON: an event's fields as `queue show --json` prints them, of which any may be left out, or a
    CloudEvent.
    """
    settings = load(file, files=True)
    from dcnios_daemon import app
    from dcnios_daemon.config import report, sample, wording

    if route not in settings.sendings:
        raise click.UsageError(f"{route!r} is no route: {wording.suggest(route, settings.sendings)}")
    name = settings.sendings[route].sources[0]
    kind = settings.sources[name].kind if name in settings.sources else "delivery"
    given = sample.event_from_file(event, source=name, kind=kind, now=time.time())
    if fallback and getattr(settings.sendings[route], "fallback", None) is None:
        raise click.UsageError(f"route {route!r} has no fallback")
    made = asyncio.run(app.render(settings, route, given, fallback=fallback))
    print_json(made) if as_json else click.echo(report.as_yaml(made), nl=False)


@main.command()
@click.argument("direction", type=click.Choice(["in", "out"]))
@click.option("--plan", type=FILE, required=True, help="The plan that the daemon made.")
@click.option("--work-dir", type=FILE, required=True, help="The folder that holds input and output.")
@click.pass_context
def stage(ctx: click.Context, direction: str, plan: Path, work_dir: Path) -> None:
    """Fetch a run's input, or put its output away. Runs in pods: 75 means that it may work later."""
    from dcnios_daemon.staging.run import main_in, main_out

    ctx.exit((main_in if direction == "in" else main_out)(plan, work_dir))
