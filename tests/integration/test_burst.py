"""A burst through a cap, on pretend nodes around a real control plane."""

import asyncio
from pathlib import Path

import pytest

from tests.bench.cap import burst
from tests.servers.kubernetes import ControlPlane
from tests.servers.kwok import Kwok
from tests.servers.workspace import Workspace

CAP = 50


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_burst_never_passes_its_cap_and_uses_its_slots(tmp_path: Path, workspace: Workspace) -> None:
    control = ControlPlane(workspace)  # of its own: what is measured are its Jobs
    await asyncio.to_thread(control.start)
    kwok = Kwok(workspace, control.access, seconds=2.0)
    try:
        await asyncio.to_thread(kwok.start)
        found = await burst(tmp_path, control.access, "default", count=600, cap=CAP, pod=kwok.pod)
    finally:
        await asyncio.to_thread(kwok.kill)
        await asyncio.to_thread(control.stop)
    assert found["jobs"] == 600
    assert found["most_at_once"] == CAP
    # How busy the slots are is measured by `make bench`; this only sees a cap that is not used at all.
    assert found["slots_busy"] > 0.5
