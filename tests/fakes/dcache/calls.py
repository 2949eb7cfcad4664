"""One HTTP request as all three interfaces see it, and the record of what was asked."""

from __future__ import annotations

import json
from collections import Counter, deque
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from .auth import Login
from .replies import ApiError
from .switches import Switches

LOG_LENGTH = 10_000
JSON_TYPES = {"application/json", "text/json"}


@dataclass(slots=True)
class Requests:
    """What clients asked: a bounded log and a counter per kind of call."""

    log: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=LOG_LENGTH))
    counts: Counter[str] = field(default_factory=Counter)
    listed: Counter[str] = field(default_factory=Counter)

    def add(self, method: str, path: str) -> None:
        """Note that a request arrived."""
        self.log.append((method, path))

    def count(self, kind: str) -> None:
        """Note what a request turned out to be, such as ``listing`` or ``PUT dav``."""
        self.counts[kind] += 1

    def clear(self) -> None:
        """Forget all."""
        self.log.clear()
        self.counts.clear()
        self.listed.clear()


@dataclass(slots=True)
class Call:
    """A request whose path is split before decoding, so that ``%2F`` stays inside its segment."""

    request: web.BaseRequest
    segments: list[str]
    query: dict[str, str]
    login: Login
    base: str

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.request.method

    async def json(self) -> object:
        """Return the JSON body; None if there is none, 415 or 400 if it is something else."""
        body = await self.request.read()
        declared = self.request.headers.get("Content-Type")
        if declared is not None and self.request.content_type not in JSON_TYPES:
            raise ApiError(415, "Unsupported Media Type")
        if not body:
            return None
        if declared is None:
            raise ApiError(415, "Unsupported Media Type")
        try:
            return json.loads(body)
        except ValueError as error:
            raise ApiError(400, f"Supplied JSON is invalid: {error}") from None


def split_target(request: web.BaseRequest) -> tuple[list[str], dict[str, str]]:
    """Return the decoded segments and the query of the raw request target."""
    path, _, query = request.raw_path.partition("?")
    if not path.startswith("/"):  # absolute form
        path = "/" + path.partition("://")[2].partition("/")[2]
    return [unquote(part) for part in path.split("/")[1:]], dict(parse_qsl(query, keep_blank_values=True))


def origin(request: web.BaseRequest, switches: Switches) -> str:
    """Return scheme and authority of the request, as Location headers use them (section 1)."""
    scheme = "http" if switches.http_locations else request.scheme
    return f"{scheme}://{request.host}"
