"""The gate between sources and journal: shut at the high watermark, open again at the low one.

Two halves: :class:`Watermarks` decides, wherever the counts are known (the journal's thread);
:class:`WatermarkGate` lets coroutines wait for the decision.
"""

import asyncio
from collections.abc import Iterator

from dcnios_daemon.telemetry.events import GateOpened, GateShut


class Watermarks:
    """The decision, with its memory of which way the level is going."""

    def __init__(self, *, max_events: int, max_bytes: int, resume_at: float) -> None:
        self._bounds = (("events", max_events), ("bytes", max_bytes))
        self._resume_at = resume_at
        self._full = False
        self.shortage: str | None = None
        """Why nothing may be taken whatever the level is. Set by who knows."""

    @property
    def full(self) -> bool:
        """Whether it was full at the last look and has not fallen far enough since."""
        return self._full or self.shortage is not None

    def reached(self, events: int, size: int) -> bool:
        """Whether a bound is reached right now."""
        return any(now >= most for now, (_, most) in zip((events, size), self._bounds, strict=True))

    def look(self, events: int, size: int) -> str | None:
        """Take note of the present level. Returns why the gate is shut; None while it is open."""
        low = all(
            now <= most * self._resume_at for now, (_, most) in zip((events, size), self._bounds, strict=True)
        )
        self._full = self.reached(events, size) or (self._full and not low)
        return self.shortage or ("; ".join(self._levels(events, size)) if self._full else None)

    def _levels(self, events: int, size: int) -> Iterator[str]:
        for now, (what, most) in zip((events, size), self._bounds, strict=True):
            low = int(most * self._resume_at)
            if now > low or now >= most:
                yield f"{now:,} of {most:,} {what}, opens at {low:,}"


class WatermarkGate:
    """See :class:`dcnios_daemon.core.ports.Gate`. The journal calls :meth:`set` after each commit."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._is_open = asyncio.Event()
        self._is_shut = asyncio.Event()
        self._is_open.set()

    @property
    def reason(self) -> str | None:
        """See :class:`dcnios_daemon.core.ports.Gate`."""
        return self._reason

    def set(self, reason: str | None) -> None:
        """Shut it for a reason, or open it with None. On the event loop only."""
        before, self._reason = self._reason, reason
        if reason is not None and before is None:
            self._is_open.clear()
            self._is_shut.set()
            GateShut(why=reason).emit()
        elif reason is None and before is not None:
            self._is_shut.clear()
            self._is_open.set()
            GateOpened().emit()

    async def wait_open(self) -> None:
        """See :class:`dcnios_daemon.core.ports.Gate`."""
        await self._is_open.wait()

    async def wait_shut(self) -> None:
        """See :class:`dcnios_daemon.core.ports.Gate`."""
        await self._is_shut.wait()
