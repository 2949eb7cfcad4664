"""``dcnios services`` against a real API server and a real node."""

import base64
import contextlib
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.services_rig import PATIENCE, Site, states, until
from tests.servers import polling
from tests.servers.access import ApiError, ClusterAccess
from tests.servers.fixtures import ClusterNode

CRD = "httproutes.gateway.networking.k8s.io"


@pytest.fixture
def site(kubernetes: ClusterAccess, namespace: str, tmp_path: Path) -> Site:
    return Site(kubernetes, namespace, tmp_path)


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def web(**more: Any) -> dict[str, Any]:
    """A server that any machine with our image can run."""
    return {
        "kind": "container",
        "image": "localhost/dcnios-daemon:test",
        "command": ["python3", "-u", "-m", "http.server", "8080"],
        "port": 8080,
        "token_variable": "WEB_TOKEN",
        "resources": {"cpu": "100m", "memory": "64Mi"},
        "pod": {"containers": [{"name": "service", "imagePullPolicy": "IfNotPresent"}]},
        **more,
    }


def gone(site: Site, place: str) -> None:
    polling.until(lambda: not site.has(place), f"no {place}", PATIENCE)


def test_a_service_comes_serves_sleeps_wakes_and_goes(site: Site, cluster_node: ClusterNode) -> None:
    expose = {"host": "web.example.org", "tls_secret": "web-tls"}
    done = site.services("apply", web=web(expose=expose, replicas={"min": 1, "max": 2}))
    for place in ("deployments", "services", "ingresses", "horizontalpodautoscalers"):
        assert f"web: {place}/web created" in done
    until(site, "web", "serving")
    assert "https://web.example.org/" in site.services("list")
    assert "web: nothing to do" in site.services("apply")

    token = site.services("token", "web").strip()
    assert len(token) > 40
    told = site.services("apply", web=web(expose=expose, labels={"hall": "b"}))
    assert "web: deployments/web changed" in told
    assert "ingresses" not in told
    assert site.services("token", "web").strip() == token
    assert not site.has("horizontalpodautoscalers/web"), "what is no longer wanted is gone"
    until(site, "web", "serving")
    assert token not in json.dumps(site.get("deployments/web"))

    site.services("scale", "web", "0")
    until(site, "web", "asleep")
    assert "web: nothing to do" in site.services("apply"), "asleep stays asleep"
    site.services("scale", "web", "1")
    until(site, "web", "serving")
    polling.until(lambda: "HTTP on" in site.services("logs", "web"), "its log", PATIENCE)

    told = site.services("delete", "web")
    assert "deployments/web deleted" in told
    assert "secrets/web-token deleted" in told
    for place in ("deployments/web", "services/web", "ingresses/web", "secrets/web-token"):
        gone(site, place)
    assert states(site) == {"web": "absent"}


def test_what_somebody_else_made_is_never_touched(site: Site) -> None:
    body = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 1}]}}
    site.make("services", body)
    refused = site.dcnios("services", "apply", web=web())
    assert refused.exit_code == 1
    assert "services/web is there and is no part of service 'web'" in refused.stderr
    assert not site.has("secrets/web-token"), "nothing was begun"
    assert "services/web is not ours: left alone" in site.services("delete", "web")
    assert site.has("services/web")
    assert "nothing to do" in site.services("delete", "unknown")


def test_a_field_that_others_hold_is_theirs_until_it_is_taken(site: Site) -> None:
    site.services("apply", web=web())
    path = site.path("deployments/web")
    patch = {
        "spec": {
            "template": {
                "spec": {"containers": [{"name": "service", "image": "docker.example.org/hotfix:1"}]},
            }
        }
    }
    site.access.call("PATCH", f"{path}?fieldManager=somebody", patch)
    refused = site.dcnios("services", "apply")
    assert refused.exit_code == 1
    assert "deployments/web: others set the same fields" in refused.stderr
    assert "somebody" in refused.stderr
    assert "image" in refused.stderr
    site.services("apply", "--force")
    container = site.get("deployments/web")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "localhost/dcnios-daemon:test"


def test_a_dry_run_changes_nothing(site: Site) -> None:
    assert "deployments/web created" in site.services("apply", "--dry-run", web=web())
    assert not site.has("deployments/web")
    assert not site.has("secrets/web-token")
    site.services("apply")
    assert "deployments/web deleted" in site.services("delete", "web", "--dry-run")
    assert site.has("deployments/web")


def test_a_pod_that_cannot_start_says_why(site: Site, cluster_node: ClusterNode) -> None:
    site.services("apply", web=web(secrets={"PASSWORD": "forgotten/password"}))

    def reason() -> str:
        [one] = json.loads(site.services("list", "--json"))
        return str(one["reason"])

    polling.until(lambda: 'secret "forgotten" not found' in reason(), "the reason", PATIENCE)
    assert states(site) == {"web": "starting"}


def test_what_the_hours_of_sleep_run_may_scale_and_does(site: Site, cluster_node: ClusterNode) -> None:
    """The CronJobs' own pods, with their own account's rights, begun by us and not by the clock."""
    site.services("apply", web=web(sleep={"at": "0 20 * * *", "wake": "0 7 * * 1-5"}))
    until(site, "web", "serving")
    _run_now(site, "web-sleep")
    until(site, "web", "asleep")
    assert "nothing to do" in site.services("apply")
    _run_now(site, "web-wake")
    until(site, "web", "serving")


def _run_now(site: Site, name: str) -> None:
    """No service address leads to the API server here: the pod is on the node's own network."""
    spec = site.get(f"cronjobs/{name}")["spec"]["jobTemplate"]["spec"]
    pod = spec["template"]["spec"]
    host, _, port = site.access.url.removeprefix("https://").partition(":")
    pod["hostNetwork"] = True
    [container] = pod["containers"]
    container["imagePullPolicy"] = "IfNotPresent"
    told = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    container["env"] += [{"name": variable, "value": value} for variable, value in told.items()]
    site.make("jobs", {"metadata": {"name": name}, "spec": spec})

    def ended() -> bool:
        status = site.get(f"jobs/{name}")["status"]
        assert not status.get("failed"), status
        return bool(status.get("succeeded"))

    polling.until(ended, f"{name} to run", PATIENCE)


def notebook(**more: Any) -> dict[str, Any]:
    return {
        "kind": "notebook",
        "image": "localhost/dcnios-daemon:test",
        "endpoint": "http://minio.example.org:9000",
        "access_key": "the-access-key",
        "secret_key": "the-secret-key",
        "buckets": ["inbox"],
        **more,
    }


def test_keys_and_tokens_are_in_secrets_and_nowhere_else(site: Site) -> None:
    sleep = {"at": "*/15 * * * *", "wake": "0 7 * * 1-5"}
    site.services("apply", lab=notebook(token="the-token", sleep=sleep))
    held = site.get("secrets/lab-keys")["data"] | site.get("secrets/lab-token")["data"]
    assert {key: base64.b64decode(value).decode() for key, value in held.items()} == {
        "access_key": "the-access-key",
        "secret_key": "the-secret-key",
        "token": "the-token",
    }
    places = ("configmaps/lab-config", "deployments/lab", "cronjobs/lab-sleep", "cronjobs/lab-wake")
    for text in [json.dumps(site.get(place)) for place in places] + [site.services("render")]:
        assert "the-secret-key" not in text
        assert "the-access-key" not in text
        assert "the-token" not in text


def test_a_changed_key_starts_a_new_pod(site: Site) -> None:
    def stamp() -> str:
        template = site.get("deployments/lab")["spec"]["template"]
        return str(template["metadata"]["annotations"]["dcnios-daemon/made-of"])

    site.services("apply", lab=notebook())
    before = stamp()
    assert "nothing to do" in site.services("apply")
    assert stamp() == before
    site.services("apply", lab=notebook(secret_key="another"))
    assert stamp() != before


def test_check_connect_names_the_rights_that_are_missing(site: Site) -> None:
    done = site.dcnios("check", "--connect", "--quiet", web=web())
    assert done.exit_code == 0, done.output
    role = site.path("roles/dcnios-services")
    site.access.call("DELETE", role)

    def lacks() -> bool:
        done = site.dcnios("check", "--connect", "--quiet")
        return (
            "no right to create, get, patch, delete, list deployments" in done.stderr
            and "see deploy/kubernetes/services" in done.stderr
        )

    polling.until(lacks, "the missing right told", PATIENCE)


@pytest.fixture
def gateway_api(kubernetes: ClusterAccess) -> Iterator[Callable[[], None]]:
    """Lets a test bring in the one kind of the Gateway API that we write, as loosely as that can be."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = {
        "plural": "httproutes",
        "singular": "httproute",
        "kind": "HTTPRoute",
        "listKind": "HTTPRouteList",
    }
    approved = {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD, "annotations": approved},
        "spec": {
            "group": "gateway.networking.k8s.io",
            "scope": "Namespaced",
            "names": names,
            "versions": [version],
        },
    }

    def bring() -> None:
        kubernetes.call("POST", path, body)
        listing = "/apis/gateway.networking.k8s.io/v1/httproutes"
        polling.until(lambda: kubernetes.exists(listing), "HTTPRoutes served", PATIENCE)

    yield bring
    with contextlib.suppress(ApiError):  # where it was never brought
        kubernetes.call("DELETE", f"{path}/{CRD}")


def test_a_gateway_gets_an_http_route_where_the_cluster_has_them(
    site: Site, gateway_api: Callable[[], None]
) -> None:
    name = f"lab-{secrets.token_hex(2)}"
    service = {name: notebook(expose={"host": "lab.example.org", "path": "/lab", "gateway": "infra/public"})}
    refused = site.dcnios("services", "apply", **service)
    assert refused.exit_code == 1
    assert "the cluster has no HTTPRoutes" in refused.stderr
    gateway_api()
    polling.until(
        lambda: site.dcnios("services", "apply").exit_code == 0, "the API server to know the kind", PATIENCE
    )
    spec = site.get(f"httproutes/{name}")["spec"]
    assert spec["parentRefs"] == [{"name": "public", "namespace": "infra"}]
    assert spec["rules"][0]["backendRefs"] == [{"name": name, "port": 80}]
    site.services("apply", **{name: notebook()})
    assert not site.has(f"httproutes/{name}")
