"""How a source that is told of events meets a journal that commits them: requests wait in a mailbox.

All that wait at one moment go into the next batch, so that a thousand callers share one commit. Each is
answered only after that commit; one whose source is paused, broken or stopped meanwhile is told to come
again, which costs a duplicate that the journal knows by its key, never an event.
"""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from dcnios_daemon.core.errors import Disconnected
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Batch, Reply

MOST_WAITING = 1024
"""Letters that may wait; further callers are told to come again."""
MOST_BYTES = 32 * 1024 * 1024
"""Bytes of events that may wait, likewise. One letter is always let in, however large."""
_OVERHEAD = 1024
"""Bytes that an event among many takes beside its data, so that a batch of empty ones weighs something."""
PATIENCE = 20.0
"""Seconds until a caller is told to come again rather than to wait on. Callers commonly give up at 30."""
COME_AGAIN = 5
"""Seconds, for Retry-After."""


def busy(why: str) -> Reply:
    """503: nothing was lost, come again."""
    return Reply(503, f"{why}; nothing was taken, come again\n", {"retry-after": str(COME_AGAIN)})


class Letter:
    """Events that one sender waits to see committed. Compared and found by identity."""

    __slots__ = ("answer", "cursor", "events", "patient", "size")

    def __init__(self, events: Sequence[Event], *, cursor: str | None, patient: bool) -> None:
        self.events = tuple(events)
        self.cursor = cursor
        self.patient = patient
        """Whether it waits while the journal is full."""
        self.size = sum(len(event.data) for event in events) + _OVERHEAD * (len(self.events) - 1)
        self.answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        """None: committed. A text: why not."""


class Receipt(msgspec.Struct, frozen=True):
    """The letters of a batch."""

    letters: tuple[Letter, ...]


class Mailbox:
    """Letters between the senders (web requests, a listing) and the runner that reads.

    For the source that owns it: ``collect`` is its ``read``, ``acknowledge`` its ``ack``, ``pause``,
    ``resume`` and ``close`` are what they say.
    """

    def __init__(self) -> None:
        self._waiting: dict[Letter, None] = {}
        self._in_hand: dict[Letter, None] = {}
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._shut: str | None = None

    # --- for senders ------------------------------------------------------------------------------------

    async def post(self, events: Sequence[Event]) -> Reply:
        """For a web request: 200 once the events are committed, 503 if they cannot be within 20 s."""
        if not events:
            return Reply(200)
        why = self._shut or self._full()
        if why is not None:
            return busy(why)
        letter = self._put(Letter(events, cursor=None, patient=False))
        try:
            async with asyncio.timeout(PATIENCE):
                refusal = await letter.answer
        except TimeoutError:
            return busy(f"not committed within {PATIENCE:g} s")
        finally:
            self._forget(letter)
        return Reply(200) if refusal is None else busy(refusal)

    async def deliver(self, events: Sequence[Event], *, cursor: str | None = None) -> None:
        """For the source's own work: return once committed, however long the journal is full.

        Args:
            events: Perhaps none, to have only the cursor stored.
            cursor: Where the source is after them.

        Raises:
            Disconnected: The mailbox was closed.
        """
        letter = self._put(Letter(events, cursor=cursor, patient=True))
        try:
            refusal = await letter.answer
        finally:
            self._forget(letter)
        if refusal is not None:
            raise Disconnected(refusal)

    # --- for the runner ---------------------------------------------------------------------------------

    async def collect(self) -> Batch:
        """Wait for letters and take all there are. Cancelling takes none."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        letters = tuple(self._waiting)
        self._in_hand.update(self._waiting)
        self._waiting.clear()
        cursors = [letter.cursor for letter in letters if letter.cursor is not None]
        return Batch(
            events=tuple(event for letter in letters for event in letter.events),
            cursor=cursors[-1] if cursors else None,
            receipt=Receipt(letters),
        )

    def acknowledge(self, batch: Batch) -> None:
        """The batch is committed: answer those who wait for it."""
        if isinstance(batch.receipt, Receipt):
            self._answer(batch.receipt.letters, None)

    def pause(self) -> None:
        """Turn web requests away, those that wait too, until :meth:`resume`. Own work waits."""
        self._shut = "the journal takes nothing now"
        self._answer([letter for letter in self._all() if not letter.patient], self._shut)

    def resume(self) -> None:
        """Take web requests again."""
        self._shut = None

    def close(self) -> None:
        """Turn all away, for good."""
        self._shut = "the source is closed"
        self._answer(self._all(), self._shut)

    # ----------------------------------------------------------------------------------------------------

    def _full(self) -> str | None:
        count = len(self._waiting) + len(self._in_hand)
        if count >= MOST_WAITING or (count and self._bytes >= MOST_BYTES):
            return f"{count} requests of {self._bytes} bytes wait already"
        return None

    def _put(self, letter: Letter) -> Letter:
        self._waiting[letter] = None
        self._bytes += letter.size
        self._arrived.set()
        return letter

    def _forget(self, letter: Letter) -> None:
        self._waiting.pop(letter, None)
        self._in_hand.pop(letter, None)
        self._bytes -= letter.size

    def _all(self) -> list[Letter]:
        return [*self._waiting, *self._in_hand]

    @staticmethod
    def _answer(letters: Iterable[Letter], refusal: str | None) -> None:
        for letter in letters:
            if not letter.answer.done():
                letter.answer.set_result(refusal)
