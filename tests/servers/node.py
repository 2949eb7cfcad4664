"""A node that runs pods: containerd, the daemon's image and a kubelet, all named after the run."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.servers import golang, image_store, network, probe, versions
from tests.servers.access import ApiError
from tests.servers.commands import need_root
from tests.servers.containerd import Containerd
from tests.servers.kubernetes import NODE_NAME, ControlPlane
from tests.servers.process import Server
from tests.servers.workspace import Workspace


class Kubelet(Server):
    """The kubelet; ready means that its node is."""

    def __init__(self, space: Workspace, control: ControlPlane, containerd: Containerd) -> None:
        super().__init__(space, "kubelet")
        self._access = control.api.access("kubelet")
        self._pki = control.api.pki
        self._containerd = containerd
        self._port = space.port()
        self._health_port = space.port()
        self._program = Path()

    def prepare(self) -> None:
        """Writes the configuration."""
        need_root("a kubelet mounts volumes and makes cgroups")
        self._program = golang.kubernetes(self.space.cache) / "kubelet"
        (self.directory / "config.json").write_text(json.dumps(self._config()))

    def _config(self) -> dict[str, object]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": self._port,
            "healthzPort": self._health_port,
            "tlsCertFile": str(self._pki.certificate),
            "tlsPrivateKeyFile": str(self._pki.key),
            # For pod logs through the API server; it is on loopback only.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{self._containerd.socket}",
            # A machine of containers itself: its cgroups are mostly not ours to arrange.
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "makeIPTablesUtilChains": False,
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
            "imageGCHighThresholdPercent": 100,
            "maxPods": 250,
            "kubeAPIQPS": 500,
            "kubeAPIBurst": 1000,
            "podLogsDir": str(self.space.directory("pod-logs")),
            "volumePluginDir": str(self.directory / "plugins"),
        }

    def command(self) -> Sequence[str | Path]:
        """The command line."""
        return [
            self._program,
            f"--config={self.directory / 'config.json'}",
            f"--kubeconfig={self._access.kubeconfig}",
            f"--root-dir={self.directory / 'root'}",
            f"--cert-dir={self.directory / 'certificates'}",
            f"--hostname-override={NODE_NAME}",
        ]

    def environment(self) -> dict[str, str]:
        """It mounts with the system's programs."""
        return {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}

    def ready(self) -> bool:
        """Whether it is well and the node takes pods."""
        if not probe.answers(f"http://127.0.0.1:{self._health_port}/healthz"):
            return False
        try:
            node = self._access.call("GET", f"/api/v1/nodes/{NODE_NAME}")
        except ApiError:
            return False
        conditions = node["status"].get("conditions", [])
        tainted = any(taint["effect"] == "NoSchedule" for taint in node["spec"].get("taints", []))
        return not tainted and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


class Node:
    """containerd, the images and the kubelet. The control plane must run by the time `join` is called."""

    def __init__(self, space: Workspace, control: ControlPlane) -> None:
        self.space = space
        self.image = versions.DAEMON_IMAGE
        self.containerd = Containerd(space)
        self.kubelet = Kubelet(space, control, self.containerd)

    def start_runtime(self) -> None:
        """Starts containerd with the images; it needs no control plane yet."""
        need_root("a node mounts file systems and makes network devices")
        network.make(self.space, self.containerd.networks)
        image_store.fill(self.space.cache, self.containerd.root)
        self.containerd.start()
        work = self.space.directory("images")
        image_store.import_daemon_image(self.space.cache, self.containerd.socket, work)

    def join(self) -> None:
        """Starts the kubelet and returns when the node takes pods."""
        self.kubelet.start()

    def start(self) -> Self:
        """Both, one after the other."""
        self.start_runtime()
        self.join()
        return self

    def stop(self) -> None:
        """Ends both; what they run ends with the workspace."""
        self.kubelet.kill()
        self.containerd.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
