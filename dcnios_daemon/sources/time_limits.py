"""How long the runner waits for what: neighbours that hang, and work that a stop should not break."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from dcnios_daemon.core.errors import Disconnected


def is_cancelled() -> bool:
    """Whether this task is to end. A task group that breaks up while it is cancelled (Python before 3.13)
    tells only of the error."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def first_error(error: BaseException) -> BaseException:
    """The error that broke a task group up."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextlib.asynccontextmanager
async def within(seconds: float, what: str) -> AsyncIterator[None]:
    """Turn a neighbour that hangs into one that is disconnected."""
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            yield
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise Disconnected(f"did not {what} within {seconds:g} s") from error


async def unbroken(work: Callable[[], Awaitable[None]], *, leave: float) -> None:
    """Await ``work``; cancelled meanwhile, leave it that many seconds to end before going."""

    async def caught() -> Exception | None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - raised again below, outside the group
            return error
        return None

    async with asyncio.TaskGroup() as group:
        task = group.create_task(caught())
        try:
            error = await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task}, timeout=leave)
            raise
    if error is not None:
        raise error
