"""Which deliveries a ``queue`` command is about: options, and going through them page by page.

A page is read and handled before the next one is: a million dead ones take no memory, and a daemon beside us
has its turn at the journal between two pages.
"""
# ruff: noqa: PLC0415 - what a command does not need, it does not pay for

import datetime as dt
import functools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dcnios_daemon.core.ports import Delivery, Journal

PAGE = 1000
_FAILURES = ("infrastructure", "script", "deadline", "unknown", "suspicious", "refused")


def _moment(_ctx: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Seconds since the epoch; from a time, the machine's own without a zone, or from how long ago it was."""
    from dcnios_daemon.core.units import duration

    if value is None:
        return None
    try:
        return time.time() - duration(value)
    except ValueError:
        pass
    try:
        return dt.datetime.fromisoformat(value).timestamp()
    except ValueError:
        said = f"{value!r} is neither like 2h or 3d (so long ago) nor like 2026-11-24T08:00"
        raise click.BadParameter(said) from None


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What all of a selection's deliveries have in common. None: anything."""

    route: str | None = None
    source: str | None = None
    subject: str | None = None
    failure: str | None = None
    because: str | None = None
    since: float | None = None
    until: float | None = None

    def __bool__(self) -> bool:
        """Whether it leaves anything out."""
        return self != Selection()

    def matcher(self) -> "Callable[[Delivery], bool]":
        """Whether a delivery of the route is meant."""
        from dcnios_daemon.core.routing import glob

        subject = glob(self.subject) if self.subject else None
        because = glob(self.because) if self.because else None

        def meant(item: "Delivery") -> bool:
            why = item.outcome
            return (
                (self.source is None or item.source == self.source)
                and (subject is None or subject(item.subject))
                and (self.failure is None or (why is not None and why.failure == self.failure))
                and (because is None or (why is not None and because(why.reason)))
                and (self.since is None or item.accepted >= self.since)
                and (self.until is None or item.accepted < self.until)
            )

        return meant

    async def pages(
        self, journal: "Journal", *, state: str | None, after: int = 0, least: int = PAGE
    ) -> "AsyncIterator[Sequence[Delivery]]":
        """Its deliveries in that state, newest first, from below the id ``after``; pages may be empty.

        Args:
            journal: Where they are.
            state: None: any.
            after: An id; 0 is above all.
            least: How many are wanted: where nothing is left out, no more than that are read at once.
        """
        from dcnios_daemon.core.ports import State

        meant = self.matcher()
        size = min(PAGE, least) if self == Selection(route=self.route) else PAGE
        while True:
            page = await journal.deliveries(
                state=State(state) if state else None, route=self.route, after=after, limit=size
            )
            yield [item for item in page if meant(item)]
            if len(page) < size:
                return
            after = page[-1].id


_OPTIONS = (
    click.option("--route", help="Only those of this route."),
    click.option("--source", help="Only those of this source."),
    click.option("--subject", metavar="GLOB", help="Only those whose event's subject is like this."),
    click.option("--failure", type=click.Choice(_FAILURES), help="Only those whose last attempt failed so."),
    click.option("--because", metavar="GLOB", help="Only those whose last attempt ended for it: OOMKilled."),
    click.option(
        "--since",
        callback=_moment,
        metavar="TIME",
        help="Only events accepted since then: 2h (ago) or 2026-11-24T08:00.",
    ),
    click.option("--until", callback=_moment, metavar="TIME", help="Only events accepted before."),
)


def selection_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a selection; the command takes them as ``wanted``."""

    @functools.wraps(command)
    def taking(**given: object) -> None:
        chosen: dict[str, Any] = {field.name: given.pop(field.name) for field in fields(Selection)}
        command(wanted=Selection(**chosen), **given)

    for option in reversed(_OPTIONS):
        taking = option(taking)
    return taking
