"""``dcnios queue``: what the journal holds, and mending it."""
# ruff: noqa: PLC0415 - what a command does not need, it does not pay for

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from dcnios_daemon.cli.common import config_option, json_option, load, print_json
from dcnios_daemon.core.errors import DcniosError

if TYPE_CHECKING:
    from dcnios_daemon.core.ports import Delivery, Journal

_Result = TypeVar("_Result")
_PAGE = 1000
_PATIENCE = 2.0
"""Seconds without a sign of life."""
_STATES = ("queued", "submitting", "running", "succeeded", "dead", "dropped", "unrouted")
_route = click.option("--route", help="Only those of this route.")
_limit = click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)


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
@_route
@_limit
@click.option("--after", type=int, default=0, help="Go on below this id.")
def list_deliveries(
    file: Path | None, state: str | None, route: str | None, *, limit: int, after: int, as_json: bool
) -> None:
    """Deliveries, newest first."""
    _print_deliveries(file, state=state, route=route, limit=limit, after=after, as_json=as_json)


@queue.command()
@config_option
@json_option
@_route
@_limit
def dead(file: Path | None, route: str | None, *, limit: int, as_json: bool) -> None:
    """What was given up and waits for replay or drop."""
    if _print_deliveries(file, state="dead", route=route, limit=limit, as_json=as_json) and not as_json:
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
@config_option
@json_option
@click.option("--reason", required=True, help="Kept with them.")
def drop(ids: tuple[int, ...], file: Path | None, reason: str, *, as_json: bool) -> None:
    """Settle queued or dead deliveries for good without running them, by their IDS."""

    async def work(journal: "Journal") -> tuple[int, int]:
        return len(ids), await journal.drop(ids, reason)

    _report_changed(*_with_journal(file, work), "dropped", "queued or dead", as_json=as_json)


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
