"""The store behind a dCache source: its WebDAV door, for staging."""

from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.core.ports import Download, Store, Upload
from dcnios_daemon.sources.dcache import login
from dcnios_daemon.sources.dcache.settings import DcacheSettings
from dcnios_daemon.staging.webdav import DavStore


class NoDoor:
    """Stands in where the configuration names no door: says so when one is needed."""

    async def download(self, subject: str, *, valid_for: float) -> Download:  # noqa: ARG002
        """See :class:`dcnios_daemon.core.ports.Store`."""
        raise StoreError(f"{subject}: the source's `door` (its WebDAV URL) is not set")

    async def upload(self, target: str, *, valid_for: float) -> Upload:  # noqa: ARG002
        """See :class:`dcnios_daemon.core.ports.Store`."""
        raise StoreError(f"{target}: the source's `door` (its WebDAV URL) is not set")

    async def aclose(self) -> None:
        """There is nothing to release."""


def store(settings: DcacheSettings) -> Store:
    """Leave to read and write files, with the source's own login."""
    if settings.door is None:
        return NoDoor()
    return DavStore(
        settings.door,
        authorize=lambda: login.headers(settings),
        tls=lambda: login.tls(settings),
        ca_file=settings.ca_file,
    )
