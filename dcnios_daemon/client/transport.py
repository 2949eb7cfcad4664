"""One request and its answer, with nothing but Python's own library: a notebook imports it at once.

Proxies are taken from the environment, as ``urllib`` does. Redirections are not followed: the token would
travel with them.
"""

import os
import ssl
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from dcnios_daemon.client.errors import ClientError
from dcnios_daemon.client.questions import Answer, Ask

DEFAULT_URL = "http://127.0.0.1:8080"
WITHIN = 30.0
"""Seconds for the daemon to answer; then it counts as away."""


class _NoRedirections(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow none: they are answers like any other."""


class Login:
    """The admin token, from an argument, a file or the environment. Never shown.

    Args:
        token: The token itself.
        file: A file that holds it, read anew for each request. Without either, ``$DCNIOS_CLIENT_TOKEN`` or
            the file ``$DCNIOS_CLIENT_TOKEN_FILE``; without these, no token is sent.
    """

    def __init__(self, token: str | None, file: str | Path | None) -> None:
        if token and file:
            raise ValueError("give token or token_file, not both")
        if not token and not file:
            token = os.environ.get("DCNIOS_CLIENT_TOKEN")
            file = None if token else os.environ.get("DCNIOS_CLIENT_TOKEN_FILE")
        self._token = token
        self._file = Path(file) if file else None

    def __repr__(self) -> str:
        """Say where it comes from, not what it is."""
        return f"<Login {self._file or ('given' if self._token else 'none')}>"

    def headers(self) -> dict[str, str]:
        """What presents it.

        Raises:
            ClientError: The file cannot be read, or what is given is no token.
        """
        token = self._token or ""
        if self._file:
            try:
                token = self._file.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is no text"
                raise ClientError(f"cannot read the token file {self._file}: {why}") from None
        if not (token.isascii() and token.isprintable()):
            raise ClientError("the token has characters that no token has")
        return {"Authorization": f"Bearer {token}"} if token else {}


class Transport:
    """The way to one daemon. Any thread may use it.

    Args:
        url: Where the daemon's page is. None: ``$DCNIOS_CLIENT_URL``, else http://127.0.0.1:8080.
        login: The token.
        ca_file: Certificates (PEM) to trust. None: ``$DCNIOS_CLIENT_CA_FILE``, else the system's.

    Raises:
        ValueError: It is no URL of a web server.
        OSError: The certificates cannot be read.
    """

    def __init__(self, url: str | None, login: Login, ca_file: str | Path | None) -> None:
        self.url = (url or os.environ.get("DCNIOS_CLIENT_URL") or DEFAULT_URL).rstrip("/")
        parts = urlsplit(self.url)
        if parts.username or parts.password:
            raise ValueError("the URL must hold no login: give token or token_file")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{self.url!r} is no URL of a daemon: write {DEFAULT_URL}")
        self._login = login
        trusted = ca_file or os.environ.get("DCNIOS_CLIENT_CA_FILE") or None
        secure = HTTPSHandler(context=ssl.create_default_context(cafile=trusted))
        self._opener = build_opener(_NoRedirections, secure)

    def send(self, ask: Ask) -> Answer:
        """Send it and read the answer, which may be that there was none.

        Raises:
            ClientError: It cannot be asked like that: token, certificate.
        """
        query = f"?{urlencode(ask.query)}" if ask.query else ""
        request = Request(f"{self.url}{ask.path}{query}", method=ask.method)  # noqa: S310 - the scheme is checked
        for name, value in self._login.headers().items():
            request.add_unredirected_header(name, value)
        try:
            with self._opener.open(request, timeout=WITHIN) as reply:
                return Answer(reply.status, reply.read())
        except HTTPError as error:
            return _refusal(error)
        except (OSError, HTTPException) as error:
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise ClientError(f"{self.url}: {cause.verify_message}: is ca_file right?") from error
            return Answer(0, trouble=f"{self.url}: {cause}")


def _refusal(error: HTTPError) -> Answer:
    body: IO[bytes] = error
    try:
        with error:
            return Answer(error.code, body.read())
    except (OSError, HTTPException) as cut:
        return Answer(0, trouble=str(cut))
