"""What is in dCache's name space (``FileResources``, ``NamespaceUtils``): files and directories."""

from urllib.parse import quote

import msgspec

from dcnios_daemon.core.errors import Malformed
from dcnios_daemon.sources.dcache.client.frontend import Frontend

_ADD_ONS = "locality=true&locations=true"


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
    def is_online(self) -> bool:
        """Whether it can be read without waiting for a tape."""
        return self.is_file and self.locality.startswith("ONLINE")

    @property
    def is_complete(self) -> bool:
        """Whether its upload has ended well. A size alone does not say so: clients may set it beforehand."""
        stored = self.locations or self.locality.startswith("ONLINE") or self.locality == "NEARLINE"
        return self.is_file and self.size is not None and bool(stored)


async def stat(frontend: Frontend, path: str) -> Entry:
    """One entry.

    Raises:
        Missing, Forbidden, Disconnected, Rejected: See :meth:`Frontend.call`.
    """
    answer = await frontend.call("GET", query(frontend, path), caller="look")
    try:
        return msgspec.json.decode(answer.body, type=Entry)
    except msgspec.DecodeError as error:
        raise Malformed(f"{path}: the frontend's answer cannot be read: {error}") from error


def query(frontend: Frontend, path: str, what: str = "") -> str:
    """The URL that asks for what we need to know of a path, and what else is asked for."""
    encoded = "/".join(quote(part, safe="") for part in path.split("/"))
    asked = "&".join(part for part in (what, _ADD_ONS) if part)
    return frontend.url(f"/namespace{encoded}?{asked}")
