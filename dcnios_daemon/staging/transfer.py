"""What fetching and delivering share: patience with stores, and words that give no leave away."""

import asyncio
import functools
import re
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.core.patience import pause_after

BLOCK = 256 * 1024
"""Bytes that are read or written at a time."""
_PLEASE_WAIT = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_FOUND = 404
_LOGIN = 401
_DENIED = 403
_PART = re.compile(r"<(Code|Message)>([^<]*)</\1>")
_WORDS = 300

T = TypeVar("T")


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How often, and how long apart (seconds), a file is tried. Bounded: about two minutes of waiting."""

    tries: int = 10
    first: float = 0.5
    most: float = 30.0
    missing: int = 4
    """Tries for an object that is not there: stores may need a moment after they said that it is
    (dCache issue 5285)."""


class GivenUp(StoreUnavailable):
    """Another attempt may succeed, but not another try now: leave that has expired, a full disk."""


class Missing(StoreUnavailable):
    """The object is not there, or not yet."""


async def patiently(action: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """Do it, again while the store is unavailable, at most ``patience.tries`` times.

    Raises:
        StoreUnavailable: It stayed so.
        StoreError: The store refuses, or the object stays missing.
    """
    missing = 0
    for attempt in range(1, patience.tries + 1):
        try:
            return await action()
        except GivenUp:
            raise
        except StoreUnavailable as error:
            missing += isinstance(error, Missing)
            if missing >= patience.missing:
                raise StoreError(str(error)) from error
            if attempt == patience.tries:
                raise
        await asyncio.sleep(pause_after(attempt, first=patience.first, most=patience.most))
    raise StoreUnavailable("no try was allowed")


def open_session() -> aiohttp.ClientSession:
    """For one staging: byte-exact (nothing is unpacked, no URL rewritten), no limit but on silence."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, connect=15, sock_connect=15, sock_read=120),
        read_bufsize=BLOCK,
        auto_decompress=False,
        requote_redirect_url=False,
        trust_env=True,
        headers={"Accept-Encoding": "identity", "User-Agent": "dcnios-daemon"},
    )


async def trust(authorities: str) -> ssl.SSLContext | bool:
    """Whom to trust, for a request: the system's authorities, and these (PEM)."""
    return await asyncio.to_thread(_context, authorities) if authorities else True


@functools.lru_cache(maxsize=16)
def _context(authorities: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cadata=authorities)
    except ssl.SSLError as error:
        raise StoreError(f"the store's certificate authorities cannot be read: {error}") from error
    return context


def read_authorities(path: Path | None) -> str:
    """What is in a ``ca_file``, for leave. Blocks.

    Raises:
        StoreError: It cannot be read.
    """
    if path is None:
        return ""
    try:
        return path.read_text("ascii", errors="ignore")
    except OSError as error:
        raise StoreError(f"ca_file {path}: {error.strerror}") from error


def shown(url: str) -> str:
    """A URL without what gives leave (its query) or a login."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def unreachable(what: str, error: Exception) -> StoreUnavailable:
    """Our error for a connection that failed. aiohttp's own words may hold the whole URL: then they go."""
    words = "" if "://" in str(error) else str(error)
    return StoreUnavailable(f"{what}: {type(error).__name__} {words}".rstrip())


def local_trouble(path: Path, error: OSError) -> GivenUp:
    """Our error for the work directory's own disk."""
    return GivenUp(f"{path}: {error.strerror or error}")


def refusal(what: str, status: int, body: bytes) -> StoreError:
    """Our error for an answer that is no success, with the store's own words."""
    text = body.decode(errors="replace")
    said = dict(_PART.findall(text))
    words = f"{said.get('Code', '')} {said.get('Message', '')}".strip() or text[:_WORDS].strip()
    message = f"{what}: {status} {words}".rstrip()
    if status == _NOT_FOUND:
        return Missing(message)
    if status in _PLEASE_WAIT:
        return StoreUnavailable(message)
    if status == _LOGIN or (status == _DENIED and "expired" in words.lower()):
        return GivenUp(f"{message}: the leave is not valid any more")
    return StoreError(message)


async def on_disk(path: Path, call: Callable[..., T], *arguments: object) -> T:
    """Do something with a file, off the loop; its troubles are the work directory's disk's."""
    try:
        return await asyncio.to_thread(call, *arguments)
    except OSError as error:
        raise local_trouble(path, error) from error


TRANSPORT_ERRORS = (aiohttp.ClientError, TimeoutError, ConnectionError, ssl.SSLError)
"""What a connection may raise, to be made into :func:`unreachable`."""
