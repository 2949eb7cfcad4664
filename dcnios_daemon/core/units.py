"""Durations, sizes and rates as people write them: ``5m``, ``2GiB``, ``20/s``.

The annotated types at the end are what settings use; a bare number is seconds, bytes, events per second.
"""

import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"": 1, "b": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, base in (("", 1000), ("b", 1000), ("i", 1024), ("ib", 1024))
}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(s|m|h|d)")


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def duration(value: object) -> float:
    """Seconds.

    >>> duration("1h30m"), duration("250ms"), duration(5)
    (5400.0, 0.25, 5.0)

    Raises:
        ValueError: It is no duration.
    """
    seconds = _number(value)
    if seconds is None and isinstance(value, str) and _DURATION.fullmatch(value.strip().lower()):
        parts = _DURATION_PART.findall(value.strip().lower())
        seconds = sum(float(amount) * _SECONDS[unit] for amount, unit in parts)
    if seconds is None or not 0 <= seconds < float("inf"):
        raise ValueError(f"{value!r} is no duration: write 30s, 5m, 1h30m or 2d")
    return seconds


def size(value: object) -> int:
    """Bytes.

    >>> size("2GiB"), size("10k"), size(7)
    (2147483648, 10000, 7)

    Raises:
        ValueError: It is no size.
    """
    match = _SIZE.fullmatch(str(value).strip().lower()) if not isinstance(value, bool) else None
    if match is None or match[2] not in _BYTES:
        raise ValueError(f"{value!r} is no size: write 512MiB, 2GiB or a number of bytes")
    return int(Fraction(match[1]) * _BYTES[match[2]])


def rate(value: object) -> float:
    """Events per second.

    >>> rate("20/s"), rate("30/m"), rate(2)
    (20.0, 0.5, 2.0)

    Raises:
        ValueError: It is no rate, or not above zero.
    """
    per_second = _number(value)
    match = _RATE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is not None:
        per_second = float(match[1]) / _SECONDS[match[2]]
    if per_second is None or not 0 < per_second < float("inf"):
        raise ValueError(f"{value!r} is no rate above zero: write 20/s, 90/m or 1000/h")
    return per_second


def duration_text(seconds: float) -> str:
    """The shortest exact way to write a duration; :func:`duration` reads it back.

    >>> duration_text(5400), duration_text(0.25), duration_text(2592000)
    ('90m', '250ms', '30d')
    """
    for unit in ("d", "h", "m", "s", "ms"):
        amount = round(seconds / _SECONDS[unit])
        if amount and amount * _SECONDS[unit] == seconds:
            return f"{amount}{unit}"
    return repr(seconds) if seconds else "0s"


def size_text(amount: int) -> str:
    """The shortest exact way to write a size; :func:`size` reads it back.

    >>> size_text(2147483648), size_text(1000)
    ('2GiB', '1000')
    """
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        count, rest = divmod(amount, _BYTES[unit.lower()])
        if count and not rest:
            return f"{count}{unit}"
    return str(amount)


def rate_text(per_second: float) -> str:
    """The shortest exact way to write a rate; :func:`rate` reads it back.

    >>> rate_text(20.0), rate_text(0.5)
    ('20/s', '30/m')
    """
    for unit in ("s", "m", "h", "d"):
        amount = round(per_second * _SECONDS[unit])
        if amount and amount / _SECONDS[unit] == per_second:
            return f"{amount}/{unit}"
    return repr(per_second)


def _schema(kind: str, *examples: str) -> Any:  # noqa: ANN401 - pydantic's own metadata type is private
    return WithJsonSchema({"type": ["string", "number"], "description": kind, "examples": list(examples)})


def _text(write: Any) -> PlainSerializer:  # noqa: ANN401 - one of the three above
    """Only in JSON form, for people; in Python form it stays a number."""
    return PlainSerializer(write, return_type=str, when_used="json-unless-none")


Duration = Annotated[
    float, BeforeValidator(duration), _text(duration_text), _schema("duration", "30s", "5m", "1h30m")
]
"""Seconds, written as ``5m``."""
Size = Annotated[int, BeforeValidator(size), _text(size_text), _schema("size in bytes", "512MiB", "2GiB")]
"""Bytes, written as ``2GiB``."""
Rate = Annotated[float, BeforeValidator(rate), _text(rate_text), _schema("rate", "20/s", "90/m")]
"""Events per second, written as ``20/s``."""
