"""The store behind a dCache source: its WebDAV door, for staging."""

from dcnios_daemon.core.ports import Store
from dcnios_daemon.sources.dcache.client import login
from dcnios_daemon.sources.dcache.settings import DcacheSettings
from dcnios_daemon.staging.webdav import DavStore


def store(settings: DcacheSettings) -> Store:
    """Leave to read and write files, with the source's own login."""
    return DavStore(
        settings.door or f"{settings.api.removesuffix('/api/v1')}/dav",
        authorize=lambda: login.headers(settings),
        tls=lambda: login.tls(settings),
        ca_file=settings.ca_file,
    )
