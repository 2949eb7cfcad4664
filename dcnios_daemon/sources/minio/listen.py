"""What MinIO tells on a connection that we hold open: ``GET /<bucket>?events=…``, an answer without end.

From ``cmd/listen-notification-handlers.go``: each line is a document with one record, its key not quoted; a
line without records comes as often as ``ping`` asks. Servers before April 2023 send a space twice a second
instead. The answer's head comes with the first of these, when we are subscribed; servers since October 2025
keep both to themselves for good (52eee5a2f in MinIO). Another store may answer with something else, such as a
listing.

It is lossy by design: whoever reads too slowly is left out without a word, and nothing is kept for those who
come back. So every stream that was opened is followed by a listing, and one that we could not read fast
enough is closed, not caught up with.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Never, Protocol

import aiohttp

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import Malformed, Rejected, StoreError, StoreUnavailable
from dcnios_daemon.core.patience import pause_after
from dcnios_daemon.sources.minio.filters import wanted_of
from dcnios_daemon.sources.minio.records import Happening, read_line
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.telemetry import events as telemetry

PING = 1
"""Seconds between the lines of a quiet stream, which its head waits for, too."""
SILENCE = 10.0
"""Seconds without a byte after which a stream is dead."""
SLUGGISH = 5.0
"""Seconds that the journal may take for what was read before MinIO may have left something out."""
STEADY = 30.0
"""Seconds after which a stream that breaks counts as one that was well."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before a stream is opened again, doubling from the first to the longest."""
HELD_BACK = "a proxy keeps it, or the store is a MinIO of October 2025 or later, which does: use its webhook"
LONGEST_LINE = 1 << 20
"""Bytes. A record holds a key of up to 1 kB and user metadata of some kilobytes."""

_STREAM = "text/event-stream"


class Hearer(Protocol):
    """What is needed of :class:`~dcnios_daemon.staging.s3.S3Client`."""

    def get(
        self, bucket: str, query: Sequence[tuple[str, str]], *, silence: float
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A signed GET of the bucket, broken off after so many seconds without a byte."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class Lines:
    """Cuts what arrives into lines, whatever the pieces."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece, without those that are blank.

        Raises:
            StoreUnavailable: One is too long.
        """
        *ended, rest = piece.split(b"\n")
        if ended:
            ended[0] = b"".join((*self._begun, ended[0]))
            self._begun, self._size = [], 0
        if rest.strip() or self._begun:
            self._begun.append(rest)
            self._size += len(rest)
        if max(self._size, *map(len, ended), 0) > LONGEST_LINE:
            raise StoreUnavailable(f"a line of over {LONGEST_LINE} bytes")
        return [line for line in ended if line.strip()]


def query(settings: MinioSettings) -> list[tuple[str, str]]:
    """What to ask for: all that is wanted, and as little else as MinIO's filters can say."""
    wanted = wanted_of(settings)
    filters = [("prefix", wanted.prefix), ("suffix", wanted.suffix)]
    return [
        *(("events", name) for name in wanted.events),
        ("ping", str(PING)),
        *((name, text) for name, text in filters if text),
    ]


@asynccontextmanager
async def open_stream(
    hearer: Hearer, bucket: str, settings: MinioSettings
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The stream of a bucket, once we are subscribed.

    Raises:
        StoreUnavailable: The store does not answer, or the stream breaks.
        StoreError: It refuses, or does not know how.
    """
    is_open = False
    try:
        async with hearer.get(bucket, query(settings), silence=SILENCE) as answer:
            if answer.content_type != _STREAM:
                raise StoreError(f"the store does not know how: it answers {answer.content_type}")
            is_open = True
            yield answer
    except StoreUnavailable as error:
        if is_open or not isinstance(error.__cause__, TimeoutError):
            raise
        raise StoreUnavailable(f"nothing came in {SILENCE:g} s: {HELD_BACK}") from error


class Listener:
    """Listens to one bucket.

    Args:
        bucket: Its name.
        source: The source's name, for what is said.
        settings: Its block in the configuration.
        hearer: The client.
        take: Takes what was heard; returns once that is committed.
        gap: Called whenever something may have been missed.
        clock: Tells the time.
    """

    def __init__(  # noqa: PLR0913 - all by keyword, called in one place
        self,
        bucket: str,
        *,
        source: str,
        settings: MinioSettings,
        hearer: Hearer,
        take: Callable[[Sequence[Happening]], Awaitable[None]],
        gap: Callable[[], None],
        clock: Clock,
    ) -> None:
        self.bucket = bucket
        self.opened = asyncio.Event()
        """Set while the stream is open."""
        self._source = source
        self._settings = settings
        self._hearer = hearer
        self._take = take
        self._gap = gap
        self._clock = clock
        self._may_listen = asyncio.Event()
        self._may_listen.set()
        self._pauses = 0

    def pause(self) -> None:
        """Read no further; a stream that stays unread loses events, so it is closed, at the next ping."""
        self._pauses += 1
        self._may_listen.clear()
        self.opened.clear()

    def resume(self) -> None:
        """Open it again."""
        self._may_listen.set()

    async def run(self) -> Never:
        """Listen until cancelled. A stream that breaks is opened again, however often: the source has other
        ways to hear of what happens.

        Raises:
            Rejected: The store refuses, or does not know how.
        """
        broken = 0
        while True:
            await self._may_listen.wait()
            began = self._clock.monotonic()
            try:
                await self._hear()
                broken = 0
            except StoreUnavailable as error:
                broken = 1 if self._clock.monotonic() - began > STEADY else broken + 1
                await self._wait(broken, error)
            except StoreError as error:
                raise Rejected(f"cannot listen to {self.bucket}: {error}") from error

    async def _wait(self, broken: int, error: StoreUnavailable) -> None:
        pause = pause_after(broken, first=FIRST_PAUSE, most=LONGEST_PAUSE)
        telemetry.StreamLost(source=self._source, what=self.bucket, error=str(error), again_in=pause).emit()
        await asyncio.sleep(pause)

    async def _hear(self) -> None:
        """Read one stream until it should be opened anew."""
        pauses = self._pauses
        try:
            async with open_stream(self._hearer, self.bucket, self._settings) as answer:
                if pauses == self._pauses:
                    self.opened.set()
                    self._gap()
                    await self._follow(answer, pauses)
        finally:
            self.opened.clear()

    async def _follow(self, answer: aiohttp.ClientResponse, pauses: int) -> None:
        lines = Lines()
        async for piece in answer.content.iter_any():
            if pauses != self._pauses:
                return
            began = self._clock.monotonic()
            await self._take([each for line in lines.feed(piece) for each in self._read(line)])
            if pauses != self._pauses or self._clock.monotonic() - began > SLUGGISH:
                return
        raise StoreUnavailable("the store ended the stream")

    def _read(self, line: bytes) -> list[Happening]:
        try:
            return read_line(line)
        except Malformed as error:
            self._complain(error)
            return []

    def _complain(self, error: Malformed) -> None:
        """Say it, and look for what it may have told of."""
        what = f"line from {self.bucket}"
        telemetry.InputMalformed(source=self._source, what=what, error=str(error)).emit()
        self._gap()
