"""What a receiver's answer means for the order. Pure."""

import email.utils
from http import HTTPStatus

import msgspec

from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkError, SinkUnavailable

_WORDS = 500
_DOUBTFUL = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.UNAUTHORIZED})
"""It was not taken, and not for what it is."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back."""

    status: int
    words: bytes = b""
    """The beginning of the body."""
    retry_after: str | None = None
    location: str | None = None


def failure(answer: Answer, *, where: str, now: float) -> SinkError | None:
    """The error for an answer; None when it is a yes.

    Args:
        answer: What came back.
        where: The receiver, for the message.
        now: Seconds since the epoch.
    """
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    said = " ".join(answer.words.decode(errors="replace").split())[:_WORDS]
    words = f"{where} answers {status}{': ' if said else ''}{said}"
    pause = _seconds(answer.retry_after, now)
    if status in _BUSY or (status == HTTPStatus.SERVICE_UNAVAILABLE and pause is not None):
        return SinkBusy(words, retry_after=pause)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        to = f" with {answer.location[:_WORDS]!r}" if answer.location else ""
        said = f"{where} answers {status}{to}: redirections are not followed, correct url"
        return OrderRefused(said, answered=True)
    if status in _DOUBTFUL or not HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return SinkUnavailable(words, retry_after=pause)
    return OrderRefused(words, answered=True)


def _seconds(header: str | None, now: float) -> float | None:
    """``Retry-After``: seconds or a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - now)
    except (ValueError, OverflowError):
        return None
