"""The one supervised loop that every source runs in, and the door to those that are told over HTTP.

Three rules make it lose nothing and double nothing. A batch in hand is appended, again and again if need be,
before anything else is read. Only what the journal has committed is acknowledged. After any error the source
is built anew and goes on from the cursor that was committed with the last batch.

A bad event cannot hold up the good ones behind it: sources turn what they cannot read into a refusal or into
bytes, :mod:`~dcnios_daemon.sources.admission` makes every event fit for the journal, routing cannot fail.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Never

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import (
    JournalCorrupt,
    JournalError,
    JournalFull,
    JournalUnavailable,
    Malformed,
    SourceError,
)
from dcnios_daemon.core.patience import backoff, pause_after
from dcnios_daemon.core.ports import (
    Admission,
    Appended,
    Batch,
    Following,
    Gate,
    Inbound,
    Journal,
    Receiver,
    Reply,
    Source,
    Working,
)
from dcnios_daemon.core.routing import Router
from dcnios_daemon.sources.admission import admit
from dcnios_daemon.sources.inbound import busy
from dcnios_daemon.sources.status import SourceState, SourceStatus
from dcnios_daemon.sources.time_limits import first_error, is_cancelled, unbroken, within
from dcnios_daemon.telemetry import events as telemetry

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds between tries, doubling from the first to the longest; the first again once a source was connected
for longer than it would be left alone. A batch that went well does not count: a source that gives one each
time before it fails would be tried at the first pause for ever."""
CONNECT_WITHIN = 60.0
"""Seconds for a source to connect, or to acknowledge."""
FINISH_WITHIN = 5.0
"""Seconds that a stop leaves to a batch in the middle of its append, and again to closing the source."""


class SourceRunner:
    """Runs one source for the daemon's life. It stays while the source inside it is built anew, so that it
    can be handed to the web server as the source's :class:`~dcnios_daemon.core.ports.Receiver`.

    Args:
        name: The source's name in the configuration.
        build: Makes the source; called for each connection.
        journal: Where events go.
        gate: Shut while the journal is full.
        router: Which routes an event takes.
        clock: Tells the time.
    """

    def __init__(
        self,
        *,
        name: str,
        build: Callable[[], Source],
        journal: Journal,
        gate: Gate,
        router: Router,
        clock: Clock,
    ) -> None:
        self.name = name
        self.router = router
        """May be replaced at any time: the next batch is routed by the new one."""
        self.status = SourceStatus(name=name, since=clock.now())
        self._build = build
        self._journal = journal
        self._gate = gate
        self._clock = clock
        self._receiver: Receiver | None = None
        self._reading: asyncio.Timeout | None = None
        self._failures = 0
        self._waits = 0
        """Failures in a row that asked to be left alone."""
        self._connected_at: float | None = None

    async def run(self) -> Never:
        """Read for ever. Cancelling finishes an append under way, acknowledges it, and closes the source.

        Raises:
            JournalCorrupt: Nothing can be accepted any more.
        """
        while True:
            self._is(SourceState.CONNECTING)
            self._connected_at = None
            try:
                await self._session()
            except Exception as raised:  # any error of a source means: build it anew
                if is_cancelled():
                    raise asyncio.CancelledError from raised
                await self._fail(first_error(raised))

    async def receive(self, request: Inbound) -> Reply:
        """Hand an HTTP request to the source as it is now; while there is none, answer that it is busy.

        What the source cannot make sense of is answered 400 with its words, and said.
        """
        receiver = self._receiver
        if receiver is None:
            return busy(f"source {self.name!r} is not connected")
        try:
            return await receiver.receive(request)
        except Malformed as error:
            what = f"{request.method} request of {len(request.body)} bytes"
            telemetry.InputMalformed(source=self.name, what=what, error=str(error)).emit()
            return Reply(400, f"{error}\n")

    # --- one connection ---------------------------------------------------------------------------------

    async def _session(self) -> Never:
        source = self._build()
        if isinstance(source, Following):
            source.follow(self._journal.ended)
        try:
            cursor = await self._journal.cursor(self.name)
            async with within(CONNECT_WITHIN, "connect"):
                await source.connect(cursor)
            self._connected_at = self._clock.monotonic()
            self._receiver = source if isinstance(source, Receiver) else None
            self._is(SourceState.CONNECTED)
            telemetry.SourceConnected(source=self.name).emit()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._mind_gate(), name=f"{self.name}: gate")
                if isinstance(source, Working):
                    group.create_task(source.work(), name=f"{self.name}: work")
                while True:
                    await self._turn(source)
        finally:
            self._receiver = None
            await self._close(source)

    async def _turn(self, source: Source) -> None:
        if self._gate.reason is not None:
            async with self._paused(source, self._gate.reason):
                await self._gate.wait_open()
        batch = await self._read(source)
        if batch is not None:
            await self._take(source, batch)

    async def _read(self, source: Source) -> Batch | None:
        """The next batch; None when the gate was shut before there was one."""
        try:
            async with asyncio.timeout(None) as self._reading:
                return await source.read()
        except TimeoutError:
            if self._reading is not None:
                raise
            return None
        finally:
            self._reading = None

    async def _mind_gate(self) -> Never:
        """Interrupt a read that waits while the gate shuts, so that the source is paused then, not later."""
        while True:
            await self._gate.wait_shut()
            reading, self._reading = self._reading, None
            if reading is not None:
                reading.reschedule(0.0)
            await self._gate.wait_open()

    # --- one batch --------------------------------------------------------------------------------------

    async def _take(self, source: Source, batch: Batch) -> None:
        """Bring the batch into the journal, however long that takes, and acknowledge it."""
        now = self._clock.now()
        admissions = [admit(event, self.router, now=now) for event in batch.events]
        refused = await self._try(source, batch, admissions)
        if refused is None:
            return
        async with self._paused(source, str(refused)):
            tries = 1
            while refused is not None:
                await self._until_worth_trying(refused, tries)
                refused = await self._try(source, batch, admissions)
                tries += 1

    async def _try(
        self, source: Source, batch: Batch, admissions: Sequence[Admission]
    ) -> JournalError | None:
        """Append and acknowledge; a stop meanwhile lets both end. Returns why the journal did not take it."""
        try:
            await unbroken(lambda: self._settle(source, batch, admissions), leave=FINISH_WITHIN)
        except (JournalFull, JournalUnavailable) as error:
            return error
        return None

    async def _settle(self, source: Source, batch: Batch, admissions: Sequence[Admission]) -> None:
        if admissions or batch.cursor is not None:
            appended = await self._journal.append(self.name, admissions, batch.cursor)
            if admissions:
                self._count(appended, unrouted=sum(not admission.routes for admission in admissions))
        async with within(CONNECT_WITHIN, "acknowledge"):
            await source.ack(batch)

    async def _until_worth_trying(self, refused: JournalError, tries: int) -> None:
        if isinstance(refused, JournalFull):
            await self._gate.wait_open()
            await asyncio.sleep(FIRST_PAUSE if tries > 1 else 0)
        else:
            await asyncio.sleep(_pause(tries))

    @contextlib.asynccontextmanager
    async def _paused(self, source: Source, why: str) -> AsyncIterator[None]:
        self._is(SourceState.PAUSED, why)
        telemetry.SourcePaused(source=self.name, why=why).emit()
        async with within(CONNECT_WITHIN, "pause"):
            await source.pause()
        yield
        async with within(CONNECT_WITHIN, "resume"):
            await source.resume()
        self._is(SourceState.CONNECTED)
        telemetry.SourceResumed(source=self.name).emit()

    # --- when it goes wrong, and what is known ----------------------------------------------------------

    async def _fail(self, error: BaseException) -> None:
        if isinstance(error, JournalCorrupt):
            raise error
        again_in = self._again_in(error)
        said = str(error) or type(error).__name__
        self._is(SourceState.FAILED, said)
        self.status.again_at = self.status.since + again_in
        telemetry.SourceFailed(source=self.name, error=said, again_in=round(again_in, 3)).emit()
        await _rest(again_in, error)

    def _again_in(self, error: BaseException) -> float:
        """Seconds: by our own patience, or longer where the source knows that the neighbour wants it."""
        if self._connected_at is not None:
            well = self._clock.monotonic() - self._connected_at
            if well >= _longest_pause(self._failures + 1):
                self._failures = 0
        self._failures += 1
        pause = _pause(self._failures)
        if not isinstance(error, SourceError) or not error.wait:
            self._waits = 0
            return pause
        self._waits += 1
        return max(pause, backoff(self._waits, first=error.wait, most=error.longest, dice=1.0))

    async def _close(self, source: Source) -> None:
        try:
            async with within(FINISH_WITHIN, "close"):
                await source.aclose()
        except Exception as error:  # noqa: BLE001 - a source that cannot be closed must not hide why it was
            telemetry.SourceCloseFailed(source=self.name, error=str(error) or type(error).__name__).emit()

    def _is(self, state: SourceState, error: str | None = None) -> None:
        self.status.state = state
        self.status.since = self._clock.now()
        self.status.again_at = None
        if state is SourceState.CONNECTED:
            self.status.error = ""
        elif error is not None:
            self.status.error = self.status.last_error = error

    def _count(self, appended: Appended, *, unrouted: int) -> None:
        self.status.accepted += appended.accepted
        self.status.duplicates += appended.duplicates
        self.status.last_accepted = self._clock.now()
        telemetry.EventsAccepted(
            source=self.name,
            accepted=appended.accepted,
            duplicates=appended.duplicates,
            unrouted=unrouted,
        ).emit()


def _pause(failures: int) -> float:
    return pause_after(failures, first=FIRST_PAUSE, most=LONGEST_PAUSE)


def _longest_pause(failures: int) -> float:
    return backoff(failures, first=FIRST_PAUSE, most=LONGEST_PAUSE, dice=1.0)


async def _rest(seconds: float, error: BaseException) -> None:
    sooner = error.sooner if isinstance(error, SourceError) else None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await (asyncio.Event().wait() if sooner is None else sooner())
