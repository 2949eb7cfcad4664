"""HTTP byte ranges and dates for the door."""

from __future__ import annotations

import re
from email.utils import formatdate

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class BadRangeError(Exception):
    """A range that the file does not have."""


def byte_range(header: str | None, size: int) -> tuple[int, int]:
    """Return first byte and end; several ranges, or none, mean the whole file (RFC 9110, 14.2)."""
    match = _RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return 0, size
    first, last = match[1], match[2]
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1, size) if first and last else size
    if start >= size or end <= start:
        raise BadRangeError
    return start, end


def http_date(milliseconds: int) -> str:
    """Return a date as HTTP headers have it."""
    return formatdate(milliseconds / 1000, usegmt=True)
