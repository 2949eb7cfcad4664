"""Whether a sender may send: the abuse protection of "HTTP 1.1 Web Hooks for Event Delivery", section 4
(``cloudevents/http-webhook.md`` in github.com/cloudevents/spec).

A sender asks before it floods an address that somebody gave it. It asks without a token, and the permission
lies in the headers of the answer, never in its status.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from dcnios_daemon.core.ports import Reply
from dcnios_daemon.core.routing import glob

METHODS = "GET, HEAD, OPTIONS, POST"
"""For ``Allow``."""
_ORIGIN = "webhook-request-origin"
_EVERYBODY = "*"
_ANY_RATE = "*"
"""No rate is promised to be too much: what the journal cannot take now is answered 503 with Retry-After."""


def is_refused(headers: Mapping[str, str], allowed: Sequence[str]) -> bool:
    """Whether the sender gives a name, and it is not among those allowed.

    Args:
        headers: Names in lower case.
        allowed: Globs.
    """
    origin = headers.get(_ORIGIN)
    return origin is not None and not _is_allowed(origin, allowed)


def answer(headers: Mapping[str, str], allowed: Sequence[str]) -> Reply:
    """The answer to OPTIONS: permission if it is a handshake and its sender is welcome.

    ``WebHook-Request-Callback`` is not called: permission is given here and now or not at all, and a daemon
    that fetches any URL that it is told of would be an open door.
    """
    origin = headers.get(_ORIGIN)
    plain = {"allow": METHODS}
    if origin is None:
        return Reply(HTTPStatus.OK, "", plain)
    if not _is_allowed(origin, allowed):
        return Reply(HTTPStatus.FORBIDDEN, f"{origin!r} may not send events here\n", plain)
    named = _EVERYBODY if _EVERYBODY in allowed else origin
    permission = {"webhook-allowed-origin": named, "webhook-allowed-rate": _ANY_RATE}
    return Reply(HTTPStatus.OK, "", plain | permission)


def _is_allowed(origin: str, allowed: Sequence[str]) -> bool:
    name = origin.strip().lower()
    return bool(name) and any(glob(pattern.lower())(name) for pattern in allowed)
