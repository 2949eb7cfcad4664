"""Commands, nothing else. Each imports what it needs when it runs: help must be quick.

Exit codes: 0 fine, 1 failed, 2 wrong usage or configuration. ``stage``, which runs in pods, has its own.
"""
# ruff: noqa: PLC0415 - see above: the top of this file is paid for by every command

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dcnios_daemon import __version__
from dcnios_daemon.core.errors import ConfigError, DcniosError

if TYPE_CHECKING:
    from dcnios_daemon.config.checks import Wrong
    from dcnios_daemon.config.model import DaemonSettings
    from dcnios_daemon.core.ports import Delivery, Journal

_Result = TypeVar("_Result")
_PAGE = 1000
_STATES = ("queued", "submitting", "running", "succeeded", "dead", "dropped", "unrouted")
_FILE = click.Path(path_type=Path)


class _Commands(click.Group):
    """Errors that we can name end a command with their message, never with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever reads our output has enough: click ends quietly
        except (DcniosError, OSError, ExceptionGroup) as error:
            failures = list(_leaves(error))
            if not all(isinstance(failure, DcniosError | OSError) for failure in failures):
                raise
            for failure in failures:
                click.echo(_words(failure), err=True)
            ctx.exit(2 if any(isinstance(failure, ConfigError) for failure in failures) else 1)


def _words(failure: BaseException) -> str:
    if isinstance(failure, ConfigError):
        return str(failure)
    if isinstance(failure, OSError) and failure.filename and failure.strerror:
        return f"dcnios: {failure.filename}: {failure.strerror}"
    return f"dcnios: {failure}"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


_config = click.option(
    "--config",
    "file",
    type=_FILE,
    help="The configuration. Default: $DCNIOS_CONFIG, else config/daemon.yaml, else variables alone.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_route = click.option("--route", help="Only those of this route.")
_limit = click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)


def _load(file: Path | None, *, files: bool) -> "DaemonSettings":
    """The configuration; with ``files``, all that a run needs is looked at too."""
    from dcnios_daemon.config.load import load

    return load(file, files=files, further=_compile if files else None)


def _compile(settings: "DaemonSettings", wrong: "Wrong") -> None:
    from dcnios_daemon import app
    from dcnios_daemon.config.checks import check_runs

    sinks = app.build_sinks(settings, app.build_stores(settings))
    check_runs(settings, wrong, lambda name, route: app.build_route(name, route, sinks[route.run.kind]))


def _print_json(data: object) -> None:
    """Half characters, which file names may hold, stay escaped."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False).encode(errors="backslashreplace"))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dcnios")
def main() -> None:
    """Runs a container for every file that lands and every message that arrives."""


@main.command()
@_config
@click.pass_context
def run(ctx: click.Context, file: Path | None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    settings = _load(file, files=True)
    from dcnios_daemon import app

    ctx.exit(asyncio.run(app.run(settings, reread=lambda: _load(file, files=True))))


@main.command()
@_config
@_as_json
@click.option("--quiet", "-q", is_flag=True, help="Print mistakes only.")
@click.option("--without-files", is_flag=True, help="Do not look for secret files and scripts.")
def check(file: Path | None, *, as_json: bool, quiet: bool, without_files: bool) -> None:
    """Check the configuration and print what is in force, without secrets."""
    settings = _load(file, files=not without_files)
    from dcnios_daemon.config import report

    shown, notes, summary = report.effective(settings), report.notes(settings), report.summary(settings)
    if as_json:
        _print_json({"settings": shown, "notes": notes, "summary": summary})
        return
    if not quiet:
        click.echo(report.as_yaml(shown), nl=False)
    for line in notes if quiet else [*notes, f"{summary}: fine"]:
        click.echo(line, err=True)


@main.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from dcnios_daemon.config import report

    _print_json(report.schema())


@main.command()
@click.argument("route")
@click.argument("event", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@_config
@_as_json
def render(route: str, event: str, file: Path | None, *, as_json: bool) -> None:
    """Print the very object that ROUTE would submit for the event in the file EVENT (- is standard input).

    EVENT holds JSON: an event's fields as `queue show --json` prints them, of which any may be left out, or a
    CloudEvent.
    """
    settings = _load(file, files=True)
    from dcnios_daemon import app
    from dcnios_daemon.config import report, sample, wording

    if route not in settings.routes:
        raise click.UsageError(f"{route!r} is no route: {wording.suggest(route, settings.routes)}")
    name = settings.routes[route].sources[0]
    given = sample.event_from_file(event, source=name, kind=settings.sources[name].kind, now=time.time())
    made = asyncio.run(app.render(settings, route, given))
    _print_json(made) if as_json else click.echo(report.as_yaml(made), nl=False)


@main.group()
def queue() -> None:
    """See and mend what the journal holds. Works beside a running daemon."""


def _with_journal(file: Path | None, work: Callable[["Journal"], Awaitable[_Result]]) -> _Result:
    settings = _load(file, files=False)
    from dcnios_daemon import app

    async def inside() -> _Result:
        async with app.journal(settings, shared=True) as journal:
            return await work(journal)

    return asyncio.run(inside())


@queue.command()
@_config
@_as_json
def stats(file: Path | None, *, as_json: bool) -> None:
    """Counts by route and state."""
    found = _with_journal(file, lambda journal: journal.stats())
    if as_json:
        _print_structs(found)
    else:
        from dcnios_daemon.config import tables

        click.echo(tables.stats_text(found, time.time()))


@queue.command(name="list")
@_config
@_as_json
@click.option("--state", type=click.Choice(_STATES), help="Only those.")
@_route
@_limit
@click.option("--after", type=int, default=0, help="Go on below this id.")
def list_deliveries(
    file: Path | None, state: str | None, route: str | None, *, limit: int, after: int, as_json: bool
) -> None:
    """Deliveries, newest first."""
    _print_deliveries(file, state=state, route=route, limit=limit, after=after, as_json=as_json)


@queue.command()
@_config
@_as_json
@_route
@_limit
def dead(file: Path | None, route: str | None, *, limit: int, as_json: bool) -> None:
    """What was given up and waits for replay or drop."""
    if _print_deliveries(file, state="dead", route=route, limit=limit, as_json=as_json) and not as_json:
        click.echo("\ndcnios queue show KEY tells more; dcnios queue replay ID runs it again", err=True)


@queue.command()
@click.argument("key")
@_config
@_as_json
def show(key: str, file: Path | None, *, as_json: bool) -> None:
    """An event and what became of it, by its KEY or a unique beginning of that."""
    event, deliveries = _with_journal(file, lambda journal: journal.show(key))
    if event is None and not deliveries:
        raise DcniosError(f"there is no event whose key begins with {key!r}")
    if as_json:
        from dcnios_daemon.config.sample import event_to_json

        _print_structs({"event": event and event_to_json(event), "deliveries": deliveries})
    else:
        from dcnios_daemon.config import tables

        click.echo(tables.story_text(event, deliveries))


@queue.command()
@click.argument("ids", nargs=-1, type=int)
@_config
@_as_json
@click.option("--all", "every", is_flag=True, help="All dead ones.")
@click.option("--route", help="All dead ones of this route.")
def replay(ids: tuple[int, ...], file: Path | None, route: str | None, *, every: bool, as_json: bool) -> None:
    """Queue dead deliveries again, by their IDS."""
    if bool(ids) + every + bool(route) != 1:
        raise click.UsageError("give ids, or --all, or --route")

    async def work(journal: "Journal") -> tuple[int, int]:
        chosen = ids or [item.id for item in await _deliveries(journal, state="dead", route=route)]
        return len(chosen), await journal.replay(chosen)

    _report_changed(*_with_journal(file, work), "queued again", "dead", as_json=as_json)


@queue.command()
@click.argument("ids", nargs=-1, type=int, required=True)
@_config
@_as_json
@click.option("--reason", required=True, help="Kept with them.")
def drop(ids: tuple[int, ...], file: Path | None, reason: str, *, as_json: bool) -> None:
    """Settle queued or dead deliveries for good without running them, by their IDS."""

    async def work(journal: "Journal") -> tuple[int, int]:
        return len(ids), await journal.drop(ids, reason)

    _report_changed(*_with_journal(file, work), "dropped", "queued or dead", as_json=as_json)


@queue.command()
@_config
@_as_json
@click.option("--repair", is_flag=True, help="Mend what can be mended without guessing.")
def fsck(file: Path | None, *, repair: bool, as_json: bool) -> None:
    """Go through the whole journal. The daemon must not be running."""
    path = _load(file, files=False).buffer.path
    from dcnios_daemon.buffer.fsck import fsck as examine

    findings = examine(path, repair=repair)
    left = sum(not finding.mended for finding in findings)
    if as_json:
        _print_structs({"journal": str(path), "findings": findings})
    else:
        lines = [f"{finding.what}{': mended' if finding.mended else ''}" for finding in findings]
        click.echo("\n".join(lines or [f"{path}: fine"]))
    if left:
        raise DcniosError(f"{path}: {left} left to mend{'' if repair else ' (--repair)'}")


async def _deliveries(
    journal: "Journal", *, state: str | None, route: str | None, limit: int | None = None, after: int = 0
) -> "Sequence[Delivery]":
    """Page by page, so that the journal is never held up for long. No limit: all."""
    from dcnios_daemon.core.ports import State

    found: list[Delivery] = []
    while limit is None or len(found) < limit:
        wanted = _PAGE if limit is None else min(_PAGE, limit - len(found))
        page = await journal.deliveries(
            state=State(state) if state else None, route=route, after=after, limit=wanted
        )
        found.extend(page)
        if len(page) < wanted:
            break
        after = page[-1].id
    return found


def _print_deliveries(
    file: Path | None, *, state: str | None, route: str | None, limit: int, after: int = 0, as_json: bool
) -> int:
    """Print them, and say how many there were."""
    found = _with_journal(
        file, lambda journal: _deliveries(journal, state=state, route=route, limit=limit, after=after)
    )
    if as_json:
        _print_structs(found)
    else:
        from dcnios_daemon.config import tables

        empty = f"nothing is {state}" if state else "the journal holds no deliveries"
        where = f" on route {route}" if route else ""
        click.echo(tables.deliveries_text(found, time.time()) if found else empty + where)
    return len(found)


def _print_structs(found: object) -> None:
    import msgspec

    _print_json(msgspec.to_builtins(found, str_keys=True))


def _report_changed(asked: int, changed: int, done: str, needed: str, *, as_json: bool) -> None:
    if as_json:
        _print_json({"asked": asked, "changed": changed})
    else:
        click.echo(f"{changed} {done}")
    if changed < asked:
        raise DcniosError(f"{asked - changed} left alone: not {needed}")


@main.command()
@click.argument("direction", type=click.Choice(["in", "out"]))
@click.option("--plan", type=_FILE, required=True, help="The plan that the daemon made.")
@click.option("--work-dir", type=_FILE, required=True, help="The folder that holds input and output.")
@click.pass_context
def stage(ctx: click.Context, direction: str, plan: Path, work_dir: Path) -> None:
    """Fetch a run's input, or put its output away. Runs in pods: 75 means that it may work later."""
    from dcnios_daemon.staging.run import main_in, main_out

    ctx.exit((main_in if direction == "in" else main_out)(plan, work_dir))
