"""How a dCache source logs in, for the frontend and for the WebDAV door behind it."""

import base64
import ssl

from dcnios_daemon.sources.dcache.settings import DcacheSettings


def headers(settings: DcacheSettings) -> dict[str, str]:
    """The headers that log us in. Reads secret files: call it off the event loop, for each connection.

    Raises:
        OSError: A file cannot be read.
    """
    if settings.token is not None:
        return {"Authorization": f"Bearer {settings.token.reveal()}"}
    if settings.username is not None and settings.password is not None:
        pair = f"{settings.username}:{settings.password.reveal()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}


def tls(settings: DcacheSettings) -> ssl.SSLContext:
    """Whom we trust, and our certificate if we log in by one. Reads files.

    Raises:
        OSError: A file cannot be read, or holds no certificate or key (``ssl.SSLError``).
    """
    context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.client_cert is not None:
        context.load_cert_chain(settings.client_cert, settings.client_key)
    return context
