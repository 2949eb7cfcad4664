"""What a receiver's answer means for the order. Pure.

What may be meant for this event alone is its end; what would be said to any other as well (a wrong address, a
login, a right, a service that is deployed anew) is waited for, so that one wrong line in the configuration
does not make a whole backlog dead. Senders of CloudEvents do likewise: the webhook specification
(https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md) has 410, 415 and 429, and
Knative tries again after 404, 408, 409, 429 and 5xx.
"""

import email.utils
from http import HTTPStatus

import msgspec

from dcnios_daemon.core.errors import (
    OrderRefused,
    SinkBusy,
    SinkError,
    SinkMisconfigured,
    SinkUnavailable,
)

_WORDS = 500
_DOUBTFUL = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
_TO_MEND = {
    HTTPStatus.UNAUTHORIZED: "correct token, or username and password",
    HTTPStatus.PAYMENT_REQUIRED: "ask its owner",
    HTTPStatus.FORBIDDEN: "grant the right, or correct token, or username and password",
    HTTPStatus.NOT_FOUND: "correct url, or start what is to be there",
    HTTPStatus.METHOD_NOT_ALLOWED: "correct url: there is something that takes no POST",
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: "a proxy is in the way",
    HTTPStatus.GONE: "it is retired: correct url, or take the route away",
    HTTPStatus.MISDIRECTED_REQUEST: "correct url",
    HTTPStatus.UPGRADE_REQUIRED: "correct url: it wants another protocol",
    HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS: "ask its owner",
}
"""What is not said of the event, and what would help."""


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
    if status == HTTPStatus.TOO_MANY_REQUESTS or (
        status == HTTPStatus.SERVICE_UNAVAILABLE and pause is not None
    ):
        return SinkBusy(words, retry_after=pause)
    if status in _TO_MEND:
        return SinkMisconfigured(f"{words}: {_TO_MEND[HTTPStatus(status)]}")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        to = f" with {answer.location[:_WORDS]!r}" if answer.location else ""
        return SinkMisconfigured(f"{where} answers {status}{to}: redirections are not followed, correct url")
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
