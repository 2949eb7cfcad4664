"""Reads the statements out of ``queries.sql``, so that SQL stays where it can be read as SQL."""

import functools
import re
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)
_GROUP = re.compile(r"(?<=VALUES )\([?0-9, ]+\)")
_PLACES = re.compile(r"\(\?\)\Z")

STEPS = (256, 64, *range(16, 0, -1))
"""How many rows a repeated statement takes at once: few enough forms to stay prepared, and small groups,
which are the most common, in one go."""


def _file(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def schema() -> str:
    """The script that makes an empty journal."""
    return _file("schema.sql")


def migration(to: int) -> str:
    """The script that makes a journal of that version out of one of the version before."""
    return _file(f"migrations/{to}.sql")


@functools.cache
def _queries() -> dict[str, str]:
    parts = _NAME.split(_file("queries.sql"))
    return {
        name: _COMMENT.sub("", body).strip().removesuffix(";")
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


@functools.cache
def query(name: str) -> str:
    """The statement of that name.

    Raises:
        KeyError: There is none.
    """
    return _queries()[name]


@functools.cache
def repeated(name: str, times: int) -> str:
    """The statement with its group repeated: ``VALUES (?, ?), (?, ?)`` or ``IN (?, ?)``."""
    text = query(name)
    if "VALUES" in text:
        return _GROUP.sub(lambda group: ", ".join([group[0]] * times), text)
    return _PLACES.sub("(" + ", ".join("?" * times) + ")", text)
