"""OSCAR's API beside ``/job``, which takes the system user's login and no service's token."""

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import TypeVar

import aiohttp
import msgspec
from yarl import URL

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import SinkError, SinkMisconfigured, SinkUnavailable
from dcnios_daemon.sinks.http.answer import Answer
from dcnios_daemon.sinks.http.client import Access, Client, Read, beginning
from dcnios_daemon.sinks.oscar.status import JobInfo, read_page

_T = TypeVar("_T")
_LARGEST = 32 * 1024 * 1024
_PIECE = 64 * 1024
_TAIL = 2048
_PAGES = 10_000


class _Service(msgspec.Struct, frozen=True):
    token: str = ""


class _Info(msgspec.Struct, frozen=True):
    version: str = ""


class System:
    """Asks about one service, as the system user."""

    def __init__(self, endpoint: str, service: str, access: Access, clock: Clock) -> None:
        self._url = URL(endpoint)
        self._service = service
        self._client = Client(endpoint, access, clock)

    async def jobs(self) -> AsyncIterator[Mapping[str, JobInfo]]:
        """All jobs of the service, page by page. The pages are of one moment: that of the first.

        Raises:
            SinkError: There is no telling.
        """
        url, seen = self._url / "system" / "logs" / self._service, set[str]()
        for _ in range(_PAGES):
            answer = await self._ask("GET", url, read=_whole)
            page = read_page(answer.words, where=self._client.where)
            yield page.jobs or {}
            if not page.next_page:
                return
            if page.next_page in seen:
                raise SinkUnavailable(f"{self._client.where} lists its jobs in a circle")
            seen.add(page.next_page)
            url = url.with_query(page=page.next_page)
        raise SinkUnavailable(f"{self._client.where} lists jobs without end")

    async def log_tail(self, job: str) -> str:
        """The last 2 KiB of what it wrote.

        Raises:
            SinkError: There is no telling.
        """
        answer = await self._ask("GET", self._url / "system" / "logs" / self._service / job, read=_end)
        return answer.words.decode(errors="replace")

    async def delete(self, job: str) -> None:
        """End it and forget it. One that is gone is fine.

        Raises:
            SinkError: It may still be there.
        """
        url = self._url / "system" / "logs" / self._service / job
        await self._ask("DELETE", url, fine=(HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND))

    async def token(self) -> str:
        """The service's own.

        Raises:
            SinkError: There is no telling.
        """
        answer = await self._ask("GET", self._url / "system" / "services" / self._service, read=_whole)
        found = _decoded(answer, _Service, self._client.where).token
        if not found:
            raise SinkMisconfigured(f"{self._client.where} does not show the token of {self._service}")
        return found

    async def version(self) -> str:
        """OSCAR's.

        Raises:
            SinkError: There is no telling.
        """
        answer = await self._ask("GET", self._url / "system" / "info", read=_whole)
        return _decoded(answer, _Info, self._client.where).version

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _ask(
        self, method: str, url: URL, *, read: Read = beginning, fine: tuple[int, ...] = (HTTPStatus.OK,)
    ) -> Answer:
        answer = await self._client.ask(method, {}, None, at=url, read=read)
        if answer.status in fine:
            return answer
        raise self._failure(answer, url)

    def _failure(self, answer: Answer, url: URL) -> SinkError:
        words = f"{url.origin()}{url.path} answers {answer.status}"
        if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            self._client.forget_login()
            return SinkMisconfigured(f"{words}: correct username and password")
        if answer.status == HTTPStatus.NOT_FOUND:
            return SinkMisconfigured(f"{words}: correct service or endpoint")
        return SinkUnavailable(words)


def _decoded(answer: Answer, kind: type[_T], where: str) -> _T:
    try:
        return msgspec.json.decode(answer.words, type=kind)
    except msgspec.DecodeError as error:
        raise SinkUnavailable(f"{where} answers what is not OSCAR's: {error}") from error


async def _whole(body: aiohttp.StreamReader) -> bytes:
    found = bytearray()
    while piece := await body.read(_PIECE):
        found += piece
        if len(found) > _LARGEST:
            raise SinkUnavailable(f"an answer has more than {_LARGEST:,} bytes")
    return bytes(found)


async def _end(body: aiohttp.StreamReader) -> bytes:
    kept = b""
    while piece := await body.read(_PIECE):
        kept = (kept + piece)[-_TAIL:]
    return kept
