"""etcd, the data base of the API server."""

from collections.abc import Sequence
from pathlib import Path

from tests.servers import debian, probe
from tests.servers.process import Server
from tests.servers.sweep import memory_directory
from tests.servers.workspace import Workspace


class Etcd(Server):
    """One member, its data in memory: a test bed's cluster has no need to survive a power cut."""

    def __init__(self, space: Workspace) -> None:
        super().__init__(space, "etcd")
        self.url = f"http://127.0.0.1:{space.port()}"
        self._peer_url = f"http://127.0.0.1:{space.port()}"
        self._data = memory_directory(space.path) / self.directory.name
        self._program = Path()

    def prepare(self) -> None:
        """Finds etcd."""
        self._program = debian.program(self.space.cache, "etcd", "etcd-server")
        self._data.mkdir(mode=0o700, parents=True)

    def command(self) -> Sequence[str | Path]:
        """The command line."""
        return [
            self._program,
            f"--data-dir={self._data}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={self._peer_url}",
            f"--initial-advertise-peer-urls={self._peer_url}",
            f"--initial-cluster=default={self._peer_url}",
            "--unsafe-no-fsync",
            "--logger=zap",
            "--log-level=warn",
        ]

    def ready(self) -> bool:
        """Whether it has a leader."""
        return probe.answers(f"{self.url}/health")
