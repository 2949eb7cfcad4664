"""A namespace, a configuration, and someone who runs `dcnios services` with no rights but the Role's."""

import json
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from dcnios_daemon import cli
from tests.servers import polling
from tests.servers.access import ClusterAccess, JsonObject

RIGHTS = Path(__file__).parents[2] / "deploy" / "kubernetes" / "services" / "rights.yaml"
PATIENCE = 180.0
GROUPS = {
    "deployments": "/apis/apps/v1",
    "ingresses": "/apis/networking.k8s.io/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "cronjobs": "/apis/batch/v1",
    "jobs": "/apis/batch/v1",
    "httproutes": "/apis/gateway.networking.k8s.io/v1",
    "roles": "/apis/rbac.authorization.k8s.io/v1",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
}


class Site:
    """A namespace, a configuration, and someone who runs the command there with no rights but the Role's."""

    def __init__(self, access: ClusterAccess, namespace: str, folder: Path) -> None:
        self.access = access
        self.namespace = namespace
        self.folder = folder
        self.settings: dict[str, Any] = {
            "kubernetes": {
                "namespace": namespace,
                "kubeconfig": str(self._account()),
                "staging_image": "localhost/dcnios-daemon:test",
            }
        }

    def path(self, place: str) -> str:
        kind, _, name = place.partition("/")
        prefix = f"{GROUPS.get(kind, '/api/v1')}/namespaces/{self.namespace}/{kind}"
        return f"{prefix}/{name}" if name else prefix

    def get(self, place: str) -> JsonObject:
        return self.access.call("GET", self.path(place))

    def has(self, place: str) -> bool:
        return self.access.exists(self.path(place))

    def make(self, kind: str, body: JsonObject) -> None:
        self.access.call("POST", self.path(kind), body)

    def dcnios(self, *words: str, **services: Any) -> Result:
        if services:
            self.settings["services"] = services
        file = self.folder / "daemon.yaml"
        file.write_text(json.dumps(self.settings))
        return CliRunner().invoke(cli.main, [*words, "--config", str(file)], catch_exceptions=False)

    def services(self, *words: str, **services: Any) -> str:
        done = self.dcnios("services", *words, **services)
        assert done.exit_code == 0, done.output
        return done.stdout

    def _account(self) -> Path:
        for body in yaml.safe_load_all(RIGHTS.read_text()):
            self.make(f"{body['kind'].lower()}s", body)
        self.make("serviceaccounts", {"metadata": {"name": "someone"}})
        subject = {"kind": "ServiceAccount", "name": "someone", "namespace": self.namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "dcnios-services"}
        self.make("rolebindings", {"metadata": {"name": "someone"}, "roleRef": role, "subjects": [subject]})
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = self.access.call("POST", self.path("serviceaccounts/someone/token"), request)
        file = self.folder / "someone.kubeconfig"
        return (
            ClusterAccess(self.access.url, answer["status"]["token"], self.access.ca, file).write().kubeconfig
        )


def states(site: Site) -> dict[str, str]:
    """Name to state, as `list` says."""
    return {one["name"]: one["state"] for one in json.loads(site.services("list", "--json"))}


def until(site: Site, name: str, state: str) -> None:
    """Wait for that."""
    try:
        polling.until(lambda: states(site).get(name) == state, f"{name} {state}", PATIENCE)
    except TimeoutError as error:
        error.add_note(site.services("list"))
        raise
