"""Events by the number, and journals of both kinds, for tests of the journal."""

from collections.abc import Sequence
from pathlib import Path

from dcnios_daemon.buffer.journal import SqliteJournal
from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Admission, Claim, Failure, Outcome
from tests.fakes.memory_journal import MemoryJournal

KINDS = ("sqlite", "memory")
AnyJournal = SqliteJournal | MemoryJournal


def make_journal(  # noqa: PLR0913 - settings
    kind: str,
    path: Path,
    clock: Clock,
    *,
    max_events: int = 1000,
    max_bytes: int = 1 << 30,
    dedupe_for: float = 1000.0,
    history: int = 1000,
) -> AnyJournal:
    """A journal, not open."""
    if kind == "memory":
        return MemoryJournal(
            max_events=max_events,
            max_bytes=max_bytes,
            resume_at=0.5,
            dedupe_for=dedupe_for,
            clock=clock,
            history=history,
        )
    return SqliteJournal(
        path,
        max_events=max_events,
        max_bytes=max_bytes,
        resume_at=0.5,
        dedupe_for=dedupe_for,
        clock=clock,
        history=history,
    )


def make_event(number: int, *, data: bytes = b"{}", source: str = "uploads", subject: str = "") -> Event:
    """The event of that number: always the same one."""
    return Event(
        key=event_key(source, number),
        source=source,
        kind="minio",
        subject=subject or f"inbox/{number}",
        action=Action.CREATED,
        time=1000.0 + number,
        size=number,
        data=data,
        attributes={"etag": str(number)},
    )


def admit(*numbers: int, routes: Sequence[str] = ("train",), data: bytes = b"{}") -> list[Admission]:
    """Those events on their way to those routes."""
    return [Admission(make_event(number, data=data), tuple(routes)) for number in numbers]


def good(claim: Claim) -> Outcome:
    """It ran well."""
    return Outcome(order=claim.order, exit_code=0, reason="Completed", started=1.5, ended=2.5, pod="p")


def bad(claim: Claim) -> Outcome:
    """It did not."""
    return Outcome(
        order=claim.order, failure=Failure.SCRIPT, exit_code=3, reason="Error", message="no such file"
    )


def numbers(claims: Sequence[Claim]) -> list[int]:
    """Which events they are."""
    return [int(claim.event.attributes["etag"]) for claim in claims]
