"""One file to an S3 store under keys that lie in a folder beside the stager: in one PUT, or in parts.

For what leave cannot do: a form post takes 5 GiB at most. A file in parts is there whole or not at all; the
limits are those of "Amazon S3 multipart upload limits", which MinIO and Ceph share. Each body is hashed
before it is sent, so that the store itself sees whether it came unchanged. Memory does not grow with the
file.
"""

import asyncio
import contextlib
import datetime as dt
import hashlib
import math
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote
from xml.sax.saxutils import escape

import aiohttp
import msgspec
import yarl

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.core.ports import Upload
from dcnios_daemon.staging.output import Result
from dcnios_daemon.staging.s3_signing import Keys, Request, signed_headers
from dcnios_daemon.staging.transfer import (
    BLOCK,
    TRANSPORT_ERRORS,
    Missing,
    Patience,
    on_disk,
    patiently,
    refusal,
    shown,
    trust,
    unreachable,
)

WHOLE_LIMIT = 64 * 1024**2
"""Bytes up to which a file goes in one PUT."""
PART = 16 * 1024**2
"""Bytes of a part, at least."""
PARTS = 10_000
"""That many parts make an object, at most."""
ACCESS_KEY, SECRET_KEY, SESSION_TOKEN = "access_key", "secret_key", "session_token"
_ABORT = 15.0
_SUCCESS = range(200, 300)
_BAD_REQUEST = 400


class Gone(StoreError):
    """The store does not know this upload: it was completed or broken off."""


class _Piece(msgspec.Struct, frozen=True):
    start: int
    length: int


_NOTHING = _Piece(0, 0)


class _Answer(msgspec.Struct, frozen=True):
    body: bytes
    etag: str
    length: int


def pieces(size: int) -> list[tuple[int, int]]:
    """Start and length, in bytes, of the parts of a file.

    >>> pieces(40 * 1024**2)
    [(0, 16777216), (16777216, 16777216), (33554432, 8388608)]
    """
    length = max(PART, math.ceil(size / PARTS))
    return [(start, min(length, size - start)) for start in range(0, size, length)]


async def put_object(
    session: aiohttp.ClientSession, upload: Upload, result: Result, patience: Patience
) -> None:
    """Put the file there, over what may be there.

    Raises:
        StoreUnavailable: Not now; try the whole attempt again later.
        StoreError: Never: also where the keys are missing or refused.
    """
    target = _Target(session, upload, result, patience)
    if result.size <= WHOLE_LIMIT:
        await target.put("PUT", piece=_Piece(0, result.size))
    else:
        await target.put_in_parts()


class _Target:
    """One object to be."""

    def __init__(
        self, session: aiohttp.ClientSession, upload: Upload, result: Result, patience: Patience
    ) -> None:
        self._session = session
        self._upload = upload
        self._result = result
        self._patience = patience
        try:
            key = quote(upload.prefix + result.name, safe="/", errors="strict")
        except UnicodeEncodeError:
            where = f"{shown(upload.url)}/{upload.prefix}"
            raise StoreError(f"{result.name!r} to {where}: S3 keys are UTF-8") from None
        self._url = f"{upload.url}/{key}"
        self._what = f"{result.name} to {shown(upload.url)}/{upload.prefix}"

    async def put(
        self, method: str, query: str = "", *, piece: _Piece = _NOTHING, body: bytes = b""
    ) -> _Answer:
        """Send it until the store takes it, as long as patience lasts."""
        return await patiently(lambda: self._try(method, query, piece, body), self._patience)

    async def put_in_parts(self) -> None:
        begun = await self.put("POST", "uploads=")
        upload_id = _text_of(begun.body, "UploadId", what=self._what)
        query = f"uploadId={quote(upload_id, safe='')}"
        try:
            etags = []
            for number, (start, length) in enumerate(pieces(self._result.size), 1):
                part = f"partNumber={number}&{query}"
                etags.append((await self.put("PUT", part, piece=_Piece(start, length))).etag)
            await self._complete(query, etags)
        except BaseException:
            await self._abort(query)
            raise

    async def _complete(self, query: str, etags: Sequence[str]) -> None:
        """Make one object of the parts. Where only the answer of that got lost, the upload is gone then."""
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
            for number, etag in enumerate(etags, 1)
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        try:
            await self.put("POST", query, body=body)
        except Gone:
            if (await self.put("HEAD")).length != self._result.size:
                raise

    async def _abort(self, query: str) -> None:
        """Have the store forget the parts, which would cost room. Else its lifecycle rules do."""
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_ABORT):
                await self._try("DELETE", query, _NOTHING, b"")

    async def _try(self, method: str, query: str, piece: _Piece, body: bytes) -> _Answer:
        url = f"{self._url}?{query}" if query else self._url
        keys = await asyncio.to_thread(read_keys, Path(self._upload.keys))
        file = await on_disk(self._result.path, lambda: self._result.path.open("rb"))
        try:
            digest = hashlib.sha256(body)
            if piece.length:
                await on_disk(self._result.path, _hash, file, piece, digest)
            request = Request(method=method, url=url, digest=digest.hexdigest())
            headers = signed_headers(request, keys, region=self._upload.region, now=dt.datetime.now(dt.UTC))
            headers["Content-Type"] = "application/octet-stream"
            headers["Content-Length"] = str(piece.length or len(body))
            data = self._blocks(file, piece) if piece.length else body
            return await self._send(request, headers, data)
        finally:
            await asyncio.to_thread(file.close)

    async def _send(
        self, request: Request, headers: dict[str, str], data: bytes | AsyncIterator[bytes]
    ) -> _Answer:
        tls = await trust(self._upload.authorities)
        try:
            async with self._session.request(
                request.method,
                yarl.URL(request.url, encoded=True),
                data=data,
                headers=headers,
                allow_redirects=False,
                ssl=tls,
            ) as response:
                body = await response.read()
                if response.status in _SUCCESS and b"<Error>" not in body:
                    etag = response.headers.get("ETag", "")
                    return _Answer(body, etag, int(response.headers.get("Content-Length", 0)))
                raise _refused(self._what, response.status, body)
        except TRANSPORT_ERRORS as error:
            raise unreachable(self._what, error) from error

    async def _blocks(self, file: BinaryIO, piece: _Piece) -> AsyncIterator[bytes]:
        await on_disk(self._result.path, file.seek, piece.start)
        remaining = piece.length
        while remaining:
            block: bytes = await on_disk(self._result.path, file.read, min(BLOCK, remaining))
            if not block:
                raise StoreUnavailable(f"{self._result.name}: became shorter while it was sent")
            remaining -= len(block)
            yield block


def read_keys(folder: Path) -> Keys:
    """What the operator put there, read anew for each request since it may be replaced. Blocks.

    Raises:
        StoreError: A file is missing or holds no key.
    """
    values = {}
    for name in (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN):
        path = folder / name
        try:
            values[name] = path.read_text("ascii").strip()
        except FileNotFoundError:
            values[name] = ""
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{path}: cannot be read as a key: {type(error).__name__}") from None
        if not (values[name].isprintable() and (values[name] or name == SESSION_TOKEN)):
            raise StoreError(f"{path}: holds no key: the Secret needs {ACCESS_KEY} and {SECRET_KEY}")
    return Keys(values[ACCESS_KEY], values[SECRET_KEY], values[SESSION_TOKEN])


def _hash(file: BinaryIO, piece: _Piece, digest: "hashlib._Hash") -> None:
    file.seek(piece.start)
    remaining = piece.length
    while remaining and (block := file.read(min(BLOCK, remaining))):
        digest.update(block)
        remaining -= len(block)


def _text_of(body: bytes, name: str, *, what: str) -> str:
    try:
        root = ET.fromstring(body)  # noqa: S314 - the operator's own store; expat bounds expansion
    except ET.ParseError as error:
        raise StoreUnavailable(f"{what}: the store's answer is no XML: {error}") from error
    for element in root.iter():
        if element.tag.rpartition("}")[2] == name and element.text:
            return element.text
    raise StoreUnavailable(f"{what}: the store's answer has no {name}")


def _refused(what: str, status: int, body: bytes) -> StoreError:
    """Our error. An upload or bucket that is missing does not come by waiting; a 200 may yet be an error
    (CompleteMultipartUpload of AWS), and a 400 mean that the body came too slowly.
    """
    error = refusal(what, status, body)
    if b"<Code>NoSuchUpload</Code>" in body:
        return Gone(str(error))
    if status in _SUCCESS or (status == _BAD_REQUEST and b"<Code>RequestTimeout</Code>" in body):
        return StoreUnavailable(str(error))
    return StoreError(str(error)) if isinstance(error, Missing) else error
