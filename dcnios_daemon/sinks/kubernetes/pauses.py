"""Waiting between tries while a neighbour is away, and saying so."""

import asyncio

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import DcniosError
from dcnios_daemon.core.patience import Seldom, pause_after
from dcnios_daemon.telemetry.events import SinkFailed

FIRST, LONGEST = 0.5, 15.0
"""Seconds."""
EVERY = 60.0
"""Seconds between two lines of the log: several tasks may wait for the same cluster."""
_FORGIVEN_AFTER = 60.0
"""Seconds without a failure after which pauses are short again."""


class Pauses:
    """Growing pauses after failures."""

    def __init__(self, *, sink: str, clock: Clock) -> None:
        self._sink = sink
        self._clock = clock
        self._failures = 0
        self._last = clock.monotonic()
        self._seldom = Seldom(clock, every=EVERY)

    async def after(self, error: DcniosError) -> None:
        """Say what failed, once a minute at most, and wait."""
        now = self._clock.monotonic()
        self._failures = 1 if now - self._last > _FORGIVEN_AFTER else self._failures + 1
        pause = pause_after(self._failures, first=FIRST, most=LONGEST)
        if self._seldom.is_time():
            SinkFailed(sink=self._sink, error=str(error), again_in=round(pause, 1)).emit()
        await asyncio.sleep(pause)
        self._last = self._clock.monotonic()
