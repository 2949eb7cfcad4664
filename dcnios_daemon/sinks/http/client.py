"""Connections to one receiver, kept for the next request, and how we log in there."""

import asyncio
import base64
import io
import ssl
from collections.abc import Mapping

import aiohttp
from yarl import URL

from dcnios_daemon import __version__
from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import SinkUnavailable
from dcnios_daemon.sinks.http.answer import Answer
from dcnios_daemon.sinks.http.settings import HttpRun

_REREAD = 30.0
"""Seconds after which files with secrets are read anew."""
_WORDS = 4096
_PIECE = 1 << 20
_CONNECT = 10.0
_IDLE = 15.0
"""Seconds that an unused connection is kept: less than most servers do."""


class _Connector(aiohttp.TCPConnector):
    """Leaves a connection on which something came in unasked: a second answer to the last request would be
    taken for the answer to the next one."""

    async def _get(self, key, traces):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - the library's
        while (found := await super()._get(key, traces)) is not None:
            if found.protocol is not None and not found.protocol.should_close:
                return found
            found.close()
        return None


class Client:
    """Sends requests to the receiver of a ``run`` block."""

    def __init__(self, run: HttpRun, clock: Clock) -> None:
        self._run = run
        self._clock = clock
        self._url = URL(run.url)
        self.where = str(self._url.origin()) + self._url.path
        """The receiver, for messages: without its query, which may hold a secret."""
        self._session: aiohttp.ClientSession | None = None
        self._login: Mapping[str, str] = {}
        self._read_at = -_REREAD
        self._lock = asyncio.Lock()

    async def ask(self, method: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """One request; the answer, whatever it says.

        Raises:
            SinkUnavailable: There was none. The receiver may have got the request all the same.
        """
        try:
            session, login = await self._ready()
            sent = {**self._run.headers, **headers, **login}
            async with session.request(
                method, self._url, headers=sent, data=_in_pieces(body), allow_redirects=False
            ) as reply:
                return Answer(
                    status=reply.status,
                    words=await _beginning(reply.content),
                    retry_after=reply.headers.get("Retry-After"),
                    location=reply.headers.get("Location"),
                )
        except aiohttp.ClientConnectorCertificateError as error:
            await self.aclose()  # its successor reads ca_file anew
            raise SinkUnavailable(
                f"the certificate of {self.where} is not trusted: {error.certificate_error}"
            ) from error
        except TimeoutError as error:
            raise SinkUnavailable(f"{self.where}: no answer within {self._run.timeout:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise SinkUnavailable(f"{self.where}: {str(error) or type(error).__name__}") from error

    def forget_login(self) -> None:
        """It was not accepted: read it anew for the next request."""
        self._read_at = -_REREAD

    async def aclose(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ready(self) -> tuple[aiohttp.ClientSession, Mapping[str, str]]:
        async with self._lock:
            if self._clock.monotonic() - self._read_at >= _REREAD:
                self._login = await asyncio.to_thread(_login, self._run)
                self._read_at = self._clock.monotonic()
            if self._session is None:
                trust = await asyncio.to_thread(ssl.create_default_context, cafile=self._run.ca_file)
                self._session = aiohttp.ClientSession(
                    connector=_Connector(limit=0, ssl=trust, keepalive_timeout=_IDLE),
                    timeout=aiohttp.ClientTimeout(
                        total=self._run.timeout, sock_connect=min(_CONNECT, self._run.timeout)
                    ),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"User-Agent": f"dcnios-daemon/{__version__}"},
                )
            return self._session, self._login


def _in_pieces(body: bytes | None) -> bytes | io.BytesIO | None:
    """A large body is sent in pieces, so that the loop has turns in between."""
    return io.BytesIO(body) if body and len(body) > _PIECE else body


async def _beginning(body: aiohttp.StreamReader) -> bytes:
    """Enough of an answer for a message; all of it is read if it ends there, which keeps the connection."""
    words = b""
    while len(words) < _WORDS and (piece := await body.read(_WORDS - len(words))):
        words += piece
    return words


def _login(run: HttpRun) -> Mapping[str, str]:
    if run.token is not None:
        return {"Authorization": f"Bearer {run.token.reveal()}"}
    if run.username is not None and run.password is not None:
        pair = f"{run.username}:{run.password.reveal()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}
