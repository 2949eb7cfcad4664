"""Reads the event stream: counts its ids, hears what the channel says of itself, hands on the rest.

Ids are dense from 0 (``Channel.sendEvent``): any gap is a loss. ``SYSTEM`` events have none and are not kept
for those who are away, so what matters of them is also told otherwise.

Events may come before the answer to the subscription that they belong to, and at a restart before the walk
has come to their directory. They are parked, and the stream is read on: dCache holds the channel's lock while
a client is slow, so that the very calls that would tell whose they are could not be answered.
"""

import asyncio
from typing import Never

import aiohttp
import msgspec

from dcnios_daemon.core.errors import Disconnected
from dcnios_daemon.sources.dcache.client.inotify import Note, System
from dcnios_daemon.sources.dcache.client.sse import Decoder, Frame
from dcnios_daemon.sources.dcache.connection import Connection
from dcnios_daemon.sources.dcache.interpreter import Interpreter
from dcnios_daemon.sources.dcache.walker import Walker
from dcnios_daemon.telemetry.events import InputMalformed

_MOST_PARKED = 20_000
"""More than a channel keeps for those who are away."""
_LEARN_EVERY = 0.02
"""Seconds between looks at what is parked while the walker goes on."""


class _Told(msgspec.Struct, frozen=True):
    note: Note
    data: bytes
    number: int


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
        self._parked: list[_Told] = []
        self._has_parked = asyncio.Event()
        self._is_early = True
        """Whether the walker has not begun."""
        self.may_read = asyncio.Event()
        """Cleared while the journal is full: then the server keeps what comes, as far as it can."""
        self.may_read.set()

    async def learn(self) -> Never:
        """Hand on what was parked, as the walker goes on."""
        self._is_early = False
        while True:
            await self._has_parked.wait()
            self._unpark_all()
            if self._parked:
                await self._walker.stepped()
                await asyncio.sleep(_LEARN_EVERY)
            else:
                self._has_parked.clear()

    async def run(self) -> None:
        """Read until another client takes the channel, which the ledger is told. Cancelling loses nothing.

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
                self._take(frame)

    def _take(self, frame: Frame) -> None:
        if frame.kind == "SYSTEM":
            self._hear(frame)
            return
        number = self._number(frame)
        if number is None:
            return
        if frame.kind == "inotify":
            self._tell(frame, number)
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

    def _tell(self, frame: Frame, number: int) -> None:
        if frame.cut:
            self._unreadable(frame, "too long")
            return
        try:
            note = msgspec.json.decode(frame.data, type=Note)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._unreadable(frame, str(error))
            return
        told = _Told(note, frame.data, number)
        if not self._place(told) and (self._is_early or self._walker.may_learn(note.subscription)):
            self._park(told)

    def _place(self, told: "_Told") -> bool:
        """Hand it on, if it is known which directory it tells of."""
        place = self._connection.watches.place(told.note.subscription)
        if place is not None:
            self._interpreter.take(told.note, place, data=told.data, number=told.number)
        return place is not None

    def _park(self, told: "_Told") -> None:
        self._parked.append(told)
        self._connection.ledger.park(told.number)
        self._has_parked.set()
        if len(self._parked) > _MOST_PARKED:
            self._unpark_all()
            self._walker.owe("unknown")

    def _unpark_all(self) -> None:
        """Keep what is still not known and may be yet; and nothing, if it is too much."""
        parked, self._parked = self._parked, []
        is_too_much = len(parked) > _MOST_PARKED
        for told in parked:
            is_placed = self._place(told)
            if is_placed or is_too_much or not self._walker.may_learn(told.note.subscription):
                self._connection.ledger.unpark(told.number)
            else:
                self._parked.append(told)

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
