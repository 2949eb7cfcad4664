"""What keeps events, and the gate before it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports.delivery import Claim, Decision, Delivery, InFlight, Outcome, State, Stats


class Admission(msgspec.Struct, frozen=True, gc=False):
    """An event and the routes that it takes; none makes it *unrouted*: counted and listed, not kept."""

    event: Event
    routes: tuple[str, ...]


class Appended(msgspec.Struct, frozen=True):
    """What became of an append."""

    accepted: int
    duplicates: int


MakeResult = Callable[[Delivery, float], Admission | None]
"""From a delivery that has just ended, and when (seconds since the epoch), to the event that tells of it."""


class Journal(Protocol):
    """Keeps events until their deliveries are settled, through every crash. Bounded.

    Each coroutine returns after its transaction is on disk (group commit: callers at the same time share
    one fsync). Cancelling a call leaves it either done or not done, never half.
    All raise JournalUnavailable when the disk fails, until it is well again, and when damage is met in the
    file: then for good, for nothing more is written to it. Opening a file that is none raises JournalCorrupt.
    """

    async def open(self) -> None:
        """Open, in time that does not depend on the backlog."""
        ...

    async def aclose(self) -> None:
        """Finish what was asked, checkpoint, close."""
        ...

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back, on the event loop, whenever deliveries may have become claimable or counts have
        changed: append, release, finish, replay, pause, a retry come due, a change by another process."""
        ...

    def on_finish(self, make: MakeResult | None) -> None:
        """From now on ask ``make`` about each delivery that :meth:`finish` settles or buries, and append what
        it gives in that very transaction: a result is there exactly if its delivery has ended. No bound stops
        it, and no key of its own may come twice. It is called on any thread, must be quick and not raise.
        None: nothing is made, as at first.
        """
        ...

    async def append(self, source: str, admissions: Sequence[Admission], cursor: str | None) -> Appended:
        """Events, their deliveries and the cursor, in one transaction; known keys are left out.

        A key is known for ``dedupe_for`` seconds after its event was settled. If it is met again then, and
        was accepted or last renewed at least half of ``dedupe_for`` ago, it is renewed: the seconds run anew.
        So a happening that a source keeps offering is never forgotten, and hardly ever costs a write.
        The key of an event that was unrouted counts as unknown when there are routes for it now.

        Raises:
            JournalFull: At a bound before this append; nothing was written. An append is never cut: the
                last one may pass the bound.
        """
        ...

    async def cursor(self, source: str) -> str | None:
        """The source's last stored cursor."""
        ...

    async def claim(
        self, route: str, orders: int, *, batch: int = 1, sink: str = "", keep: float | None = None
    ) -> Sequence[Claim]:
        """Deliveries of the route whose time has come, oldest first, enough for up to ``orders`` orders of
        up to ``batch`` deliveries each; they are now *submitting*. Their order's name is stored with them
        (``core.names.order_name`` over ``batch_key``), and so are ``sink``, the kind of ``run`` that they
        go to, and ``keep``, how long what has ended is kept there (:class:`InFlight`): a later life, whose
        configuration may be another, knows what was made of them and where to look.
        Only first attempts are batched: after a failure each goes alone, so that a bad one finds itself.
        Of a paused route: none.
        """
        ...

    async def pause(self, route: str) -> bool:
        """Give no claims of the route from this transaction on, in this life and the next ones, until
        :meth:`resume`. What was claimed before ends as always. Returns whether it was not paused.
        """
        ...

    async def resume(self, route: str) -> bool:
        """Give claims of the route again. Returns whether it was paused."""
        ...

    async def started(self, deliveries: Sequence[int]) -> None:
        """The sink has taken them: *submitting* becomes *running*. Any other state is left alone."""
        ...

    async def release(self, deliveries: Sequence[int], *, after: float | None, note: str) -> None:
        """They were not taken: queue again, same attempt, at the old place; in ``after`` seconds, or now."""
        ...

    async def finish(self, deliveries: Sequence[int], outcome: Outcome, decision: Decision) -> int:
        """Settle or retry those that are in flight for the outcome's order. Returns how many were; the
        rest (settled before, other attempt) are left alone, so that an outcome may be reported twice."""
        ...

    async def in_flight(self) -> Sequence[InFlight]:
        """All deliveries between claim and settlement. Bounded by the in-flight limits."""
        ...

    async def stats(self) -> Stats:
        """The counts, without touching the disk."""
        ...

    async def deliveries(
        self, *, state: State | None = None, route: str | None = None, after: int = 0, limit: int = 100
    ) -> Sequence[Delivery]:
        """Newest first, from below the delivery id ``after`` (0: from the newest)."""
        ...

    async def show(self, key: str) -> tuple[Event | None, Sequence[Delivery]]:
        """The event (None once its body is gone) and its deliveries, by key or a unique beginning of one."""
        ...

    async def ended(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """Of these events those whose deliveries all have ended, and whether all succeeded: False if one is
        dead or was dropped. Left out is what is not known or not known any more, what took no route, and
        what has something left to do. That a delivery was dropped is forgotten with the delivery.
        """
        ...

    async def replay(self, deliveries: Sequence[int]) -> int:
        """Queue dead ones again, as attempt + 1. Returns how many were dead."""
        ...

    async def drop(self, deliveries: Sequence[int], reason: str) -> int:
        """Settle queued or dead ones for good without running them. Returns how many."""
        ...


class Gate(Protocol):
    """Shut while the journal is full: from the high watermark until back at the low one."""

    @property
    def reason(self) -> str | None:
        """Why it is shut; None while open."""
        ...

    async def wait_open(self) -> None:
        """Return once it is open."""
        ...

    async def wait_shut(self) -> None:
        """Return once it is shut."""
        ...
