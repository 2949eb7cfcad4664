"""The control plane of a Kubernetes cluster: API server, controller manager, scheduler."""

import json
import secrets
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from tests.servers import golang, probe
from tests.servers.access import ClusterAccess
from tests.servers.etcd import Etcd
from tests.servers.pki import Pki
from tests.servers.process import Server
from tests.servers.workspace import Workspace

NODE_NAME = "127.0.0.1"
"""An address as name: only so does the kubelet take a loopback address for its own."""

USERS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
}

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
        {"level": "None"},
    ],
}


class ApiServer(Server):
    """The API server, with RBAC. `audit_log` gets one JSON line for each request that changes something."""

    def __init__(self, space: Workspace, etcd: Etcd, audit_log: Path | None) -> None:
        super().__init__(space, "kube-apiserver")
        self._etcd = etcd
        self._audit_log = audit_log
        self._port = space.port()
        self._program = Path()
        self.url = f"https://127.0.0.1:{self._port}"
        self.pki = Pki(self.directory)
        self._tokens = {user: secrets.token_hex(16) for user in USERS}

    def prepare(self) -> None:
        """Builds Kubernetes and writes certificates, users and their kubeconfigs."""
        self._program = golang.kubernetes(self.space.cache) / self.name
        self.pki.create()
        rows = [f'{self._tokens[user]},{name},{user},"{group}"' for user, (name, group) in USERS.items()]
        (self.directory / "tokens.csv").write_text("\n".join(rows) + "\n")
        (self.directory / "audit.json").write_text(json.dumps(AUDIT_POLICY))
        for user in USERS:
            self.access(user).write()

    def access(self, user: str) -> ClusterAccess:
        """How one of the users gets in."""
        kubeconfig = self.directory / f"{user}.kubeconfig"
        return ClusterAccess(self.url, self._tokens[user], self.pki.ca, kubeconfig)

    def command(self) -> Sequence[str | Path]:
        """The command line."""
        return [
            self._program,
            f"--etcd-servers={self._etcd.url}",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",  # nobody routes service addresses here
            f"--cert-dir={self.directory}",
            f"--tls-cert-file={self.pki.certificate}",
            f"--tls-private-key-file={self.pki.key}",
            f"--service-account-key-file={self.pki.accounts_key}",
            f"--service-account-signing-key-file={self.pki.accounts_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--authorization-mode=RBAC,Node",
            "--service-cluster-ip-range=10.97.0.0/24",
            "--allow-privileged",
            "--max-requests-inflight=4000",
            "--max-mutating-requests-inflight=4000",
            "--profiling=false",
            # Such watches need a newer etcd than ours; kwok, unlike others, cannot do without when offered.
            "--feature-gates=WatchList=false",
            *self._audit_flags(),
        ]

    def _audit_flags(self) -> list[str]:
        if self._audit_log is None:
            return []
        return [
            f"--audit-log-path={self._audit_log}",
            f"--audit-policy-file={self.directory / 'audit.json'}",
            "--audit-log-mode=blocking-strict",  # what was answered is in the file
            "--audit-log-maxsize=100000",  # MB: by default another file is begun after 100
        ]

    def ready(self) -> bool:
        """Whether it says so."""
        return probe.answers(f"{self.url}/readyz", ssl.create_default_context(cafile=str(self.pki.ca)))


class _Component(Server):
    """A client of the API server without a port of its own: it is there as soon as it runs."""

    def __init__(self, api: ApiServer, name: str, user: str, flags: Sequence[str] = ()) -> None:
        super().__init__(api.space, name)
        self._kubeconfig = api.access(user).kubeconfig
        self._flags = flags
        self._program = Path()

    def prepare(self) -> None:
        """Finds the program, which was built with the API server."""
        self._program = golang.kubernetes(self.space.cache) / self.name

    def command(self) -> Sequence[str | Path]:
        """The command line."""
        return [
            self._program,
            f"--kubeconfig={self._kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
            "--profiling=false",
            *self._flags,
        ]

    def ready(self) -> bool:
        """Nothing says that it is ready but what it does."""
        return True


class ControlPlane:
    """etcd, API server, controller manager and scheduler; each can be stopped and started by itself."""

    def __init__(self, space: Workspace, *, audit_log: Path | None = None) -> None:
        self.space = space
        self.etcd = Etcd(space)
        self.api = ApiServer(space, self.etcd, audit_log)
        accounts = [
            f"--root-ca-file={self.api.pki.ca}",
            f"--service-account-private-key-file={self.api.pki.accounts_key}",
            "--use-service-account-credentials",
            "--concurrent-job-syncs=20",
        ]
        self.controller_manager = _Component(
            self.api, "kube-controller-manager", "controller-manager", accounts
        )
        self.scheduler = _Component(self.api, "kube-scheduler", "scheduler")

    @property
    def access(self) -> ClusterAccess:
        """The administrator's."""
        return self.api.access("admin")

    def start(self) -> Self:
        """Starts all and returns when pods can be made in the namespace `default`."""
        self.etcd.start()
        self.api.start()
        with ThreadPoolExecutor() as pool:
            list(pool.map(Server.start, (self.controller_manager, self.scheduler)))
        self.access.wait_for_account("default")
        return self

    def stop(self) -> None:
        """Ends all at once: what they would tidy goes away with the workspace."""
        for server in (self.scheduler, self.controller_manager, self.api, self.etcd):
            server.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
