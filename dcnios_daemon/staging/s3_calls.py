"""Signed HTTP calls to an S3 store: whoever asks, errors and rotated keys are dealt with here."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping

import aiohttp
import msgspec
import yarl

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.staging.s3_answers import Refused, refusal
from dcnios_daemon.staging.s3_identity import Keys, S3Settings, Signer, Unsigned

_NO_ANSWER = 300
_CONNECT = 10.0
_SILENCE = 60.0
STALE = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""The words of stores for keys that are no longer good: perhaps they were just replaced."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked."""

    method: str = "GET"
    url: str
    """Whole, percent-encoded."""
    where: str
    """The part of it that people are told."""
    body: bytes = b""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    silence: float | None = None
    """For an answer without end: seconds without a byte until it is broken off. Such an answer is not to be
    compressed, since that holds small pieces back."""


def _tls(settings: S3Settings) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else True


class SignedCalls:
    """Makes them.

    Args:
        settings: Whom to ask, and as whom.
        connections: How many at once, at most; 0: as many as are asked for.
    """

    def __init__(self, settings: S3Settings, *, connections: int) -> None:
        self._settings = settings
        self._connections = connections
        self._signer = Signer(settings)
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make the call; the body is the caller's to read, as slowly as it comes. Where the store does not
        know our keys (any more), newer ones are looked for, and the call is made once more with them.

        Raises:
            StoreUnavailable: The store does not answer, also while the body is read.
            StoreError: It refuses.
        """
        session = await self._open_session()
        try:
            for is_last in (False, True):
                keys = await self._signer.identity.keys()
                async with self._send(session, call, keys) as answer:
                    if answer.status < _NO_ANSWER:
                        yield answer
                        return
                    error = refusal(call.where, answer.status, await answer.read())
                if is_last or not await self._may_renew(error, keys):
                    raise error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise StoreUnavailable(f"{call.where}: {type(error).__name__}: {error}") from error

    async def _may_renew(self, error: StoreError, used: Keys) -> bool:
        is_stale = isinstance(error, Refused) and error.code in STALE
        return is_stale and await self._signer.identity.renew(used)

    @contextlib.asynccontextmanager
    async def _send(
        self, session: aiohttp.ClientSession, call: Call, keys: Keys
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        unsigned = Unsigned(method=call.method, url=call.url, body=call.body, headers=call.headers)
        headers = await self._signer.headers(unsigned, keys)
        if call.silence is not None:
            headers["Accept-Encoding"] = "identity"
        limits = aiohttp.ClientTimeout(
            total=None, connect=_CONNECT, sock_connect=_CONNECT, sock_read=call.silence or _SILENCE
        )
        async with session.request(
            call.method,
            yarl.URL(call.url, encoded=True),
            headers=headers,
            data=call.body or None,
            timeout=limits,
            allow_redirects=False,
        ) as answer:
            yield answer

    async def _open_session(self) -> aiohttp.ClientSession:
        if self._session is not None:
            return self._session
        try:
            tls = await asyncio.to_thread(_tls, self._settings)
        except (OSError, ssl.SSLError) as error:
            raise StoreError(f"ca_file {self._settings.ca_file}: {error}") from error
        if self._session is None:  # another call may have been quicker
            connector = aiohttp.TCPConnector(ssl=tls, limit=self._connections)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=True)
        return self._session

    async def aclose(self) -> None:
        """Release connections."""
        if self._session is not None:
            await self._session.close()
