"""PROPFIND replies of the door, as far as clients of the daemon need them (RFC 4918)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from urllib.parse import quote
from xml.sax.saxutils import escape

from .namespace import Inode
from .ranges import http_date

_DEPTHS = {"0": 0, "1": 1}


def finite_depth(header: str) -> int | None:
    """Return the depth, None for infinity."""
    return _DEPTHS.get(header.strip())


def multistatus(inodes: Sequence[Inode], *, hrefs_below: str, root: str) -> bytes:
    """Return a 207 body; hrefs are relative to the user's root."""
    parts = [_response(inode, hrefs_below, root) for inode in inodes]
    text = '<?xml version="1.0" encoding="utf-8"?>\n<d:multistatus xmlns:d="DAV:">' + "".join(parts)
    return (text + "</d:multistatus>").encode()


def _response(inode: Inode, hrefs_below: str, root: str) -> str:
    path = inode.path()
    visible = path.removeprefix(root) if root != "/" else path
    href = hrefs_below + quote(visible or "/")
    if inode.is_dir and not href.endswith("/"):
        href += "/"
    created = dt.datetime.fromtimestamp(inode.created / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    properties = [
        f"<d:displayname>{escape(inode.name)}</d:displayname>",
        f"<d:creationdate>{created}</d:creationdate>",
        f"<d:getlastmodified>{http_date(inode.mtime)}</d:getlastmodified>",
        f'<d:getetag>"{inode.pnfsid}"</d:getetag>',
    ]
    if inode.is_dir:
        properties.append("<d:resourcetype><d:collection/></d:resourcetype>")
    else:
        properties.append("<d:resourcetype/>")
        if inode.size is not None:
            properties.append(f"<d:getcontentlength>{inode.size}</d:getcontentlength>")
    return (
        f"<d:response><d:href>{escape(href)}</d:href><d:propstat><d:prop>{''.join(properties)}</d:prop>"
        "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
    )
