"""Connections to one receiver, kept for the next request, and how we log in there."""

import asyncio
import base64
import io
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import aiohttp
import msgspec
from yarl import URL

from dcnios_daemon import __version__
from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import SinkUnavailable
from dcnios_daemon.core.settings import Secret
from dcnios_daemon.sinks.http.answer import Answer

_REREAD = 30.0
"""Seconds after which files with secrets are read anew."""
_WORDS = 4096
_PIECE = 1 << 20
_CONNECT = 10.0
_IDLE = 15.0
"""Seconds that an unused connection is kept: less than most servers do."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How a receiver is reached, and who we say we are: by token, or by name and password, or not at all."""

    token: Secret | None = None
    username: str | None = None
    password: Secret | None = None
    ca_file: Path | None = None
    """Certificates (PEM) that vouch for it; None: the system's."""
    timeout: float
    """Seconds that an answer may take."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Sent with each request."""


class _Connector(aiohttp.TCPConnector):
    """Leaves a connection on which something came in unasked: a second answer to the last request would be
    taken for the answer to the next one."""

    async def _get(self, key, traces):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - the library's
        while (found := await super()._get(key, traces)) is not None:
            if found.protocol is not None and not found.protocol.should_close:
                return found
            found.close()
        return None


async def beginning(body: aiohttp.StreamReader) -> bytes:
    """Enough of an answer for a message; all of it is read if it ends there, which keeps the connection."""
    words = b""
    while len(words) < _WORDS and (piece := await body.read(_WORDS - len(words))):
        words += piece
    return words


Read = Callable[[aiohttp.StreamReader], Awaitable[bytes]]
"""What of a body becomes an answer's ``words``."""


class Client:
    """Sends requests to one receiver."""

    def __init__(self, url: str, access: Access, clock: Clock) -> None:
        self._access = access
        self._clock = clock
        self._url = URL(url)
        self.where = _named(self._url)
        """The receiver, for messages: without its query, which may hold a secret."""
        self._session: aiohttp.ClientSession | None = None
        self._login: Mapping[str, str] = {}
        self._read_at = -_REREAD
        self._lock = asyncio.Lock()

    async def ask(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        at: URL | None = None,
        read: Read = beginning,
    ) -> Answer:
        """One request; the answer, whatever it says.

        Args:
            method: ``POST`` and the like.
            headers: Beside those that all requests have.
            body: What is sent.
            at: Another place of the same receiver.
            read: Takes from the answer's body what is wanted of it.

        Raises:
            SinkUnavailable: There was none. The receiver may have got the request all the same.
        """
        where = self.where if at is None else _named(at)
        try:
            session, login = await self._ready()
            sent = {**self._access.headers, **headers, **login}
            async with session.request(
                method, at or self._url, headers=sent, data=_in_pieces(body), allow_redirects=False
            ) as reply:
                return Answer(
                    status=reply.status,
                    words=await read(reply.content),
                    retry_after=reply.headers.get("Retry-After"),
                    location=reply.headers.get("Location"),
                )
        except aiohttp.ClientConnectorCertificateError as error:
            await self.aclose()  # its successor reads ca_file anew
            raise SinkUnavailable(
                f"the certificate of {where} is not trusted: {error.certificate_error}"
            ) from error
        except TimeoutError as error:
            raise SinkUnavailable(f"{where}: no answer within {self._access.timeout:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise SinkUnavailable(f"{where}: {str(error) or type(error).__name__}") from error

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
                self._login = await asyncio.to_thread(_login, self._access)
                self._read_at = self._clock.monotonic()
            if self._session is None:
                trust = await asyncio.to_thread(ssl.create_default_context, cafile=self._access.ca_file)
                self._session = aiohttp.ClientSession(
                    connector=_Connector(limit=0, ssl=trust, keepalive_timeout=_IDLE),
                    timeout=aiohttp.ClientTimeout(
                        total=self._access.timeout, sock_connect=min(_CONNECT, self._access.timeout)
                    ),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"User-Agent": f"dcnios-daemon/{__version__}"},
                )
            return self._session, self._login


def _in_pieces(body: bytes | None) -> bytes | io.BytesIO | None:
    """A large body is sent in pieces, so that the loop has turns in between."""
    return io.BytesIO(body) if body and len(body) > _PIECE else body


def _named(url: URL) -> str:
    return str(url.origin()) + url.path


def _login(access: Access) -> Mapping[str, str]:
    if access.token is not None:
        return {"Authorization": f"Bearer {access.token.reveal()}"}
    if access.username is not None and access.password is not None:
        pair = f"{access.username}:{access.password.reveal()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}
