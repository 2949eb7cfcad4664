"""Addresses of servers, as others write them."""

from urllib.parse import urlsplit

from dcnios_daemon.importers.fields import Block


def address(block: Block, key: str, *, default: str) -> str | None:
    """``scheme://host:port`` of a field; None, and a finding, if it is none.

    Args:
        block: Where the field is.
        key: Its name.
        default: The scheme where it says none.
    """
    given = block.text(key)
    if given is None:
        return None
    try:
        parts = urlsplit(given if "://" in given else f"{default}://{given}")
        port = f":{parts.port}" if parts.port is not None else ""
        host, scheme = parts.hostname or "", parts.scheme
    except ValueError:
        host, port, scheme, parts = "", "", "", urlsplit("")
    if scheme not in {"http", "https"} or not is_host(host):
        block.notes.cannot(block.where(key), f"is no address: write {default}://host:port")
        return None
    path = parts.path.rstrip("/")
    if parts.username or parts.query or parts.fragment or path not in {"", "/api/v1"}:
        block.notes.differently(block.where(key), "only scheme, host and port count")
    return f"{scheme}://{bracketed(host)}{port}"


def is_host(text: str) -> bool:
    """Whether it can be a name or an address of a host."""
    return bool(text) and text.isascii() and text.isprintable() and not set(text) & set(" []%{}<>\"'\\^`|,;")


def bracketed(host: str) -> str:
    """An IPv6 address in brackets, anything else as it is."""
    return f"[{host}]" if ":" in host else host
