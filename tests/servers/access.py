"""How tests reach a cluster: kubeconfig files, and a small client, since there is no kubectl."""

import base64
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.servers import polling

JsonObject = dict[str, Any]


class ApiError(RuntimeError):
    """The API server refused; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True)
class ClusterAccess:
    """An API server and one user of it."""

    url: str
    token: str
    ca: Path
    kubeconfig: Path

    @classmethod
    def from_kubeconfig(cls, kubeconfig: Path) -> Self:
        """Reads a file that `write` wrote."""
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        token = config["users"][0]["user"]["token"]
        return cls(cluster["server"], token, kubeconfig.with_name("ca.crt"), kubeconfig)

    def write(self) -> Self:
        """Writes the kubeconfig, as JSON, which is YAML too; the CA is inside, so that a pod can have it."""
        authority = base64.b64encode(self.ca.read_bytes()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "testbed", "cluster": {"server": self.url, "certificate-authority-data": authority}}
            ],
            "users": [{"name": "testbed", "user": {"token": self.token}}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed"}}],
            "current-context": "testbed",
        }
        self.kubeconfig.write_text(json.dumps(config, indent=2))
        self.kubeconfig.chmod(0o600)
        return self

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """Trusts this cluster's CA and nothing else."""
        return ssl.create_default_context(cafile=str(self.ca))

    def call(self, method: str, path: str, body: JsonObject | None = None) -> JsonObject:
        """One request: a parsed answer, or its text under `text` when it is no JSON (a pod's log).

        Raises:
            ApiError: the answer was not a success.
        """
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": kind},
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.ssl_context) as response:
                text = response.read().decode(errors="replace")
                is_json = response.headers.get_content_type() == "application/json"
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(error.code, error.read().decode(errors="replace")) from error
        answer: JsonObject = json.loads(text) if is_json else {"text": text}
        return answer

    def create_namespace(self, name: str) -> str:
        """Makes a namespace in which pods can be made: its default service account is there."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self.call("POST", "/api/v1/namespaces", body)
        self.wait_for_account(name)
        return name

    def wait_for_account(self, namespace: str) -> None:
        """Returns when pods can be made there. Controllers make the account some time after the namespace."""
        account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
        polling.until(lambda: self.exists(account), f"the default service account of {namespace}", 60)

    def exists(self, path: str) -> bool:
        """Whether the object at this path is there."""
        try:
            self.call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True
