"""Replies of the REST interface: JSON and both error formats (section 1, "Errors")."""

from __future__ import annotations

import http
import json

from aiohttp import web

from .switches import Switches

REASON_ONLY = {401, 403, 429}


class ApiError(Exception):
    """An error that the frontend answers with a JSON body."""

    def __init__(self, status: int, detail: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def compact(value: object) -> str:
    """Return ``value`` as Jackson writes it: one line, no blanks, non-ASCII characters raw."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def json_reply(value: object, status: int = 200) -> web.Response:
    """Return a JSON reply."""
    return web.Response(status=status, body=compact(value).encode(), content_type="application/json")


def error_reply(error: ApiError, switches: Switches, content_type: str = "application/json") -> web.Response:
    """Return the error in the chosen format; the status inside is a string in both."""
    title = http.HTTPStatus(error.status).phrase
    detail = title if error.status in REASON_ONLY or not error.detail else error.detail
    status = str(error.status)
    body: object = {"status": status, "title": title, "detail": detail}
    if switches.legacy_errors:
        body = {"errors": [{"message": detail, "status": status}]}
    return web.Response(status=error.status, body=compact(body).encode(), content_type=content_type)
