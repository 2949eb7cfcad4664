"""Reads the event stream: counts its ids, hears what the channel says of itself, hands on the rest.

Ids are dense from 0 (``Channel.sendEvent``): any gap is a loss. ``SYSTEM`` events have none and are not kept
for those who are away, so what matters of them is also told otherwise.
"""

import asyncio

import aiohttp
import msgspec

from dcnios_daemon.core.errors import Disconnected
from dcnios_daemon.sources.dcache.connection import Connection
from dcnios_daemon.sources.dcache.inotify import Note, System
from dcnios_daemon.sources.dcache.interpreter import Interpreter
from dcnios_daemon.sources.dcache.sse import Decoder, Frame
from dcnios_daemon.sources.dcache.walker import Walker
from dcnios_daemon.telemetry.events import InputMalformed


class Reader:
    """Reads one connection's stream.

    Args:
        connection: What is shared.
        response: The stream.
        expected: The id that comes next; None if that is not known.
        interpreter: Understands inotify events.
        walker: Told of losses.
    """

    def __init__(
        self,
        connection: Connection,
        response: aiohttp.ClientResponse,
        *,
        expected: int | None,
        interpreter: Interpreter,
        walker: Walker,
    ) -> None:
        self._connection = connection
        self._response = response
        self._expected = expected
        self._interpreter = interpreter
        self._walker = walker
        self._decoder = Decoder()
        self._is_contested = False
        self.may_read = asyncio.Event()
        """Cleared while the journal is full: then the server keeps what comes, as far as it can."""
        self.may_read.set()

    async def run(self) -> None:
        """Read until another client takes the channel, which the ledger is told.

        Raises:
            Disconnected: The stream ended, fell silent or was shut down.
        """
        while not self._is_contested:
            await self.may_read.wait()
            await self._connection.ledger.has_room()
            with self._connection.frontend.failures_as_ours():
                chunk = await self._response.content.readany()
            if not chunk:
                raise Disconnected("the event stream ended")
            for frame in self._decoder.feed(chunk):
                await self._take(frame)

    async def _take(self, frame: Frame) -> None:
        if frame.kind == "SYSTEM":
            self._hear(frame)
            return
        number = self._number(frame)
        if number is None:
            return
        if frame.kind == "inotify":
            await self._tell(frame, number)
        self._connection.ledger.passed(number)

    def _number(self, frame: Frame) -> int | None:
        """The frame's id; None if it has been here before or is unreadable."""
        if frame.id is None or not frame.id.isdecimal():
            self._unreadable(frame, f"no number: {frame.id!r}")
            return None
        number = int(frame.id)
        if self._expected is not None and number < self._expected:
            return None
        if self._expected is not None and number > self._expected:
            self._walker.owe("gap")
        self._expected = number + 1
        return number

    async def _tell(self, frame: Frame, number: int) -> None:
        if frame.cut:
            self._unreadable(frame, "too long")
            return
        try:
            note = msgspec.json.decode(frame.data, type=Note)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._unreadable(frame, str(error))
            return
        watches = self._connection.watches
        place = watches.place(note.subscription)
        while place is None and self._walker.may_learn(
            note.subscription
        ):  # told before the answer to our subscription
            await self._walker.stepped()
            place = watches.place(note.subscription)
        if place is not None:
            self._interpreter.take(note, place, data=frame.data, number=number)

    def _hear(self, frame: Frame) -> None:
        try:
            said = msgspec.json.decode(frame.data, type=System).type
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._unreadable(frame, str(error))
            return
        if said == "EVENT_LOSS":
            self._expected = None
            self._walker.owe("loss")
        elif said == "SHUTDOWN":
            raise Disconnected("the frontend shuts down")
        elif said == "COMPETING_CLIENT":
            self._is_contested = True
            self._connection.ledger.contested(self._connection.clock.now())

    def _unreadable(self, frame: Frame, error: str) -> None:
        what = f"{frame.kind} event {frame.id}"
        InputMalformed(source=self._connection.source, what=what, error=error).emit()
        self._walker.owe("unreadable")
