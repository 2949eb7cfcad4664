"""The brokers of one cluster: how a client of the library reaches them, and what goes wrong with them in
our words."""

import asyncio
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dcnios_daemon.core.errors import DcniosError
from dcnios_daemon.kafka import library
from dcnios_daemon.kafka.settings import KafkaSecurity

_REQUEST_MS = 15_000


class Brokers:
    """Where they are and how we log in. What they do wrong is raised in the caller's errors."""

    def __init__(
        self,
        *,
        bootstrap: Sequence[str],
        security: KafkaSecurity,
        away: Callable[[str], DcniosError],
        refused: Callable[[str], DcniosError],
    ) -> None:
        self._bootstrap = tuple(bootstrap)
        self._security = security
        self._away = away
        self._refused = refused

    @property
    def where(self) -> str:
        """The brokers to begin with, for messages."""
        return ", ".join(self._bootstrap)

    async def options(self) -> dict[str, Any]:
        """The arguments with which each client of the library is made. Reads files, anew at each call.

        Raises:
            OSError: A file cannot be read.
        """
        return {
            "bootstrap_servers": list(self._bootstrap),
            "request_timeout_ms": _REQUEST_MS,
            **await asyncio.to_thread(_login, self._security),
        }

    async def start(self, client: Any, options: Mapping[str, Any]) -> None:  # noqa: ANN401 - untyped
        """Start a client that was made with :meth:`options`. It is the caller's to stop, even if this fails.

        Raises the library's errors: use it within :meth:`failures`.
        """
        errors = (await library.load()).errors
        try:
            await client.start()
        except errors.KafkaConnectionError:
            await self._find_out_why(options)
            raise

    async def _find_out_why(self, options: Mapping[str, Any]) -> None:
        """The library says *unable to bootstrap* for everything: ask a broker what the matter is."""
        login = {name: value for name, value in options.items() if name != "bootstrap_servers"}
        create_conn = library.library().conn.create_conn
        for address in self._bootstrap:
            host, _, port = address.rpartition(":")
            (await create_conn(host.strip("[]"), int(port), **login)).close()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """What the library raises within becomes ``away`` (connect again later) or ``refused``."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            message = f"the certificate of {self.where} is not trusted: {error.verify_message}"
            raise self._refused(message) from error
        except OSError as error:  # TimeoutError included
            raise self._away(f"Kafka at {self.where}: {_text(error)}") from error
        except RuntimeError as error:  # KafkaError is one
            kind = self._refused if library.is_refusal(error) else self._away
            raise kind(f"Kafka at {self.where}: {_text(error)}") from error


def _login(security: KafkaSecurity) -> dict[str, Any]:
    options: dict[str, Any] = {"security_protocol": security.protocol}
    if security.protocol.endswith("SSL"):
        options["ssl_context"] = ssl.create_default_context(cafile=security.ca_file)
    if security.password is not None:
        options["sasl_mechanism"] = security.mechanism
        options["sasl_plain_username"] = security.username
        options["sasl_plain_password"] = security.password.reveal()
    return options


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
