"""What staging reads from and writes to, by leave and not by credentials."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import msgspec


class Download(msgspec.Struct, frozen=True, kw_only=True):
    """How to get one object without any credential but what is in here."""

    url: str
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    authorities: str = ""
    """Certificates (PEM) to trust beside the system's."""

    def __repr__(self) -> str:
        """Name the place without the leave to use it."""
        return f"<Download {self.url.partition('?')[0]}>"


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """How to put objects under one prefix: by leave that is in here, or by keys that lie elsewhere."""

    method: str
    """``POST``: a form post to ``url`` with ``fields`` and the key (S3 POST policy).
    ``PUT``: to ``url`` + the percent-encoded name (WebDAV).
    ``S3``: requests below ``url``, the bucket's, signed with the keys in the folder ``keys``."""
    url: str
    prefix: str = ""
    """POST, S3: what the key must begin with."""
    region: str = ""
    """S3: the one to sign for."""
    keys: str = ""
    """S3: the folder, as the stager sees it, with the files ``access_key``, ``secret_key`` and perhaps
    ``session_token``. They themselves are never in here."""
    fields: Mapping[str, str] = msgspec.field(default_factory=dict)
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    authorities: str = ""
    """Certificates (PEM) to trust beside the system's."""

    def __repr__(self) -> str:
        """Name the place without the leave to use it."""
        return f"<Upload {self.method} {self.url.partition('?')[0]} {self.prefix}>"


class Store(Protocol):
    """Makes narrow, short-lived leave to read one object or to write under one prefix."""

    async def download(self, subject: str, *, valid_for: float) -> Download:
        """Leave to read the event's object for ``valid_for`` seconds (cut to the store's longest).

        Raises:
            StoreUnavailable: It had to be asked and did not answer.
            StoreError: It refuses.
        """
        ...

    async def upload(self, target: str, *, valid_for: float) -> Upload:
        """Leave to write below ``target`` (``s3://bucket/prefix/``, ``dav:/path/``), likewise."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


@runtime_checkable
class KeyedStore(Store, Protocol):
    """A store that also takes whoever has keys of its own."""

    async def keyed_upload(self, target: str, *, keys: str) -> Upload:
        """How to write below ``target`` with the keys in the folder ``keys``, of which nothing is read here.

        Raises:
            StoreError: It is no place of this store.
        """
        ...
