"""What every test gets: no blocking call on the event loop, no task left behind."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

pytest_plugins = ["tests.servers.fixtures", "tests.fakes.dcache.fixtures"]

# Here every run tries new examples; in CI the same ones, so that a change is judged and not the dice. How
# long one takes is the machine's business.
settings.register_profile("dcnios", derandomize=os.environ.get("CI") == "true", deadline=None)
settings.load_profile("dcnios")


@pytest.fixture(autouse=True)
def _loop_is_never_blocked(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """Our code must not block the loop; the tests' own helpers may."""
    with blockbuster_ctx("dcnios_daemon") as blockbuster:
        yield blockbuster


@pytest_asyncio.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:
    """A test that leaves a task running has a leak to explain."""
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if not task.done()} - {asyncio.current_task()}
    assert not left, f"left running: {left}"
