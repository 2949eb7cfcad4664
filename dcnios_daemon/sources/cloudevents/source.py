"""The source: takes requests, answers once what is in them is in the journal."""

import asyncio
from http import HTTPStatus

from dcnios_daemon.core.clock import Clock, SystemClock
from dcnios_daemon.core.ports import Batch, Inbound, Reply
from dcnios_daemon.sources.cloudevents import handshake
from dcnios_daemon.sources.cloudevents.reading import BatchTooLong, Reading, UnknownFormat, read_request
from dcnios_daemon.sources.cloudevents.settings import CloudEventsSettings
from dcnios_daemon.sources.inbound import Mailbox
from dcnios_daemon.telemetry import events as telemetry

_LARGE = 128 * 1024
"""Bytes of a body from which on it is read off the event loop."""
_REFUSALS = {
    UnknownFormat: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    BatchTooLong: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}
_NAMED = 10
"""How many of a batch's mistakes are named."""


class CloudEventsSource:
    """Implements :class:`~dcnios_daemon.core.ports.Source` and ``Receiver``.

    Args:
        name: The source's name in the configuration.
        settings: Its block there.
        clock: Tells the time.
    """

    def __init__(
        self, *, name: str, settings: CloudEventsSettings | None = None, clock: Clock | None = None
    ) -> None:
        self._name = name
        self._settings = settings or CloudEventsSettings()
        self._clock = clock or SystemClock()
        self._mailbox = Mailbox()

    async def connect(self, cursor: str | None) -> None:
        """There is nothing to connect to, and nothing to go on after."""

    async def read(self) -> Batch:
        """All that came in since the last read."""
        return await self._mailbox.collect()

    async def ack(self, batch: Batch) -> None:
        """Answer the callers."""
        self._mailbox.acknowledge(batch)

    async def pause(self) -> None:
        """Answer that we are busy."""
        self._mailbox.pause()

    async def resume(self) -> None:
        """Take events again."""
        self._mailbox.resume()

    async def aclose(self) -> None:
        """Turn away who waits."""
        self._mailbox.close()

    async def receive(self, request: Inbound) -> Reply:
        """Events (POST), a handshake (OPTIONS), or a look whether we are there (GET, HEAD)."""
        if request.method in {"GET", "HEAD"}:
            return Reply(HTTPStatus.OK)
        if self._settings.retired:
            return Reply(HTTPStatus.GONE, "this source takes no more events: send none\n")
        if request.method == "OPTIONS":
            return handshake.answer(request.headers, self._settings.allowed_origins)
        if request.method != "POST":
            return Reply(HTTPStatus.METHOD_NOT_ALLOWED, "POST a CloudEvent\n", {"allow": handshake.METHODS})
        if handshake.is_refused(request.headers, self._settings.allowed_origins):
            return Reply(HTTPStatus.FORBIDDEN, "this WebHook-Request-Origin may not send events here\n")
        try:
            reading = await self._read(request)
        except (UnknownFormat, BatchTooLong) as error:
            self._complain(request, str(error))
            return Reply(_REFUSALS[type(error)], f"{error}\n")
        return await self._take(request, reading)

    async def _read(self, request: Inbound) -> Reading:
        now = self._clock.now()
        if len(request.body) < _LARGE:
            return read_request(request.headers, request.body, source=self._name, now=now)
        return await asyncio.to_thread(
            read_request, request.headers, request.body, source=self._name, now=now
        )

    async def _take(self, request: Inbound, reading: Reading) -> Reply:
        """The good events of a batch are kept whatever the others are; the answer is about the others.

        A sender that gives a refused batch up has then lost only what was never an event, and one that
        mends it and sends it again is known by the keys. 400 for all, or 200, would lose something.
        """
        reply = await self._mailbox.post(reading.events)
        if reply.status != HTTPStatus.OK:
            return reply
        taken = f"{len(reading.events)} taken\n"
        if not reading.mistakes:
            return Reply(HTTPStatus.OK, taken)
        named = "".join(f"{mistake}\n" for mistake in reading.mistakes[:_NAMED])
        refused = f"{len(reading.mistakes)} refused, {taken}{named}"
        self._complain(request, refused)
        return Reply(HTTPStatus.BAD_REQUEST, refused)

    def _complain(self, request: Inbound, error: str) -> None:
        what = f"{request.method} request of {len(request.body)} bytes"
        telemetry.InputMalformed(source=self._name, what=what, error=error).emit()


def build(*, name: str, settings: CloudEventsSettings, instance: str) -> CloudEventsSource:  # noqa: ARG001 - all kinds are built alike
    """See :class:`~dcnios_daemon.sources.registry.SourceKind`."""
    return CloudEventsSource(name=name, settings=settings)
