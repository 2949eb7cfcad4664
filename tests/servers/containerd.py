"""containerd, which runs the containers of a node."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.servers import debian, golang, versions
from tests.servers.commands import run
from tests.servers.oci import Image
from tests.servers.process import Server
from tests.servers.progress import step
from tests.servers.workspace import Workspace

# restrict_oom_score_adj: without CAP_SYS_RESOURCE runc cannot lower a score, and every sandbox dies of it.
CONFIG = """\
version = 3
root = "{root}"
state = "{here}/state"

[grpc]
address = "{here}/containerd.sock"

[plugins.'io.containerd.internal.v1.opt']
path = "{here}/opt"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{pause}"

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{plugins}"]
conf_dir = "{networks}"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{runc}"
Root = "{here}/runc"
SystemdCgroup = false
"""


class Containerd(Server):
    """containerd. Stopping it leaves containers running, as on any node; the workspace's end does not."""

    def __init__(self, space: Workspace, *, root: Path | None = None) -> None:
        super().__init__(space, "containerd")
        self.socket = self.directory / "containerd.sock"
        self.root = root or self.directory / "root"
        self.networks = self.directory / "cni"
        self._programs = Path()

    def prepare(self) -> None:
        """Builds containerd and writes its configuration."""
        cache = self.space.cache
        self._programs = golang.containerd(cache)
        text = CONFIG.format(
            here=self.directory,
            root=self.root,
            networks=self.networks,
            pause=versions.PAUSE_IMAGE,
            plugins=debian.cni_plugins(cache),
            runc=debian.program(cache, "runc", "runc"),
        )
        (self.directory / "config.toml").write_text(text)

    def environment(self) -> dict[str, str]:
        """It looks for its shim on PATH."""
        return {"PATH": f"{self._programs}:{os.environ['PATH']}:/usr/sbin:/sbin"}

    def command(self) -> Sequence[str | Path]:
        """The command line."""
        return [self._programs / "containerd", "--config", self.directory / "config.toml"]

    def ready(self) -> bool:
        """Whether it answers, all plugins loaded."""
        command = [str(self._programs / "ctr"), "--address", str(self.socket), "version"]
        return (
            self.socket.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0
        )


def import_image(ctr: Path, socket: Path, image: Image, *, without: int = 0) -> None:
    """Imports an image where the kubelet looks for it; `without` that many lowest layers, which are there."""
    with step(f"importing {image.name}"):
        command = [str(ctr), "--address", str(socket), "--namespace", "k8s.io", "images", "import", "-"]
        run(command, stdin=image.archive(without=without))
