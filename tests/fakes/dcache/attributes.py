"""A file's attributes as the namespace API shows them (section 5; NamespaceUtils)."""

from __future__ import annotations

import mimetypes
import zlib
from dataclasses import dataclass

from .namespace import FileType, Inode, Locality

mimetypes.init()  # reads files: now, not while the loop runs


@dataclass(frozen=True, slots=True)
class Wanted:
    """The optional parts of a reply."""

    locality: bool = False
    locations: bool = False
    checksum: bool = False
    xattr: bool = False
    optional: bool = False

    @classmethod
    def of(cls, query: dict[str, str]) -> Wanted:
        """Read the query parameters."""
        return cls(**{name: query.get(name, "").lower() == "true" for name in cls.__slots__})


def describe(inode: Inode, wanted: Wanted, *, named: bool) -> dict[str, object]:
    """Return the JSON of one inode; ``size`` is absent while an upload is under way."""
    stale = inode.stale_stats > 0 and not inode.is_dir
    if stale:
        inode.stale_stats -= 1
    size = 512 if inode.is_dir else None if stale else inode.size
    locations = () if stale else inode.locations
    reply: dict[str, object] = {"fileMimeType": _mime_type(inode)}
    if wanted.locality and not inode.is_dir:
        reply["fileLocality"] = Locality.NONE if stale else inode.locality
    if wanted.locations:
        reply["locations"] = list(locations)
    if wanted.checksum and size is not None and not inode.is_dir:
        reply["checksums"] = [{"type": "ADLER32", "value": f"{zlib.adler32(inode.data):08x}"}]
    if wanted.xattr:
        reply["extendedAttributes"] = {}
    if wanted.optional:
        reply.update(_optional(inode))
    reply.update(
        fileType=inode.kind,
        pnfsId=inode.pnfsid,
        nlink=2 if inode.is_dir else 1,
        mtime=inode.mtime,
        creationTime=inode.created,
        mode=0o755 if inode.is_dir else 0o644,
    )
    if size is not None:
        reply["size"] = size
    if named:
        reply["fileName"] = inode.name
    return reply


def _optional(inode: Inode) -> dict[str, object]:
    info: dict[str, object] = {"storageClass": "test:fake", "hsm": "osm"}
    return {
        "atime": inode.mtime,
        "ctime": inode.ctime,
        "owner": inode.owner,
        "group": inode.owner,
        "storageInfo": info,
        "accessLatency": "ONLINE" if inode.locations else "NEARLINE",
        "retentionPolicy": "CUSTODIAL" if inode.on_tape else "REPLICA",
    }


def _mime_type(inode: Inode) -> str:
    if inode.kind is FileType.DIR:
        return "application/vnd.dcache.folder"
    return mimetypes.guess_type(inode.name)[0] or "application/octet-stream"
