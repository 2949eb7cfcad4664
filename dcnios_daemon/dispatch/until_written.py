"""The journal's disk may fail for a while. What has happened at a sink must still be written: keep trying."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dcnios_daemon.core.errors import JournalUnavailable
from dcnios_daemon.telemetry import events as telemetry

_PAUSE = 1.0

T = TypeVar("T")


async def until_written(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the journal has taken it. Slots stay occupied meanwhile, so that nothing is overrun."""
    said = False
    while True:
        try:
            return await call()
        except JournalUnavailable as error:
            if not said:  # dozens of callers may wait like this, for hours
                telemetry.JournalFailed(error=str(error)).emit()
                said = True
            await asyncio.sleep(_PAUSE)
