"""What is in dCache's name space (``FileResources``, ``NamespaceUtils``): an entry, or all of a directory."""

from typing import TypeVar
from urllib.parse import quote

import msgspec

from dcnios_daemon.core.errors import Malformed
from dcnios_daemon.sources.dcache.frontend import Frontend

_ADD_ONS = "locality=true&locations=true"
_E = TypeVar("_E", bound="Entry")


class Entry(msgspec.Struct, frozen=True):
    """A file or directory."""

    file_type: str = msgspec.field(default="", name="fileType")
    """REGULAR, DIR, LINK or SPECIAL."""
    pnfsid: str = msgspec.field(default="", name="pnfsId")
    name: str = msgspec.field(default="", name="fileName")
    """Only in listings."""
    size: int | None = None
    """None: nothing was written yet."""
    created: int = msgspec.field(default=0, name="creationTime")
    """Milliseconds since the epoch."""
    locality: str = msgspec.field(default="", name="fileLocality")
    locations: tuple[str, ...] = ()
    """Pools that have it."""

    @property
    def is_directory(self) -> bool:
        """Whether it can be listed."""
        return self.file_type == "DIR"

    @property
    def is_file(self) -> bool:
        """Whether it holds data."""
        return self.file_type == "REGULAR"

    @property
    def is_complete(self) -> bool:
        """Whether its upload has ended well. A size alone does not say so: clients may set it beforehand."""
        stored = self.locations or self.locality.startswith("ONLINE") or self.locality == "NEARLINE"
        return self.is_file and self.size is not None and bool(stored)


class Directory(Entry, frozen=True):
    """A directory with what is in it."""

    children: tuple[Entry, ...] = ()


async def stat(frontend: Frontend, path: str) -> Entry:
    """One entry.

    Raises:
        Missing, Forbidden, Disconnected, Rejected: See :meth:`Frontend.call`.
    """
    answer = await frontend.call("GET", _url(frontend, path, _ADD_ONS))
    return _decoded(answer.body, Entry, path)


async def listing(frontend: Frontend, path: str) -> Directory:
    """A directory and all its entries, in one call: pages may skip and repeat, since dCache does not order
    them. Likewise."""
    answer = await frontend.call("GET", _url(frontend, path, f"children=true&{_ADD_ONS}"))
    return _decoded(answer.body, Directory, path)


def _url(frontend: Frontend, path: str, query: str) -> str:
    encoded = "/".join(quote(part, safe="") for part in path.split("/"))
    return frontend.url(f"/namespace{encoded}?{query}")


def _decoded(body: bytes, kind: type[_E], path: str) -> _E:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise Malformed(f"{path}: the frontend's answer cannot be read: {error}") from error
