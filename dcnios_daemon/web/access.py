"""Who may see and change what over HTTP. Everything is decided from the request alone."""

import contextlib
import hmac
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from aiohttp import BasicAuth, web

_FORWARDED = ("Forwarded", "X-Forwarded-For")


def is_local(request: web.Request, host: str) -> bool:
    """Whether it is someone on this machine who asks, for themselves, and knows whom.

    A proxy on this machine asks for others. And a page from anywhere may have a browser on this machine ask
    us under that page's own name (DNS rebinding): then ``Host`` names neither this machine nor an address.

    Args:
        request: The request.
        host: The name that we listen on, as configured.
    """
    forwarded = any(name in request.headers for name in _FORWARDED)
    return _is_loopback(request.remote) and not forwarded and _names_us(request.headers.get("Host", ""), host)


def is_from_a_page(request: web.Request) -> bool:
    """Whether a browser sent it for a page: programs send no ``Origin``."""
    return "Origin" in request.headers


def bears(request: web.Request, token: str) -> bool:
    """Whether the request presents the token as ``Authorization: Bearer``."""
    given = request.headers.get("Authorization", "")
    # MinIO sends a token that has two words as it is: then the scheme is part of the secret.
    return _same(given, token if " " in token else f"Bearer {token}")


def presents(request: web.Request, token: str) -> bool:
    """Whether the request presents the token in either of the ways that web hooks have: as
    ``Authorization: Bearer``, or as ``access_token`` in the query (RFC 6750, 2.3; "HTTP 1.1 Web Hooks for
    Event Delivery", 3.2, which wants both). Nothing here logs queries; proxies in between may.
    """
    return bears(request, token) or _same(request.query.get("access_token", ""), token)


def has_password(request: web.Request, token: str) -> bool:
    """Whether the token is the password that a browser asked its user for."""
    with contextlib.suppress(ValueError):
        login = BasicAuth.decode(request.headers.get("Authorization", ""), encoding="utf-8")
        return _same(login.password, token)
    return False


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())


def _is_loopback(remote: str | None) -> bool:
    try:
        address = ip_address((remote or "").split("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _names_us(header: str, host: str) -> bool:
    try:
        named = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if named in {"", "localhost", host.lower()} or named.endswith(".localhost"):
        return True
    try:
        ip_address(named)
    except ValueError:
        return False
    return True
