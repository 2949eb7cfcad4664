"""One file to one store: an S3 form post or signed upload, a WebDAV PUT, or a copy.

Streamed, and whole or not at all.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import quote_from_bytes

import aiohttp
import msgspec
import yarl

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.core.ports import Upload
from dcnios_daemon.staging.files import file_path
from dcnios_daemon.staging.output import Result
from dcnios_daemon.staging.s3_put import put_object
from dcnios_daemon.staging.transfer import (
    BLOCK,
    TRANSPORT_ERRORS,
    Missing,
    Patience,
    local_trouble,
    on_disk,
    patiently,
    refusal,
    shown,
    trust,
    unreachable,
)

FORM_LIMIT = 5 * 1024**3
"""Bytes: what S3 takes in one form post."""
_HOPS = 5
_REDIRECTS = frozenset({301, 302, 307, 308})
_CONFLICT = 409
_EXISTS = 405
_SUCCESS = range(200, 300)


async def deliver(session: aiohttp.ClientSession, upload: Upload, result: Result, patience: Patience) -> None:
    """Put the file there, over what may be there.

    Raises:
        StoreUnavailable: Not now; try the whole attempt again later.
        StoreError: Never.
    """
    if upload.url.startswith("file:"):
        await asyncio.to_thread(_copy, result, file_path(upload.url) / result.name)
    elif upload.method == "S3":
        await put_object(session, upload, result, patience)
    elif upload.method == "POST":
        await patiently(lambda: _post(session, upload, result), patience)
    else:
        await patiently(lambda: _put(session, upload, result), patience)


def _copy(result: Result, target: Path) -> None:
    part = target.with_name(f".dcnios-{secrets.token_hex(8)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(result.path, part)
            _sync(part)
            part.replace(target)
            _sync(target.parent)
        finally:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise StoreError(f"{target}: {error.strerror}") from error
    except OSError as error:
        raise local_trouble(target, error) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose body can be sent more than once."""

    method: str
    url: str
    what: str
    """The file and the store, for messages."""
    headers: Mapping[str, str]
    authorities: str
    length: int = 0
    body: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes] | None]] = contextlib.nullcontext


async def _send(session: aiohttp.ClientSession, request: _Request) -> tuple[int, bytes]:
    """Send it, along redirects; a login goes only to the server that it is for."""
    url = yarl.URL(request.url, encoded=True)
    headers = {**request.headers, "Content-Length": str(request.length)}
    tls = await trust(request.authorities)
    try:
        for _ in range(_HOPS):
            async with (
                request.body() as data,
                session.request(
                    request.method, url, data=data, headers=headers, allow_redirects=False, ssl=tls
                ) as response,
            ):
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    return response.status, await response.content.read(4096)
            target = url.join(yarl.URL(location, encoded=True))
            if target.origin() != url.origin():
                headers.pop("Authorization", None)
            url = target
    except TRANSPORT_ERRORS as error:
        raise unreachable(request.what, error) from error
    raise StoreError(f"{request.what}: redirected more than {_HOPS} times")


@contextlib.asynccontextmanager
async def _content(
    result: Result, head: bytes = b"", tail: bytes = b""
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The file between two texts, as a body; the file is closed even if the body was not read to its end."""
    file = await on_disk(result.path, lambda: result.path.open("rb"))

    async def blocks() -> AsyncIterator[bytes]:
        yield head
        remaining = result.size
        while remaining:
            block = await on_disk(result.path, file.read, min(BLOCK, remaining))
            if not block:
                raise StoreUnavailable(f"{result.name}: became shorter while it was sent")
            remaining -= len(block)
            yield block
        yield tail

    try:
        yield blocks()
    finally:
        await asyncio.to_thread(file.close)


async def _put(session: aiohttp.ClientSession, upload: Upload, result: Result) -> None:
    url = upload.url + quote_from_bytes(os.fsencode(result.name), safe="/")
    request = _Request(
        method="PUT",
        url=url,
        what=f"{result.name} to {shown(url)}",
        headers={"Content-Type": "application/octet-stream", **upload.headers},
        authorities=upload.authorities,
        length=result.size,
        body=lambda: _content(result),
    )
    status, body = await _send(session, request)
    if status in {_CONFLICT, 404}:
        await _make_folder(session, upload, url.rpartition("/")[0], what=request.what)
        status, body = await _send(session, request)
    if status not in _SUCCESS:
        raise _final(request.what, status, body)


async def _make_folder(session: aiohttp.ClientSession, upload: Upload, url: str, *, what: str) -> None:
    """MKCOL the folder, and before it those above it that are missing (RFC 4918, 9.3: 409)."""
    request = _Request(
        method="MKCOL", url=url + "/", what=what, headers=upload.headers, authorities=upload.authorities
    )
    status, body = await _send(session, request)
    if status == _CONFLICT and yarl.URL(url, encoded=True).raw_path.strip("/"):
        await _make_folder(session, upload, url.rpartition("/")[0], what=what)
        status, body = await _send(session, request)
    if status not in _SUCCESS and status != _EXISTS:
        raise _final(f"the folder of {what}", status, body)


async def _post(session: aiohttp.ClientSession, upload: Upload, result: Result) -> None:
    what = f"{result.name} to {shown(upload.url)}/{upload.prefix}"
    if result.size > FORM_LIMIT:
        raise StoreError(
            f"{what}: {result.size} bytes, S3 takes at most {FORM_LIMIT} by leave: see credentials: secret"
        )
    try:
        key = (upload.prefix + result.name).encode()
    except UnicodeEncodeError:
        raise StoreError(f"{what}: S3 keys are UTF-8, this file's name is not") from None
    boundary = secrets.token_hex(16).encode()
    fields = {name.encode(): value.encode() for name, value in upload.fields.items()}
    head, tail = _form({b"key": key} | fields, boundary)

    request = _Request(
        method="POST",
        url=upload.url,
        what=what,
        headers={"Content-Type": f"multipart/form-data; boundary={boundary.decode()}", **upload.headers},
        authorities=upload.authorities,
        length=len(head) + result.size + len(tail),
        body=lambda: _content(result, head, tail),
    )
    status, answer = await _send(session, request)
    if status not in _SUCCESS:
        raise _final(what, status, answer)


def _form(fields: Mapping[bytes, bytes], boundary: bytes) -> tuple[bytes, bytes]:
    """A form's bytes before and after the file, which S3 wants last.

    S3 replaces ``${filename}`` in a key by the file part's name: with that very name, a key that has it as
    text keeps it.
    """
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (boundary, name, value)
        for name, value in fields.items()
    ]
    file = (
        b'--%s\r\nContent-Disposition: form-data; name="file"; filename="${filename}"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" % boundary
    )
    return b"".join(parts) + file, b"\r\n--%s--\r\n" % boundary


def _final(what: str, status: int, body: bytes) -> StoreError:
    """A refusal; a missing bucket or folder does not come by waiting."""
    error = refusal(what, status, body)
    return StoreError(str(error)) if isinstance(error, Missing) else error
