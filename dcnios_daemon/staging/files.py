"""A directory as a store, for runs on the daemon's own machine. There is no leave to make: paths do."""

import asyncio
import os
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.core.ports import Download, Upload


class FileStore:
    """Files below a directory. Implements :class:`~dcnios_daemon.core.ports.Store`.

    Event subjects are taken below the root. Targets (``file:results/``, ``file:/data/results/``) are taken as
    a shell would: below the daemon's working directory unless absolute.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def download(self, subject: str, *, valid_for: float) -> Download:  # noqa: ARG002 - files stay
        """The file's URL. See :class:`~dcnios_daemon.core.ports.Store`."""
        path = _plain(subject)
        root = await asyncio.to_thread(self._root.absolute)
        inside = path.relative_to(root) if path.is_relative_to(root) else path
        if inside.is_absolute():
            raise StoreError(f"{subject!r} is not below {root}")
        return Download(url=file_url(root / inside))

    async def upload(self, target: str, *, valid_for: float) -> Upload:  # noqa: ARG002 - files stay
        """The folder's URL."""
        scheme, colon, path = target.partition(":")
        if scheme != "file" or not colon or not path:
            raise StoreError(f"{target!r}: a directory takes file:folder/")
        if path.startswith("//"):
            path = "/" + path.lstrip("/")
        folder = await asyncio.to_thread(_plain(path).absolute)
        return Upload(method="PUT", url=file_url(folder) + "/")

    async def aclose(self) -> None:
        """Nothing is held."""


def file_url(path: Path) -> str:
    """The ``file:`` URL of an absolute path whose name may be any bytes."""
    return "file://" + quote_from_bytes(os.fsencode(path))


def file_path(url: str) -> Path:
    """The reverse of :func:`file_url`."""
    return Path(os.fsdecode(unquote_to_bytes(url.removeprefix("file://"))))


def _plain(text: str) -> Path:
    path = Path(text)
    if ".." in path.parts or "\0" in text:
        raise StoreError(f"{text!r}: a path with .. in it could lead anywhere")
    return path
