"""No upload is lost or doubled while MinIO, the daemon and the network fail. The whole is run by hand."""

from pathlib import Path

import pytest

from tests.crash.minio_storm import SETTLED, Storm
from tests.fakes.proxy import FaultyProxy
from tests.servers.workspace import Workspace


@pytest.mark.slow
async def test_each_upload_is_one_delivery_whatever_fails(workspace: Workspace, tmp_path: Path) -> None:
    troubles = {"store": 2, "daemon": 3, "network": 3}
    async with FaultyProxy(1) as proxy:
        storm = Storm(workspace, tmp_path, proxy=proxy, uploads=800, troubles=troubles)
        await storm.run()
    assert storm.done == troubles
    assert storm.deliveries == {SETTLED: 800}
    assert len(storm.rehearsed()) == 800
    assert proxy.connections
