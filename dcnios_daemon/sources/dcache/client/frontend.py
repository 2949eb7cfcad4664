"""Calls to the dCache frontend, and what its refusals mean.

Nothing is redirected, since a client library turns a 303 into a GET and its answer into a 200. URLs that the
server hands out are used to the letter, but on the origin that the configuration names: behind a proxy that
ends TLS the server believes to be spoken to by http, and credentials go nowhere that we were not told of.
Errors have two forms: ``{"detail"}`` since 8.2, ``{"errors":[{"message"}]}`` before.
"""

import contextlib
import re
import ssl
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import aiohttp
import msgspec
import yarl

from dcnios_daemon.core.errors import Disconnected, Rejected, SourceError
from dcnios_daemon.sources.dcache.client.login import Login
from dcnios_daemon.sources.dcache.client.pace import Caller, Pace
from dcnios_daemon.sources.dcache.settings import DcacheSettings

OK, CREATED, NO_CONTENT, SEE_OTHER = 200, 201, 204, 303
BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_MANY = 400, 401, 403, 404, 429

_CONNECT_WITHIN = 10.0
_ANSWER_WITHIN = 60.0
_LONG_ANSWER_WITHIN = 900.0
"""Seconds for an answer that may be large; within them it must not fall silent either."""
_CONNECTIONS = 16
_STREAM_BUFFER = 1 << 20
_GONE = ("Not found: ", "Failed condition: ")
"""How a 400 begins that means the path of a selector: not there, or (since we ask for it) no directory."""
_WAITS = 5
_LONGEST_WAIT = 10.0
_QUOTED = 300
_REDIRECTS = range(301, 309)
_SHORT = aiohttp.ClientTimeout(total=_ANSWER_WITHIN, connect=_CONNECT_WITHIN)
_LONG = aiohttp.ClientTimeout(total=_LONG_ANSWER_WITHIN, connect=_CONNECT_WITHIN, sock_read=_ANSWER_WITHIN)
RATE = 100.0
"""Calls a second: dCache shuts the door above 250, and others may share our address."""


class Missing(SourceError):
    """What was asked for is not there (404, or 400 with *Not found*)."""


class Forbidden(SourceError):
    """We may not see what was asked for."""


class Answer(msgspec.Struct, frozen=True):
    """A reply, its body whole."""

    status: int
    body: bytes
    location: str = ""
    retry_after: float = 0.0

    @property
    def is_too_many(self) -> bool:
        """Whether the rate limiter kept us out; a quota answers 429 too, but in JSON."""
        return self.status == TOO_MANY and not self.is_json

    @property
    def is_json(self) -> bool:
        """Whether it was the frontend itself that spoke, not the rate limiter before it."""
        return self.body.lstrip().startswith(b"{")

    @property
    def said(self) -> str:
        """Status and message, for people."""
        leads = f"leads to {self.location}" if self.status in _REDIRECTS and self.location else ""
        return " ".join(part for part in (str(self.status), leads or _detail(self.body)) if part)


class Frontend:
    """One connection's worth of calls; :meth:`open` logs in."""

    def __init__(self, settings: DcacheSettings, *, silence: float, rate: float = RATE) -> None:
        """Seconds of ``silence`` after which a stream is dead; calls a second: ``rate``."""
        self._settings = settings
        self._login = Login(settings)
        self._silence = silence
        self._session: aiohttp.ClientSession | None = None
        self._origin = yarl.URL(settings.api).origin()
        self._rate = rate
        self._pace = Pace(rate)

    async def open(self) -> None:
        """Read credentials and certificates.

        Raises:
            Rejected: They cannot be read.
        """
        context = await self._login.open()
        self._pace = Pace.of(str(self._origin), self._rate)
        self._session = aiohttp.ClientSession(
            headers={"Suppress-WWW-Authenticate": "Suppress"},
            connector=aiohttp.TCPConnector(ssl=context, limit=_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def url(self, path: str) -> str:
        """A URL of the interface: ``path`` begins after ``/api/v1`` and is percent-encoded."""
        return self._settings.api + path

    async def call(
        self,
        method: str,
        url: str,
        *,
        expect: Collection[int] = (OK,),
        body: Mapping[str, Any] | None = None,
        caller: Caller = "walk",
        is_long: bool = False,
    ) -> Answer:
        """Ask in turn, waiting as long as the rate limiter of 11.2 and later says. A long answer may take
        its time as long as something comes.

        Raises:
            Missing, Forbidden: 404, 403.
            Rejected: 401, 400 and what else is our fault.
            Disconnected: 429, 5xx, no connection.
        """
        answer = await self._ask(method, url, body=body, caller=caller, is_long=is_long)
        for tried in range(_WAITS):
            if not answer.is_too_many:
                break
            self._pace.refused(min(answer.retry_after or 2.0**tried / 2, _LONGEST_WAIT))
            answer = await self._ask(method, url, body=body, caller=caller, is_long=is_long)
        if answer.status not in expect:
            raise _refusal(f"{method} {url}", answer)
        return answer

    async def open_stream(self, url: str, *, last_id: int | None) -> aiohttp.ClientResponse:
        """The event stream of a channel; likewise, and Disconnected when it stays silent later."""
        headers = await self._login.headers()
        headers = {**headers, "Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if last_id is not None:
            headers["Last-Event-ID"] = str(last_id)
        timeout = aiohttp.ClientTimeout(
            total=None, connect=_CONNECT_WITHIN, sock_connect=_CONNECT_WITHIN, sock_read=self._silence
        )
        await self._pace.turn("walk")
        with self.failures_as_ours():
            response = await self._client.get(
                self._here(url),
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                read_bufsize=_STREAM_BUFFER,
            )
            if response.status == UNAUTHORIZED:
                raise self._login.refusal(f"GET {url}")
            if response.status != OK:
                raise _refusal(f"GET {url}", await _whole(response))
        return response

    async def _ask(
        self, method: str, url: str, *, body: Mapping[str, Any] | None, caller: Caller, is_long: bool
    ) -> Answer:
        """Ask once; and once more if other credentials have come since those that are refused."""
        content = None if body is None else msgspec.json.encode(body)
        for _ in range(2):
            await self._pace.turn(caller)
            login = await self._login.headers()
            answer = await self._send(method, url, content=content, login=login, is_long=is_long)
            if not answer.is_too_many:
                self._pace.let_in()
            if answer.status != UNAUTHORIZED:
                return answer
            if not await self._login.renewed(login):
                break
        raise self._login.refusal(f"{method} {url}")

    async def _send(
        self, method: str, url: str, *, content: bytes | None, login: Mapping[str, str], is_long: bool
    ) -> Answer:
        headers = {**login, "Accept": "application/json"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        with self.failures_as_ours():
            async with self._client.request(
                method,
                self._here(url),
                data=content,
                headers=headers,
                timeout=_LONG if is_long else _SHORT,
                allow_redirects=False,
            ) as response:
                return await _whole(response)

    @contextlib.contextmanager
    def failures_as_ours(self) -> Iterator[None]:
        """Turn what the client library raises into our errors."""
        where = self._origin
        try:
            yield
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError) as error:
            raise Rejected(f"the certificate of {where} is not trusted: {error}") from error
        except aiohttp.ClientSSLError as error:
            raise Rejected(f"no TLS with {where}: {error}") from error
        except aiohttp.ClientResponseError as error:
            raise Disconnected(f"{where} does not speak HTTP: {' '.join(error.message.split())}") from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError included
            raise Disconnected(f"{where}: {type(error).__name__}: {error}".rstrip(": ")) from error

    @property
    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise Disconnected("not connected")
        return self._session

    def _here(self, url: str) -> yarl.URL:
        path = url.partition("://")[2].partition("/")[2]
        return yarl.URL(f"{self._origin}/{path}", encoded=True)


async def _whole(response: aiohttp.ClientResponse) -> Answer:
    return Answer(
        status=response.status,
        body=await response.read(),
        location=response.headers.get("Location", ""),
        retry_after=_seconds(response.headers.get("Retry-After")),
    )


def _refusal(what: str, answer: Answer) -> SourceError:
    detail = _detail(answer.body)
    said = f"{what}: {answer.said}"
    if answer.status == NOT_FOUND or (answer.status == BAD_REQUEST and detail.startswith(_GONE)):
        return Missing(said)
    if answer.status == FORBIDDEN or detail.startswith("Permission denied: "):
        return Forbidden(said)
    if answer.status == TOO_MANY and answer.is_json:
        return Rejected(f"{said}: the user has as many channels as dCache allows")
    if answer.status == TOO_MANY or answer.status >= 500:  # noqa: PLR2004 - server errors
        return Disconnected(said)
    return Rejected(said)


class _Error(msgspec.Struct):
    message: str = ""


class _Errors(msgspec.Struct):
    detail: str = ""
    errors: tuple[_Error, ...] = ()


def _detail(body: bytes) -> str:
    try:
        said = msgspec.json.decode(body, type=_Errors)
    except msgspec.DecodeError:
        text = body[:_QUOTED].decode("utf-8", "replace").strip()
        return _web_page(text) if text.startswith("<") else text
    return said.detail or "; ".join(error.message for error in said.errors)


def _web_page(text: str) -> str:
    """A page's title is all that is worth telling of it."""
    title = re.search(r"<title>(.*?)</title>", text, re.DOTALL | re.IGNORECASE)
    return f"a web page, {' '.join(title[1].split())!r}" if title else "a web page"


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdecimal() else 0.0
