"""What the API server's answers mean for the order that was sent. Pure."""

from http import HTTPStatus

import msgspec

from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkError, SinkUnavailable

_WORDS = 500
"""Characters of the server's words that are kept: it may repeat whole values."""
_QUOTA = ("exceeded quota", "status unknown for quota")
"""ResourceQuota admission answers 403 with these, and with nothing else to tell it by."""
_CONTESTED = "FieldManagerConflict"
"""https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts."""
_PASSING = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.UNAUTHORIZED, HTTPStatus.CONFLICT}
)


class Taken(OrderRefused):
    """The cluster has an object of that name already."""


class Contested(OrderRefused):
    """Somebody else set the same fields of the object to something else; the words say who and which."""


class Missing(OrderRefused):
    """The cluster has no such object, or no such namespace."""


class Unrecognised(SinkUnavailable):
    """The cluster does not know our credential (any more)."""


class Expired(SinkUnavailable):
    """The cluster has forgotten the changes since then: list again."""


class _Cause(msgspec.Struct):
    reason: str = ""


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: float = 0.0
    causes: tuple[_Cause, ...] = ()


class Status(msgspec.Struct):
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details = msgspec.field(default_factory=_Details)


def failure(status: int, body: bytes, *, retry_after: str | None = None) -> SinkError:
    """The error for an answer that is no success.

    Args:
        status: The HTTP status, or the code of an error in a watch.
        body: The answer; a Status object when it comes from the API server itself.
        retry_after: The header of that name.
    """
    try:
        said = msgspec.json.decode(body, type=Status)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        said = Status(message=" ".join(body[:_WORDS].decode(errors="replace").split()))
    words = f"the cluster answers {status} {said.reason}: {said.message}"[:_WORDS]
    out_of_quota = status == HTTPStatus.FORBIDDEN and any(word in said.message for word in _QUOTA)
    if status == HTTPStatus.TOO_MANY_REQUESTS or out_of_quota:
        return SinkBusy(words, retry_after=_seconds(retry_after, said))
    kind = _kind(status, said)
    if issubclass(kind, SinkUnavailable):
        return kind(words, retry_after=_seconds(retry_after, said))
    return kind(words, answered=True)


def _kind(status: int, said: Status) -> type[SinkUnavailable | OrderRefused]:
    known: dict[int, type[SinkUnavailable | OrderRefused]] = {
        HTTPStatus.NOT_FOUND: Missing,
        HTTPStatus.GONE: Expired,
        HTTPStatus.UNAUTHORIZED: Unrecognised,
    }
    if status == HTTPStatus.CONFLICT and said.reason == "AlreadyExists":
        return Taken
    if any(cause.reason == _CONTESTED for cause in said.details.causes):
        return Contested
    if status in known:
        return known[status]
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return OrderRefused if refused and status not in _PASSING else SinkUnavailable


def _seconds(header: str | None, said: Status) -> float | None:
    if header is not None and header.strip().isdecimal():
        return float(header)
    return said.details.retry_after_seconds or None
