"""The network of pods that have one of their own: they see each other and the host, no more."""

import json
from pathlib import Path

from tests.servers.commands import run, tool
from tests.servers.sweep import bridge_name, network_name
from tests.servers.workspace import Workspace

SUBNETS = range(64, 192)
"""The third number of 10.96.x.0/24."""


def make(space: Workspace, folder: Path) -> None:
    """Makes the bridge and describes the network in `folder`, for CNI."""
    number = _make_bridge(bridge_name(space.path))
    subnet = {"subnet": f"10.96.{number}.0/24", "gateway": f"10.96.{number}.1"}
    ipam = {"type": "host-local", "ranges": [[subnet]], "dataDir": str(folder / "addresses")}
    bridge = {"type": "bridge", "bridge": bridge_name(space.path), "ipam": ipam}
    network = {"cniVersion": "1.0.0", "name": network_name(space.path), "plugins": [bridge]}
    folder.mkdir()
    (folder / "10-bridge.conflist").write_text(json.dumps(network))


def _make_bridge(name: str) -> int:
    """Makes it here, with the host on it: the plugin would turn on forwarding for the whole machine."""
    ip = tool("ip", "iproute2")
    run([ip, "link", "add", name, "type", "bridge"])
    taken = run([ip, "-4", "-oneline", "address"])
    number = next(number for number in SUBNETS if f" 10.96.{number}." not in taken)
    run([ip, "address", "add", f"10.96.{number}.1/24", "dev", name])
    run([ip, "link", "set", name, "up"])
    return number
