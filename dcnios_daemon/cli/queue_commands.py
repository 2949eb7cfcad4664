"""``dcnios queue``: what the journal holds, and mending it."""
# ruff: noqa: PLC0415 - what a command does not need, it does not pay for

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from dcnios_daemon.cli.common import config_option, json_option, load, print_json
from dcnios_daemon.cli.selection import Selection, selection_options
from dcnios_daemon.core.errors import DcniosError

if TYPE_CHECKING:
    from dcnios_daemon.core.ports import Delivery, Journal

_Result = TypeVar("_Result")
_PATIENCE = 2.0
"""Seconds without a sign of life."""
_STATES = ("queued", "submitting", "running", "succeeded", "dead", "dropped", "unrouted")
_limit = click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
_after = click.option("--after", type=int, default=0, help="Go on below this id.")


@click.group()
def queue() -> None:
    """See and mend what the journal holds. Works beside a running daemon."""


def _with_journal(file: Path | None, work: Callable[["Journal"], Awaitable[_Result]]) -> _Result:
    settings = load(file, files=False)
    from dcnios_daemon import app

    async def inside() -> _Result:
        async with app.journal(settings, shared=True) as journal:
            return await work(journal)

    return asyncio.run(inside())


@queue.command()
@config_option
@json_option
def stats(file: Path | None, *, as_json: bool) -> None:
    """Counts by route and state."""
    found = _with_journal(file, lambda journal: journal.stats())
    if as_json:
        _print_structs(found)
    else:
        from dcnios_daemon.config import tables

        click.echo(tables.stats_text(found, time.time()))


@queue.command(name="list")
@config_option
@json_option
@click.option("--state", type=click.Choice(_STATES), help="Only those.")
@selection_options
@_limit
@_after
def list_deliveries(
    file: Path | None, state: str | None, wanted: Selection, *, limit: int, after: int, as_json: bool
) -> None:
    """Deliveries, newest first."""
    _print_deliveries(file, wanted, state=state, limit=limit, after=after, as_json=as_json)


@queue.command()
@config_option
@json_option
@selection_options
@_limit
@_after
def dead(file: Path | None, wanted: Selection, *, limit: int, after: int, as_json: bool) -> None:
    """What was given up and waits for replay or drop."""
    found = _print_deliveries(file, wanted, state="dead", limit=limit, after=after, as_json=as_json)
    if found and not as_json:
        click.echo("\ndcnios queue show KEY tells more; dcnios queue replay ID runs it again", err=True)


@queue.command()
@click.argument("key")
@config_option
@json_option
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
@config_option
@json_option
@click.option("--all", "every", is_flag=True, help="All dead ones.")
@selection_options
def replay(ids: tuple[int, ...], file: Path | None, wanted: Selection, *, every: bool, as_json: bool) -> None:
    """Queue dead deliveries again: by their IDS, all, or those that the options select.

    They go as the next attempt, within the limits of their routes.
    """
    _check_choice(ids, wanted, every=every)
    changed = _with_journal(file, lambda journal: _change(journal, ids, wanted, journal.replay))
    _report_changed(*changed, "queued again", "dead", as_json=as_json)


@queue.command()
@click.argument("ids", nargs=-1, type=int)
@config_option
@json_option
@click.option("--reason", required=True, help="Kept with them.")
@click.option("--all", "every", is_flag=True, help="All dead ones.")
@selection_options
def drop(
    ids: tuple[int, ...], file: Path | None, wanted: Selection, *, reason: str, every: bool, as_json: bool
) -> None:
    """Settle deliveries for good without running them: queued or dead ones by their IDS, all dead ones, or
    the dead ones that the options select.
    """
    _check_choice(ids, wanted, every=every)
    changed = _with_journal(
        file,
        lambda journal: _change(journal, ids, wanted, lambda chosen: journal.drop(chosen, reason)),
    )
    _report_changed(*changed, "dropped", "queued or dead", as_json=as_json)


@queue.command()
@click.argument("route")
@config_option
@json_option
def pause(route: str, file: Path | None, *, as_json: bool) -> None:
    """Let nothing more of ROUTE go until it is resumed, over restarts too. What is in flight ends as always,
    and its sources go on until the journal is full."""
    known = load(file, files=False).sendings
    if route not in known:
        raise DcniosError(f"no route is called {route!r}; there are: {', '.join(known)}")
    changed = _with_journal(file, lambda journal: journal.pause(route))
    _report_pause(route, "paused", "paused already", changed=changed, as_json=as_json)


@queue.command()
@click.argument("route")
@config_option
@json_option
def resume(route: str, file: Path | None, *, as_json: bool) -> None:
    """Let a paused ROUTE go on."""
    changed = _with_journal(file, lambda journal: journal.resume(route))
    if not changed and route not in load(file, files=False).sendings:
        raise DcniosError(f"no route is called {route!r}, and none that is gone was left paused by that name")
    _report_pause(route, "resumed", "not paused", changed=changed, as_json=as_json)


@queue.command()
@config_option
@json_option
@click.option("--repair", is_flag=True, help="Put a mended copy in its place; the file as it was is kept.")
@click.option(
    "--export",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write events that can be read, but not run from the mended journal.",
)
def fsck(file: Path | None, export: Path | None, *, repair: bool, as_json: bool) -> None:
    """Go through the whole journal. The daemon must not be running."""
    if export and not repair:
        raise click.UsageError("--export goes with --repair")
    path = load(file, files=False).buffer.path
    from dcnios_daemon.buffer.fsck import fsck as examine

    findings = examine(path, repair=repair, export=export)
    left = sum(not (finding.mended or finding.remark) for finding in findings)
    if as_json:
        _print_structs({"journal": str(path), "findings": findings})
    else:
        lines = [f"{finding.what}{': mended' if finding.mended else ''}" for finding in findings]
        click.echo("\n".join(lines or [f"{path}: fine"]))
    if left:
        raise DcniosError(f"{path}: {left} left to mend (--repair)")


@queue.command()
@click.argument("copy", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@config_option
@json_option
@click.option("--force", is_flag=True, help="Replace FILE.")
def backup(copy: Path, file: Path | None, *, force: bool, as_json: bool) -> None:
    """Copy the journal to FILE as it is now, also beside a running daemon."""
    path = load(file, files=False).buffer.path
    from dcnios_daemon.buffer.backup import backup as copy_to

    made = copy_to(path, copy, force=force, progress=_Progress("copied"))
    if as_json:
        _print_structs(made)
    else:
        click.echo(f"{made.path}: {made.bytes:,} bytes, {made.events:,} events")


class _Progress:
    """Says on standard error how far something is, once it has taken two seconds and then every two."""

    def __init__(self, done: str) -> None:
        self._done = done
        self._say_at = time.monotonic() + _PATIENCE

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._say_at:
            self._say_at = time.monotonic() + _PATIENCE
            click.echo(f"{done:,} of {total:,} pages {self._done}", err=True)


def _check_choice(ids: Sequence[int], wanted: Selection, *, every: bool) -> None:
    if bool(ids) + every + bool(wanted) != 1:
        raise click.UsageError("give ids, or --all, or what they have in common, such as --route")


async def _change(
    journal: "Journal",
    ids: Sequence[int],
    wanted: Selection,
    change: Callable[[Sequence[int]], Awaitable[int]],
) -> tuple[int, int]:
    """Change those with the ids, else the dead ones that are wanted. Returns how many were meant, and how
    many changed."""
    if ids:
        return len(ids), await change(ids)
    meant = changed = 0
    async for page in wanted.pages(journal, state="dead"):
        meant += len(page)
        changed += await change([item.id for item in page]) if page else 0
    return meant, changed


def _print_deliveries(
    file: Path | None, wanted: Selection, *, state: str | None, limit: int, after: int, as_json: bool
) -> int:
    """Print them, and say how many there were."""

    async def work(journal: "Journal") -> "Sequence[Delivery]":
        found: list[Delivery] = []
        async for page in wanted.pages(journal, state=state, after=after, least=limit):
            found += page
            if len(found) >= limit:
                break
        return found[:limit]

    found = _with_journal(file, work)
    if as_json:
        _print_structs(found)
    else:
        from dcnios_daemon.config import tables

        empty = f"nothing is {state}" if state else "the journal holds no deliveries"
        where = f" on route {wanted.route}" if wanted.route else ""
        where += " that is like that" if wanted != Selection(route=wanted.route) else ""
        click.echo(tables.deliveries_text(found, time.time()) if found else empty + where)
    return len(found)


def _print_structs(found: object) -> None:
    import msgspec

    print_json(msgspec.to_builtins(found, str_keys=True))


def _report_changed(asked: int, changed: int, done: str, needed: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"asked": asked, "changed": changed})
    else:
        click.echo(f"{changed} {done}")
    if changed < asked:
        raise DcniosError(f"{asked - changed} left alone: not {needed}")


def _report_pause(route: str, done: str, as_before: str, *, changed: bool, as_json: bool) -> None:
    if as_json:
        print_json({"route": route, "changed": changed})
    else:
        click.echo(f"{route}: {done if changed else as_before}")
