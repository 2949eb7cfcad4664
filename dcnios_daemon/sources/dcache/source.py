"""The dCache source: one channel of the frontend, kept over restarts, with all that makes it trustworthy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import aiohttp
import msgspec

from dcnios_daemon.core.clock import Clock, SystemClock
from dcnios_daemon.core.errors import Rejected
from dcnios_daemon.core.patience import backoff
from dcnios_daemon.core.ports import Batch
from dcnios_daemon.sources.dcache.client.channel import Channel
from dcnios_daemon.sources.dcache.client.frontend import Frontend
from dcnios_daemon.sources.dcache.client.inotify import tail
from dcnios_daemon.sources.dcache.connection import Connection
from dcnios_daemon.sources.dcache.facts import Facts
from dcnios_daemon.sources.dcache.interpreter import Interpreter
from dcnios_daemon.sources.dcache.ledger import Ledger, Position
from dcnios_daemon.sources.dcache.looker import Looker
from dcnios_daemon.sources.dcache.reader import Reader
from dcnios_daemon.sources.dcache.settings import DcacheSettings
from dcnios_daemon.sources.dcache.tape import Tape
from dcnios_daemon.sources.dcache.timing import Timing
from dcnios_daemon.sources.dcache.unfinished import Unfinished
from dcnios_daemon.sources.dcache.walker import Walker
from dcnios_daemon.sources.dcache.watches import Watches
from dcnios_daemon.sources.time_limits import first_error
from dcnios_daemon.telemetry.events import ChannelContested


class DcacheSource:
    """Watches directories. See :class:`dcnios_daemon.core.ports.Source`; it also is ``Working``."""

    def __init__(
        self,
        *,
        name: str,
        settings: DcacheSettings,
        instance: str,
        clock: Clock | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._name = name
        self._settings = settings
        self._client_id = f"dcnios-{instance}-{name}"
        self._clock = clock or SystemClock()
        self._timing = timing or Timing()
        self._frontend = Frontend(settings, silence=self._timing.silence, rate=self._timing.rate)
        self._response: aiohttp.ClientResponse | None = None
        self._ledger = Ledger(Position())
        self._reader: Reader | None = None
        self._walker: Walker | None = None
        self._looker: Looker | None = None
        self._given: Batch | None = None

    # --- the port -------------------------------------------------------------------------------------

    async def connect(self, cursor: str | None) -> None:
        """Go on in the channel where the cursor says; in any other, list everything.

        Raises:
            Disconnected, Rejected: See :class:`dcnios_daemon.core.ports.Source`.
        """
        stored = Position.decode(cursor)
        await self._frontend.open()
        channel = await Channel.find_or_make(self._frontend, self._client_id, known=stored.channel)
        resumes = stored.id is not None and stored.channel == channel.url
        position = (
            stored
            if resumes
            else msgspec.structs.replace(
                Position(channel=channel.url), contests=stored.contests, contested_at=stored.contested_at
            )
        )
        self._response = await channel.open_stream(position.id)
        walker, reader = self._assemble(channel, position, self._response)
        async with _while(reader.run()):  # whatever is told again holds up our calls until it is read
            await self._beat(channel, anchor=not resumes)
            knew_all = await walker.watch_roots()
        if not resumes:
            walker.owe("new channel" if channel.is_new else "other channel")
        elif not stored.listed:
            walker.owe("unfinished")
        elif (
            not knew_all
            or "staged" in self._settings.on
            or any(watch.recursive for watch in self._settings.watch.values())
        ):
            walker.owe("start")
        else:
            walker.resume(stored.listed_at)

    async def work(self) -> None:
        """Keep up with the stream, look at what it told, list what it may have missed."""
        if self._reader is None or self._walker is None or self._looker is None:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reader.run(), name=f"{self._name}: stream")
            group.create_task(self._reader.learn(), name=f"{self._name}: parked events")
            group.create_task(self._walker.run(), name=f"{self._name}: listing")
            group.create_task(self._looker.run(), name=f"{self._name}: looking")

    async def read(self) -> Batch:
        """What is certain by now; a batch that was not acknowledged comes again.

        Raises:
            Rejected: Another client took the channel, and the journal knows it.
        """
        while self._given is None:
            if contests := self._ledger.contests:
                raise self._contested(contests)
            self._ledger.to_give.clear()
            self._given = self._ledger.batch(self._clock.monotonic())
            if self._given is None:
                await self._ledger.to_give.wait()
        return self._given

    async def ack(self, batch: Batch) -> None:  # noqa: ARG002 - there is one batch at a time
        """The journal has it, position included: there is nobody else to tell."""
        self._given = None

    async def pause(self) -> None:
        """Read the stream no further. The server keeps some thousand events, and says when it could not."""
        if self._reader is not None:
            self._reader.may_read.clear()

    async def resume(self) -> None:
        """Read on."""
        if self._reader is not None:
            self._reader.may_read.set()

    async def aclose(self) -> None:
        """Disconnect. The channel stays, for the next connection to go on in it."""
        if self._response is not None:
            self._response.close()
        await self._frontend.aclose()

    def _contested(self, times: int) -> Rejected:
        """Once the other may be one that is ending, or just starting anew: then our turn comes. More often:
        two that take the channel from each other for ever would list everything each time."""
        shared = (
            f"two daemons share the client-id {self._client_id} (daemon.instance and the name of source"
            f" {self._name!r}): give one of them another instance"
        )
        if times == 1:
            why = f"another client took our channel, which is left to it for a while: perhaps {shared}"
            return Rejected(why, wait=self._timing.give_way)
        away = backoff(times - 1, first=self._timing.stay_away, most=self._timing.longest_away, dice=1.0)
        ChannelContested(source=self._name, client_id=self._client_id, error=shared, away=away).emit()
        return Rejected(shared, wait=away)

    # --- putting it together --------------------------------------------------------------------------

    async def _beat(self, channel: Channel, *, anchor: bool) -> None:
        """A heartbeat, without which a silent stream cannot be told from a dead one; and, where there is no
        id to resume from yet, one event at once."""
        for url in () if channel.is_new else await channel.subscriptions():
            if tail(url).startswith("metronome/"):
                await channel.delete(url)
        if anchor:
            await channel.subscribe("metronome", {"delay": 1, "count": 1})
        await channel.subscribe("metronome", {"delay": self._timing.beat})

    def _assemble(
        self, channel: Channel, position: Position, stream: aiohttp.ClientResponse
    ) -> tuple[Walker, Reader]:
        unfinished = Unfinished(self._timing)
        self._ledger = Ledger(position, store_every=self._timing.store, unfinished=unfinished)
        connection = Connection(
            source=self._name,
            settings=self._settings,
            frontend=self._frontend,
            channel=channel,
            watches=Watches(),
            ledger=self._ledger,
            facts=Facts(source=self._name, clock=self._clock),
            tape=Tape(self._name),
            clock=self._clock,
            timing=self._timing,
        )
        walker = Walker(connection)
        interpreter = Interpreter(connection, walker)
        first = 0 if channel.is_new else None
        self._reader = Reader(
            connection,
            stream,
            expected=first if position.id is None else position.id + 1,
            interpreter=interpreter,
            walker=walker,
        )
        self._looker = Looker(connection, left=interpreter.left)
        self._walker = walker
        return walker, self._reader


@contextlib.asynccontextmanager
async def _while(reading: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Read on while something else is done."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(reading)
            yield
            task.cancel()
    except BaseExceptionGroup as raised:
        raise first_error(raised) from raised
