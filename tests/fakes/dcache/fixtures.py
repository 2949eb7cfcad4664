"""The fake dCache as a pytest fixture: ``fake_dcache``, with what ``@pytest.mark.dcache`` asks for.

The marker takes every field of :class:`~tests.fakes.dcache.switches.Switches`, ``seed``, and ``chaos``, the
seed of a mixture of all mishaps::

    @pytest.mark.dcache(legacy_errors=True, arming_delay=0.5, chaos=7)
    async def test_something(fake_dcache: FakeDcache) -> None: ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from .chaos import Chaos
from .server import FakeDcache
from .switches import Switches


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "dcache(**switches, chaos, seed): how the fake dCache misbehaves")


@pytest_asyncio.fixture
async def fake_dcache(request: pytest.FixtureRequest) -> AsyncIterator[FakeDcache]:
    """A running frontend on a free port of loopback."""
    marker = request.node.get_closest_marker("dcache")
    asked = dict(marker.kwargs) if marker is not None else {}
    chaos, seed = asked.pop("chaos", None), asked.pop("seed", 0)
    mishaps = None if chaos is None else Chaos(chaos)
    async with FakeDcache(switches=Switches(**asked), chaos=mishaps, seed=seed) as dcache:
        yield dcache
