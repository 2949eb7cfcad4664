"""MinIO, the S3 store."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers import golang, probe, versions
from tests.servers.process import Server
from tests.servers.workspace import Workspace


@dataclass(frozen=True)
class S3Access:
    """An S3 store and its administrator."""

    endpoint: str
    access_key: str
    secret_key: str


class MinIO(Server):
    """One MinIO; `env` is its configuration beyond the plain one (`MINIO_NOTIFY_WEBHOOK_…_<ID>`)."""

    def __init__(
        self,
        space: Workspace,
        *,
        env: Mapping[str, str] | None = None,
        name: str = "minio",
        version: str = versions.MINIO,
    ) -> None:
        super().__init__(space, name)
        self._version = version
        self.endpoint = f"http://127.0.0.1:{space.port()}"
        self.access_key = "dcnios-test"
        self.secret_key = secrets.token_hex(16)
        self._console_port = space.port()
        self._env = dict(env or {})
        self._program = Path()

    @property
    def access(self) -> S3Access:
        """How clients get in."""
        return S3Access(self.endpoint, self.access_key, self.secret_key)

    def prepare(self) -> None:
        """Builds MinIO."""
        self._program = golang.minio(self.space.cache, self._version)

    def environment(self) -> Mapping[str, str]:
        """Its configuration."""
        return {
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            **self._env,
        }

    def command(self) -> Sequence[str | Path]:
        """The command line."""
        return [
            self._program,
            "server",
            f"--address={self.endpoint.removeprefix('http://')}",
            f"--console-address=127.0.0.1:{self._console_port}",
            f"--certs-dir={self.directory / 'certs'}",
            self.directory / "data",
        ]

    def ready(self) -> bool:
        """Whether it takes requests."""
        return probe.answers(f"{self.endpoint}/minio/health/ready")
