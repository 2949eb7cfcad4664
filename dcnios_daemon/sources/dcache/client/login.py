"""How a dCache source logs in, for the frontend and for the WebDAV door behind it.

dCache blocks an address, all of its users with it, for some seconds after three 401s
(``RateLimitedHandlerList``). So credentials that were refused are shown again only after minutes; but files
that hold others by then are noticed within seconds, and mostly a new token is used before the old one ends.
"""

import asyncio
import base64
import contextlib
import ssl

import msgspec

from dcnios_daemon.core.clock import Clock, SystemClock
from dcnios_daemon.core.errors import Rejected
from dcnios_daemon.sources.dcache.settings import DcacheSettings

FRESH_FOR = 10.0
"""Seconds for which files are not read again."""
LOOK_EVERY = 2.0
"""Seconds between looks at the files of a login that was refused."""
REFUSED_FOR = 120.0
LONGEST_REFUSED = 1800.0
"""Seconds until refused credentials are tried again; doubling from the first to the longest."""


def headers(settings: DcacheSettings) -> dict[str, str]:
    """The headers that log us in. Reads secret files: call it off the event loop, for each connection.

    Raises:
        OSError: A file cannot be read.
    """
    if settings.token is not None:
        return {"Authorization": f"Bearer {settings.token.reveal()}"}
    if settings.username is not None and settings.password is not None:
        pair = f"{settings.username}:{settings.password.reveal()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}


def tls(settings: DcacheSettings) -> ssl.SSLContext:
    """Whom we trust, and our certificate if we log in by one. Reads files.

    Raises:
        OSError: A file cannot be read, or holds no certificate or key (``ssl.SSLError``).
    """
    context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.client_cert is not None:
        context.load_cert_chain(settings.client_cert, settings.client_key)
    return context


class _Credentials(msgspec.Struct, frozen=True):
    headers: dict[str, str]
    certificate: bytes = b""
    key: bytes = b""


class Login:
    """The credentials of one connection, read anew while it lasts."""

    def __init__(self, settings: DcacheSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._used = _Credentials({})
        self._read_at = 0.0
        self._is_refused = False
        self._lock = asyncio.Lock()

    async def open(self) -> ssl.SSLContext:
        """Read everything; whom we trust, and our certificate.

        Raises:
            Rejected: A file cannot be used.
        """
        try:
            self._used = await asyncio.to_thread(_credentials, self._settings)
            context = await asyncio.to_thread(tls, self._settings)
        except (OSError, ValueError) as error:
            raise Rejected(f"credentials or certificates cannot be used: {error}") from error
        self._read_at = self._clock.monotonic()
        return context

    async def headers(self) -> dict[str, str]:
        """The headers that log us in now.

        Raises:
            Rejected: They were refused before.
        """
        async with self._lock:
            if self._clock.monotonic() - self._read_at >= FRESH_FOR:
                await self._read()
        if self._is_refused:
            raise self.refusal("not asked again")
        return self._used.headers

    async def renewed(self, refused: dict[str, str]) -> bool:
        """These headers were answered 401: whether there are others by now."""
        async with self._lock:
            if self._used.headers == refused:
                await self._read()
            self._is_refused = self._used.headers == refused
        return not self._is_refused

    def refusal(self, what: str) -> Rejected:
        """The error that makes everyone wait: until other credentials are there, or for long."""
        return Rejected(
            f"{what}: 401, the login is refused",
            wait=REFUSED_FOR,
            longest=LONGEST_REFUSED,
            sooner=self._changed if self._has_files else None,
        )

    @property
    def _has_files(self) -> bool:
        secrets = (self._settings.token, self._settings.password)
        return self._settings.client_cert is not None or any(each and each.path for each in secrets)

    async def _read(self) -> None:
        """Read headers anew. A file that is being replaced leaves them as they are, and a certificate counts
        from the next connection on."""
        self._read_at = self._clock.monotonic()
        with contextlib.suppress(OSError, ValueError):
            now = await asyncio.to_thread(_credentials, self._settings)
            if now.headers != self._used.headers:
                self._used = msgspec.structs.replace(self._used, headers=now.headers)
                self._is_refused = False

    async def _changed(self) -> None:
        """Return once the files hold something else than what was refused."""
        while True:
            with contextlib.suppress(OSError, ValueError):
                if await asyncio.to_thread(_credentials, self._settings) != self._used:
                    return
            await asyncio.sleep(LOOK_EVERY)


def _credentials(settings: DcacheSettings) -> _Credentials:
    given = headers(settings)
    if given.get("Authorization") == "Bearer ":
        raise ValueError("the token is empty")
    certificate, key = settings.client_cert, settings.client_key
    return _Credentials(
        given,
        certificate.read_bytes() if certificate is not None else b"",
        key.read_bytes() if key is not None else b"",
    )
