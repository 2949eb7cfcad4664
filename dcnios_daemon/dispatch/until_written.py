"""The journal's disk may fail for a while. What has happened at a sink must still be written, and what an
earlier life left must be known before anything is done: keep trying.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dcnios_daemon.core.errors import JournalUnavailable

_PAUSE = 1.0

T = TypeVar("T")


async def until_written(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the journal, which says by itself that it fails, has taken it. Slots stay occupied
    meanwhile, so that nothing is overrun."""
    while True:
        try:
            return await call()
        except JournalUnavailable:
            await asyncio.sleep(_PAUSE)
