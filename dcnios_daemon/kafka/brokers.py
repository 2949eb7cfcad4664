"""The brokers of one cluster: how a client of the library reaches them, and what goes wrong with them in
our words."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dcnios_daemon.core.errors import DcniosError
from dcnios_daemon.kafka import library, login, wording
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
            login.Unusable: A file cannot be used.
        """
        return {
            "bootstrap_servers": list(self._bootstrap),
            "request_timeout_ms": _REQUEST_MS,
            **await asyncio.to_thread(login.options, self._security),
        }

    async def start(self, client: Any, options: dict[str, Any]) -> None:  # noqa: ANN401 - untyped
        """Start a client that was made with :meth:`options`. It is the caller's to stop, even if this fails.

        Raises the library's errors: use it within :meth:`failures`.
        """
        errors = (await library.load()).errors
        try:
            await client.start()
        except (errors.KafkaConnectionError, *library.LIES) as error:
            await self._find_out_why(options)
            raise errors.KafkaConnectionError(str(error)) from error

    async def _find_out_why(self, options: dict[str, Any]) -> None:
        """The library says *unable to bootstrap* for everything: ask the brokers what the matter is. One
        that refuses us tells more than others that are away."""
        login_options = {name: value for name, value in options.items() if name != "bootstrap_servers"}
        failures: list[OSError | RuntimeError] = []
        for address in self._bootstrap:
            try:
                await library.knock(address, login_options)
            except (OSError, RuntimeError) as error:
                failures.append(error)
        if failures:
            raise next(filter(wording.is_refusal, failures), failures[0])

    @contextmanager
    def failures(self) -> Iterator[None]:
        """What the library raises within becomes ``away`` (connect again later) or ``refused``."""
        try:
            yield
        except (OSError, RuntimeError) as error:  # TimeoutError and all of the library's are among them
            kind = self._refused if wording.is_refusal(error) else self._away
            raise kind(f"Kafka at {self.where}: {wording.reason(error, self._security)}") from error
