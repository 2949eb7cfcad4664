"""Runs the client library's login in a thread and a loop of its own, and ends plugins that hang.

The library reads a plugin's output for ever; cancelled, it would leave the plugin running, one with each try.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

SECONDS = 30.0
"""For a plugin to answer."""
_GRACE = 1.0
"""Seconds for the library to notice that its plugin was ended."""


class _Loop(asyncio.SelectorEventLoop):
    """Ends what was started in it and has not ended in time."""

    gave_up = False

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as the library's
        """Likewise, but not for ever."""
        transport, protocol = await super().subprocess_exec(*args, **options)
        self.call_later(SECONDS, self._give_up, transport)
        return transport, protocol

    def _give_up(self, transport: asyncio.SubprocessTransport) -> None:
        if transport.get_returncode() is None:
            self.gave_up = True
            transport.kill()


async def log_in(task: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - passes it on
    """Run the library's coroutine.

    Raises:
        TimeoutError: There was no answer within :data:`SECONDS`.
    """
    loop = _Loop()
    runner = asyncio.Runner(loop_factory=lambda: loop)
    try:
        return await asyncio.to_thread(runner.run, asyncio.wait_for(task, SECONDS + _GRACE))
    finally:
        await asyncio.to_thread(runner.close)
        if loop.gave_up:
            raise TimeoutError(f"no answer within {SECONDS:g} s")
