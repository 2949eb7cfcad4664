"""How we log in: the client library's options, from files that are read anew for each connection."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dcnios_daemon.core.settings import Secret
from dcnios_daemon.kafka import library
from dcnios_daemon.kafka.settings import KafkaSecurity


class Unusable(OSError):
    """A file cannot be used: it is missing, or is not what it should be. The message names key and file."""


def options(security: KafkaSecurity) -> dict[str, Any]:
    """What each client is made with. Reads files and loads the library: call it off the event loop.

    Raises:
        Unusable: A file cannot be used.
    """
    chosen: dict[str, Any] = {"security_protocol": security.protocol}
    if security.protocol.endswith("SSL"):
        chosen["ssl_context"] = _tls(security)
    if security.protocol.startswith("SASL"):
        chosen["sasl_mechanism"] = security.mechanism
    if security.token is not None:
        chosen["sasl_oauth_token_provider"] = _token_provider(security.token)
    if security.password is not None:
        chosen["sasl_plain_username"] = security.username
        chosen["sasl_plain_password"] = revealed("password", security.password)
    return chosen


def _tls(security: KafkaSecurity) -> ssl.SSLContext:
    with naming("ca_file", security.ca_file):
        context = ssl.create_default_context(cafile=security.ca_file)
    if security.client_cert is not None:
        with naming("client_cert", security.client_cert), security.client_cert.open("rb"):
            pass  # the library below would not say which of the two it misses
        with naming("client_key", security.client_key or security.client_cert):
            # An encrypted key must not make it ask on the terminal.
            context.load_cert_chain(security.client_cert, security.client_key, password="")
    return context


def _token_provider(token: Secret) -> Any:  # noqa: ANN401 - untyped
    """Gives the token to the library, read anew each time that a broker asks: at each connection, and so
    also after brokers closed one whose token had expired."""

    class TokenProvider(library.library().abc.AbstractTokenProvider):  # type: ignore[misc]
        async def token(self) -> str:
            return await asyncio.to_thread(revealed, "token", token)

    return TokenProvider()


def revealed(name: str, secret: Secret) -> str:
    """A secret that is not empty. Reads its file, if it has one.

    Raises:
        Unusable: It cannot.
    """
    with naming(f"{name}_file", secret.path):
        credential = secret.reveal()
    if not credential:
        raise Unusable(f"{name}_file {secret.path} is empty")
    return credential


@contextmanager
def naming(name: str, path: Path | None) -> Iterator[None]:
    """Failures to use a file within become :class:`Unusable`, which says which it is: TLS' own do not."""
    try:
        yield
    except ssl.SSLError as error:
        raise Unusable(
            f"{name} {path} is no certificate, or no key that fits one: {error.reason or 'not PEM'}"
        ) from error
    except OSError as error:
        raise Unusable(f"{name} {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Unusable(f"{name} {path} is no text") from error
