"""The session with a Kubernetes cluster: requests as bytes.

Bodies are encoded beforehand and go over a session of our own: the calls of ``kubernetes_asyncio`` cost three
times the CPU.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus

import aiohttp

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import SinkUnavailable, SinkUnreachable
from dcnios_daemon.kubernetes.answers import Unrecognised, failure
from dcnios_daemon.kubernetes.calls import APPLY_PATCH, Call
from dcnios_daemon.kubernetes.login import Access, KubernetesSettings, Login

RENEW_SECONDS = 60.0
"""How often token files are read again and expiring tokens renewed: the library's own period."""
REQUEST_SECONDS, CONNECT_SECONDS = 30.0, 10.0
_UNANSWERED = (aiohttp.ClientError, TimeoutError, OSError)
LONGEST_LINE = 16 * 1024 * 1024
"""Bytes. etcd holds no object over 1.5 MiB; escaped as JSON one may be six times that."""


class ClusterSession:
    """Requests to one API server. Opens at the first; many may use it at the same time.

    For paths see :class:`~dcnios_daemon.kubernetes.calls.Call`. Any call raises the errors of
    :mod:`dcnios_daemon.kubernetes.answers`, or SinkUnavailable when there is no answer.
    """

    def __init__(self, settings: KubernetesSettings, clock: Clock) -> None:
        self._login = Login(settings)
        self._clock = clock
        self._access: Access | None = None
        self._renew_at = 0.0
        self._renewing = asyncio.Lock()
        self._http: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
        seconds: float = REQUEST_SECONDS,
    ) -> bytes:
        """The body of a successful answer; to a POST or PATCH (a JSON merge patch) the object's metadata."""
        return await self._read(Call(method, path, query, body, _limits(seconds)))

    async def apply(self, path: str, body: bytes, query: Mapping[str, str]) -> bytes:
        """Server-side apply of an object; the metadata of what it is now.

        Args:
            path: The object's.
            body: All that we want to be so, as JSON.
            query: ``fieldManager``, and perhaps ``force`` and ``dryRun``.

        Raises:
            Contested: Others want it otherwise, and ``force`` is not given.
        """
        return await self._read(Call("PATCH", path, query, body, _limits(REQUEST_SECONDS), APPLY_PATCH))

    async def _read(self, call: Call) -> bytes:
        try:
            async with await self._answer(call) as answer:
                return await answer.read()
        except _UNANSWERED as error:
            raise _unanswered(call.path, error) from error

    async def end_of(self, path: str, query: Mapping[str, str], *, most: int, seconds: float) -> bytes:
        """The last ``most`` bytes of a successful answer, however long it is."""
        try:
            async with await self._answer(Call("GET", path, query, None, _limits(seconds))) as answer:
                end = bytearray()
                async for chunk in answer.content.iter_any():
                    end += chunk
                    del end[:-most]
                return bytes(end)
        except _UNANSWERED as error:
            raise _unanswered(path, error) from error

    async def lines(self, path: str, query: Mapping[str, str], *, quiet: float) -> AsyncGenerator[bytes]:
        """The lines of an endless answer, until the server ends it or says nothing for ``quiet`` seconds."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=quiet)
        begun: list[bytes] = []
        try:
            async with await self._answer(Call("GET", path, query, None, limits)) as answer:
                try:
                    async for chunk in answer.content.iter_any():
                        *ended, rest = chunk.split(b"\n")
                        for line in ended:
                            yield b"".join((*begun, line))
                            begun.clear()
                        begun.append(rest)
                        if sum(map(len, begun)) > LONGEST_LINE:
                            raise SinkUnavailable(f"{path}: a line of over {LONGEST_LINE} bytes")
                except aiohttp.ServerTimeoutError:
                    return
        except _UNANSWERED as error:
            raise _unanswered(path, error) from error

    async def namespace(self) -> str:
        """Where Jobs are made."""
        return (await self._current()).namespace

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def _answer(self, call: Call) -> aiohttp.ClientResponse:
        """A successful answer, its body not read. A credential that is refused is renewed, once."""
        access = await self._current()
        try:
            return await self._send(access, call)
        except Unrecognised:
            return await self._send(await self._renew(access, afresh=True), call)

    async def _send(self, access: Access, call: Call) -> aiohttp.ClientResponse:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        answer = await self._http.request(
            call.method,
            access.url + call.address(access.namespace),
            params=call.query,
            data=call.stream(),
            headers=call.headers(access.authorization),
            timeout=call.limits,
            ssl=access.tls or True,
            server_hostname=access.server_name,
            proxy=access.proxy,
            allow_redirects=False,
        )
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer
        async with answer:
            raise failure(answer.status, await answer.read(), retry_after=answer.headers.get("Retry-After"))

    async def _current(self) -> Access:
        access = self._access
        if access is None:
            return await self._renew(None, afresh=True)
        if self._clock.monotonic() >= self._renew_at and not self._renewing.locked():
            return await self._renew(access, afresh=False)
        return access

    async def _renew(self, old: Access | None, *, afresh: bool) -> Access:
        """A newer way in than ``old``. Many may ask at once: one finds out, the others take what it found."""
        async with self._renewing:
            if self._access is not None and self._access is not old:
                return self._access
            self._renew_at = self._clock.monotonic() + RENEW_SECONDS
            try:
                self._access = await self._login.access(afresh=afresh)
            except SinkUnavailable:
                if afresh or old is None:
                    raise
                return old  # it may still be good: the cluster will say when it is not
            return self._access


@functools.lru_cache(maxsize=8)
def _limits(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)


def _unanswered(path: str, error: BaseException) -> SinkUnavailable:
    """The library's error as ours."""
    said = str(error) or type(error).__name__
    never_sent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    kind = SinkUnreachable if never_sent else SinkUnavailable
    return kind(f"the cluster does not answer for {path.partition('/')[0]}: {said}")
