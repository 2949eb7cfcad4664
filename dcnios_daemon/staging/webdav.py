"""WebDAV doors of dCache: leave by macaroons, narrowed to one path, to what is to be done, and in time.

What the door wants is in dCache's ``MacaroonRequestHandler``: a POST to the very path, the content type
exactly ``application/macaroon-request``, over TLS only, a validity below the door's longest (seven days
unless configured). ``READ_METADATA`` comes with any other activity (``MacaroonContext``). Uploads ask for
``DELETE`` because ``Transfer.createNameSpaceEntry`` overwrites by deleting: without it a second attempt could
not replace what the first one left; and for ``MANAGE`` because older doors want it for MKCOL.
"""

import asyncio
import json
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import aiohttp
import yarl

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.core.ports import Download, Upload
from dcnios_daemon.staging.transfer import read_authorities

LONGEST = 7 * 86400 - 60
"""Seconds; dCache's default longest is seven days, and a request must stay below it."""
_REQUEST = "application/macaroon-request"
_PLEASE_WAIT = frozenset({401, 408, 429, 500, 502, 503, 504})
_BEYOND = re.compile(r"beyond maximum allowed \(PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.\d+)?S)?\)")
_SESSION = "cannot extend session"
_MARGIN = 5
_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10)
_OK = 200
_BAD_REQUEST = 400


def _default_tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class DavStore:
    """Leave for the files behind one dCache door. Implements :class:`~dcnios_daemon.core.ports.Store`.

    Args:
        door: The URL of the WebDAV door; paths are appended to it.
        authorize: Gives the headers that log us in. May read secret files: it is called off the loop.
        tls: Gives the TLS set-up (authorities, our certificate); likewise.
        ca_file: The authorities among that, for those who get leave.
    """

    def __init__(
        self,
        door: str,
        *,
        authorize: Callable[[], Mapping[str, str]],
        tls: Callable[[], ssl.SSLContext] = _default_tls,
        ca_file: Path | None = None,
    ) -> None:
        self._door = door.rstrip("/")
        self._authorize = authorize
        self._tls = tls
        self._ca_file = ca_file
        self._session: aiohttp.ClientSession | None = None

    async def download(self, subject: str, *, valid_for: float) -> Download:
        """A GET of the one file. See :class:`~dcnios_daemon.core.ports.Store`."""
        url = self._door + _encoded(subject)
        macaroon = await self._macaroon(url, "DOWNLOAD", valid_for)
        return Download(url=url, headers=_bearer(macaroon), authorities=await self._authorities())

    async def upload(self, target: str, *, valid_for: float) -> Upload:
        """PUT and MKCOL below ``dav:/path/``."""
        scheme, colon, path = target.partition(":")
        if scheme != "dav" or not colon or not path.startswith("/") or path.startswith("//"):
            raise StoreError(f"{target!r}: a dCache store takes dav:/path/")
        url = self._door + _encoded(path)
        macaroon = await self._macaroon(url, "UPLOAD,MANAGE,DELETE", valid_for)
        authorities = await self._authorities()
        return Upload(method="PUT", url=url + "/", headers=_bearer(macaroon), authorities=authorities)

    async def aclose(self) -> None:
        """Release connections."""
        if self._session is not None:
            await self._session.close()

    async def _authorities(self) -> str:
        return await asyncio.to_thread(read_authorities, self._ca_file)

    async def _macaroon(self, url: str, activities: str, valid_for: float) -> str:
        """Ask for as long as is needed, and once more for less where the door says that it is too long."""
        seconds = max(1, min(int(valid_for), LONGEST))
        status, words, body = await self._ask(url, activities, seconds)
        if status == _BAD_REQUEST and (found := _BEYOND.search(words)):
            hours, minutes, rest = (int(part or 0) for part in found.groups())
            longest = hours * 3600 + minutes * 60 + rest
            status, words, body = await self._ask(url, activities, max(1, longest - _MARGIN))
        elif status == _BAD_REQUEST and _SESSION in words:
            status, words, body = await self._ask(url, activities, None)
        if status != _OK:
            error = StoreUnavailable if status in _PLEASE_WAIT else StoreError
            raise error(f"{url}: the door gives no macaroon: {status} {words}")
        return _read_macaroon(url, body)

    async def _ask(self, url: str, activities: str, seconds: int | None) -> tuple[int, str, bytes]:
        wanted: dict[str, object] = {"caveats": [f"activity:{activities}"]}
        if seconds is not None:
            wanted["validity"] = f"PT{seconds}S"
        session = await self._open()
        try:
            login = await asyncio.to_thread(self._authorize)
            async with session.post(
                yarl.URL(url, encoded=True),
                data=json.dumps(wanted).encode(),
                headers={**login, "Content-Type": _REQUEST, "Accept": "application/json"},
                allow_redirects=False,
            ) as response:
                body = await response.read()
                return response.status, f"{response.reason or ''} {_text(body)}".strip(), body
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeDecodeError) as error:
            raise StoreUnavailable(f"{url}: {type(error).__name__}: {error}") from error

    async def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            try:
                tls = await asyncio.to_thread(self._tls)
            except (OSError, ssl.SSLError) as error:
                raise StoreError(f"{self._door}: its certificates cannot be used: {error}") from error
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls), timeout=_TIMEOUT, trust_env=True
            )
        return self._session


def _encoded(path: str) -> str:
    segments = path.strip("/").split("/") if path.strip("/") else []
    if not {".", ".."}.isdisjoint(segments):
        raise StoreError(f"{path!r}: a path with . or .. in it could lead anywhere")
    try:
        return "".join("/" + quote(segment, safe="") for segment in segments)
    except UnicodeEncodeError:
        raise StoreError(f"{path!r}: dCache paths are UTF-8") from None


def _bearer(macaroon: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {macaroon}"}


def _text(body: bytes) -> str:
    return body[:200].decode(errors="replace").strip()


def _read_macaroon(url: str, body: bytes) -> str:
    try:
        macaroon = json.loads(body)["macaroon"]
    except (ValueError, LookupError, TypeError):
        macaroon = None
    if not isinstance(macaroon, str) or not macaroon:
        raise StoreError(
            f"{url}: the door gives no macaroon, without which nothing can be staged: {_text(body)!r}"
        )
    return macaroon
