"""One object into one file: streamed, taken up again where a connection broke, and there only when whole."""

import asyncio
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import aiohttp
import msgspec
import yarl

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.core.ports import Download
from dcnios_daemon.staging.files import file_path
from dcnios_daemon.staging.transfer import (
    BLOCK,
    TRANSPORT_ERRORS,
    Patience,
    local_trouble,
    on_disk,
    patiently,
    refusal,
    shown,
    trust,
    unreachable,
)

_OK = 200
_PARTIAL = 206
_UNSATISFIABLE = 416
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


async def fetch(session: aiohttp.ClientSession, download: Download, target: Path, patience: Patience) -> int:
    """Get the object. Returns its size in bytes.

    Raises:
        StoreUnavailable: Not now; try the whole attempt again later.
        StoreError: Never: it is refused, or not there.
    """
    part = target.with_name(f".{target.name}.part")
    if download.url.startswith("file:"):
        size = await asyncio.to_thread(_copy, file_path(download.url), part)
    else:
        size = await _fetch_http(session, download, part, patience)
    await on_disk(target, part.replace, target)
    return size


def _copy(source: Path, part: Path) -> int:
    try:
        shutil.copyfile(source, part)
        return part.stat().st_size
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise StoreError(f"{source}: {error.strerror}") from error
    except OSError as error:
        raise local_trouble(part, error) from error


class _Progress(msgspec.Struct):
    """How far the file has come, over several connections."""

    part: Path
    file: BinaryIO
    received: int = 0
    version: str = ""
    """The object's strong ETag: without one a broken transfer begins anew."""


async def _fetch_http(
    session: aiohttp.ClientSession, download: Download, part: Path, patience: Patience
) -> int:
    file = await on_disk(part, lambda: part.open("wb"))
    progress = _Progress(part=part, file=file)
    try:
        await patiently(lambda: _once(session, download, progress), patience)
    finally:
        await asyncio.to_thread(file.close)
    return progress.received


async def _once(session: aiohttp.ClientSession, download: Download, progress: _Progress) -> None:
    what = shown(download.url)
    headers = dict(download.headers)
    if progress.received and progress.version:
        headers |= {"Range": f"bytes={progress.received}-", "If-Range": progress.version}
    tls = await trust(download.authorities)
    try:
        async with session.get(yarl.URL(download.url, encoded=True), headers=headers, ssl=tls) as response:
            if response.status == _UNSATISFIABLE:
                progress.version = ""
                raise StoreUnavailable(f"{what}: the object has changed on the way")
            if response.status not in {_OK, _PARTIAL}:
                raise refusal(what, response.status, await response.content.read(4096))
            total = await _position(response, progress, what)
            await _receive(response, progress)
    except TRANSPORT_ERRORS as error:
        raise unreachable(what, error) from error
    if total is not None and progress.received != total:
        raise StoreUnavailable(f"{what}: {progress.received} of {total} bytes came")


async def _position(response: aiohttp.ClientResponse, progress: _Progress, what: str) -> int | None:
    """Put the file where this answer's bytes belong; the whole object's size, when it is told."""
    if response.status == _PARTIAL:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        same = response.headers.get("ETag", progress.version) == progress.version
        if found is None or int(found[1]) != progress.received or not same:
            progress.version = ""
            raise StoreUnavailable(f"{what}: it sent another part than was asked for")
        return int(found[2])
    progress.received = 0
    progress.version = _strong(response.headers)
    await on_disk(progress.part, _rewind, progress.file)
    return response.content_length


async def _receive(response: aiohttp.ClientResponse, progress: _Progress) -> None:
    async for block in response.content.iter_chunked(BLOCK):
        await on_disk(progress.part, progress.file.write, block)
        progress.received += len(block)


def _strong(headers: Mapping[str, str]) -> str:
    version = headers.get("ETag", "")
    return version if version.startswith('"') else ""


def _rewind(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()
