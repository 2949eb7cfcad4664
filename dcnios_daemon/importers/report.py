"""What became of everything that was given. Never holds a credential."""

import enum
from collections.abc import Iterator, Sequence

import msgspec


class Verdict(enum.StrEnum):
    """What became of a field."""

    CARRIED = "carried over"
    DIFFERENTLY = "carried over differently"
    CANNOT = "cannot be"
    TO_DO = "to do"
    """What only people can do, before it runs."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report."""

    about: str
    """The service or element: ``service grayify``."""
    field: str
    """Where it stands in the file: ``input[0].path``. Empty: all of it."""
    verdict: Verdict
    what: str = ""

    def line(self) -> str:
        """Field and words, on one line whatever they quote."""
        return " ".join(": ".join(part for part in (self.field, self.what) if part).split())


class Notes:
    """Writes the findings about one thing."""

    def __init__(self, about: str) -> None:
        self.about = about
        self.findings: list[Finding] = []

    def carried(self, field: str, what: str = "") -> None:
        """It means the same as before."""
        self._add(field, Verdict.CARRIED, what)

    def differently(self, field: str, what: str) -> None:
        """It is there, but not as before: why, and what that means."""
        self._add(field, Verdict.DIFFERENTLY, what)

    def cannot(self, field: str, what: str) -> None:
        """It is left out: why, and what to do instead."""
        self._add(field, Verdict.CANNOT, what)

    def to_do(self, field: str, what: str) -> None:
        """Somebody must do this before it runs."""
        self._add(field, Verdict.TO_DO, what)

    def apart(self) -> "Notes":
        """Others about the same, for a look that is to leave no trace."""
        return Notes(self.about)

    def tells_of(self, field: str) -> bool:
        """Whether something was said of it, of what is in it, or of what it is in."""
        return any(
            _is_in(field, found.field) or _is_in(found.field, field)
            for found in self.findings
            if found.field and found.verdict is not Verdict.TO_DO
        )

    def of(self, *verdicts: Verdict) -> Iterator[Finding]:
        """Those findings."""
        return (found for found in self.findings if found.verdict in verdicts)

    def _add(self, field: str, verdict: Verdict, what: str) -> None:
        found = Finding(about=self.about, field=field, verdict=verdict, what=what)
        if found not in self.findings:
            self.findings.append(found)


def _is_in(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith((f"{outer}.", f"{outer}["))


def as_text(report: Sequence[Finding]) -> str:
    """The report for people: by what it is about. What was just carried over is one line."""
    lines = []
    for about in dict.fromkeys(found.about for found in report):
        lines.append(about)
        for verdict in Verdict:
            found = [one for one in report if one.about == about and one.verdict is verdict]
            plain = [one.field for one in found if not one.what]
            told = [", ".join(plain)] * bool(plain) + [one.line() for one in found if one.what]
            lines += [f"  {verdict:<25} {line}" for line in told]
    return "\n".join(lines)
