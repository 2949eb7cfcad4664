"""Looks whether receivers are there and know us, without sending them an event."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import SinkError
from dcnios_daemon.kubernetes.login import KubernetesSettings
from dcnios_daemon.sinks.http.client import Client
from dcnios_daemon.sinks.http.settings import HttpRun


async def check(
    *,
    kubernetes: KubernetesSettings,  # noqa: ARG001 - all kinds are asked alike
    any_payload: bool,  # noqa: ARG001
    runs: Mapping[str, HttpRun],
) -> Sequence[str]:
    """What is missing. See :class:`~dcnios_daemon.sinks.registry.SinkKind`."""
    return [finding for place, run in runs.items() for finding in await _look(place, run)]


async def _look(place: str, run: HttpRun) -> list[str]:
    """``OPTIONS`` changes nothing; a receiver that does not know it (405, 501) is there all the same."""
    client = Client(run.url, run.access(), SystemClock())
    try:
        answer = await client.ask("OPTIONS", {}, None)
    except SinkError as error:
        return [f"{error}: correct {place}.url, or start it"]
    finally:
        await client.aclose()
    if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return [f"{client.where} answers {answer.status}: correct {place}.token, or username and password"]
    if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return [f"{client.where} answers {answer.status}: correct {place}.url"]
    if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
        return [f"{client.where} answers {answer.status} with {answer.location!r}: correct {place}.url"]
    return []
