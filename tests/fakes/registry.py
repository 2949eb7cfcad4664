"""A schema registry as Confluent's answers, and as proxies, overload and bad days make it answer.

Paths, fields and error codes are from docs.confluent.io, "Schema Registry API Reference"; that Avro's type is
left out, that numbers beyond an int are a 404 of the web framework's own, and that a follower may not know
yet what its leader registered, is how the original behaves.
"""

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

from aiohttp import web

_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"


class FakeRegistry:
    """Use as an async context manager; ``url`` is where it is."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: Counter[str] = Counter()
        """Requests by path."""
        self.login: str | None = None
        """``user:password`` to insist on."""
        self.token: str | None = None
        """A bearer token to insist on."""
        self.answers: list[tuple[int, str]] = []
        """Status and body of the next answers, in turn, whatever is asked."""
        self.lags = 0
        """So many questions for a schema find that this follower does not know it yet."""
        self._by_number: dict[int, dict[str, Any]] = {}
        self._subjects: dict[tuple[str, int], int] = {}
        self._runner: web.AppRunner | None = None

    def register(
        self,
        schema: object,
        *,
        kind: str = "AVRO",
        subject: str = "frames-value",
        references: Sequence[Mapping[str, object]] = (),
    ) -> int:
        """Keep a schema (JSON-ready, or a text) and return its number."""
        number = 100_001 + len(self._by_number)
        text = schema if isinstance(schema, str) else json.dumps(schema)
        entry: dict[str, Any] = {"schema": text}
        if kind != "AVRO":
            entry["schemaType"] = kind
        if references:
            entry["references"] = list(references)
        self._by_number[number] = entry
        version = 1 + sum(name == subject for name, _ in self._subjects)
        self._subjects[subject, version] = number
        return number

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/schemas/types", self._types)
        app.router.add_get("/schemas/ids/{number}", self._schema)
        app.router.add_get("/subjects/{subject}/versions/{version}", self._version)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await self.rise()
        return self

    async def rise(self) -> None:
        """Listen (again, at the same address)."""
        assert self._runner is not None
        port = int(self.url.rpartition(":")[2]) if self.url else 0
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def fall(self) -> None:
        """Refuse connections."""
        assert self._runner is not None
        for site in list(self._runner.sites):
            await site.stop()

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked[request.path] += 1
        if self.answers:
            status, text = self.answers.pop(0)
            return web.Response(status=status, text=text, headers={"Location": "http://127.0.0.1:9/"})
        given = request.headers.get("Authorization", "")
        basic = "Basic " + base64.b64encode((self.login or "").encode()).decode()
        if (self.login and given != basic) or (self.token and given != f"Bearer {self.token}"):
            return _error(401, 401, "Unauthorized")
        response: web.StreamResponse = await handler(request)
        return response

    async def _types(self, _request: web.Request) -> web.Response:
        return _json(["JSON", "PROTOBUF", "AVRO"])

    async def _schema(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        if number >= 2**31:
            return _error(404, 404, "HTTP 404 Not Found")
        self.lags, lags = max(0, self.lags - 1), self.lags
        if number not in self._by_number or lags:
            return _error(404, 40403, f"Schema {number} not found")
        return _json(self._by_number[number])

    async def _version(self, request: web.Request) -> web.Response:
        subject, version = request.match_info["subject"], int(request.match_info["version"])
        number = self._subjects.get((subject, version))
        if number is None:
            return _error(404, 40401, f"Subject '{subject}' not found.")
        named = {"subject": subject, "version": version, "id": number}
        return _json(named | self._by_number[number])


def _json(answer: object) -> web.Response:
    return web.Response(text=json.dumps(answer), content_type=_MEDIA_TYPE)


def _error(status: int, code: int, message: str) -> web.Response:
    text = json.dumps({"error_code": code, "message": message})
    return web.Response(status=status, text=text, content_type=_MEDIA_TYPE)
