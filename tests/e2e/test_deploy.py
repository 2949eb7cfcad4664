"""deploy/kubernetes and deploy/sidecar as they are, in a real cluster, with the account that they make."""

import json
import os
import secrets
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

import pytest

from dcnios_daemon.sinks.interlink.check import NEEDED
from tests.daemon import free_port
from tests.e2e.kustomize import DEPLOY, apply, overlay, path_of, render
from tests.servers import polling
from tests.servers.access import ApiError, ClusterAccess, JsonObject
from tests.servers.fixtures import ClusterNode

ADMIN, HOOKS = "admin-secret", "hooks-secret"
POD_SECONDS = 90


class Daemon:
    """One in the cluster, on the host's network: the test bed has no other way to the API server."""

    def __init__(self, port: int, *, token: str | None = None) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def send(self, event: str, data: bytes, *, token: str | None = None, **attributes: str) -> int:
        """POST a CloudEvent to the source ``hooks``. Returns the status of the answer."""
        told = {"specversion": "1.0", "id": event, "source": "/test", "type": "test", **attributes}
        headers = {"Content-Type": "text/plain", **{f"ce-{name}": value for name, value in told.items()}}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(f"{self.url}/sources/hooks", data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def get(self, path: str) -> JsonObject:
        """The JSON at a path."""
        request = urllib.request.Request(self.url + path, headers=self._headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: JsonObject = json.load(answer)
        return found

    def deliveries(self, state: str, **query: str) -> list[JsonObject]:
        """Those in a state; none while it is away."""
        asked = "&".join(f"{name}={value}" for name, value in {"state": state, **query}.items())
        found: list[JsonObject] = self.get(f"/api/v1/deliveries?{asked}")["deliveries"]
        return found

    def until_deliveries(self, number: int, state: str, **query: str) -> list[JsonObject]:
        """Wait until so many are in that state."""
        polling.until(
            lambda: len(self.deliveries(state, **query)) >= number, f"{number} {state} {query}", POD_SECONDS
        )
        return self.deliveries(state, **query)


def _environment(access: ClusterAccess, node: ClusterNode, **more: str) -> list[JsonObject]:
    port = access.url.rpartition(":")[2]
    route = {"DCNIOS_ROUTES__SHOW__RUN__IMAGE": node.image}
    given = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port, **route, **more}
    return [{"name": name, "value": value} for name, value in given.items()]


def _images(node: ClusterNode) -> list[JsonObject]:
    name, _, tag = node.image.rpartition(":")
    return [{"name": ours, "newName": name, "newTag": tag} for ours in ("dcnios-daemon", "busybox")]


def _patch(kind: str, name: str, pod: JsonObject) -> JsonObject:
    inside = pod if kind == "Pod" else {"template": {"spec": pod}}
    version = "v1" if kind == "Pod" else "apps/v1"
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": inside}
    return {"patch": json.dumps(body)}


def _condition(thing: JsonObject, kind: str) -> bool:
    found = thing.get("status", {}).get("conditions", ())
    return any(each["type"] == kind and each["status"] == "True" for each in found)


def _until_ready(access: ClusterAccess, pod: str, *, other_than: str = "") -> str:
    """Wait until the kubelet's probes say that it is ready. Returns its uid."""
    found: JsonObject = {}

    def ready() -> bool:
        nonlocal found
        try:
            found = access.call("GET", pod)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:  # while one pod goes and the next comes, there is none
                raise
            return False
        return found["metadata"]["uid"] != other_than and _condition(found, "Ready")

    try:
        polling.until(ready, f"readiness of {pod}", POD_SECONDS)
    except TimeoutError as error:
        said = access.call("GET", f"{pod}/log?tailLines=30") if found else {}
        raise AssertionError(f"{error}\n{json.dumps(found.get('status'), indent=1)}\n{said}") from error
    uid: str = found["metadata"]["uid"]
    return uid


def _jobs(access: ClusterAccess, namespace: str) -> dict[str, JsonObject]:
    jobs = access.call("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"]
    return {job["metadata"]["name"]: job for job in jobs}


def _output(access: ClusterAccess, namespace: str, job: str) -> str:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    found = access.call("GET", f"{pods}?labelSelector=job-name={job}")["items"]
    assert len(found) == 1, found
    return str(access.call("GET", f"{pods}/{found[0]['metadata']['name']}/log")["text"])


def _volume(access: ClusterAccess, namespace: str, folder: Path) -> str:
    """A place for the journal that outlives its pod, as a site's storage would make one. Returns its path."""
    folder.mkdir()
    folder.chmod(0o777)  # fsGroup does not reach a folder of the host
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"journal-{namespace}"},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": namespace, "name": "journal-dcnios-0"},
            "hostPath": {"path": str(folder)},
        },
    }
    access.call("POST", "/api/v1/persistentvolumes", volume)
    return f"/api/v1/persistentvolumes/journal-{namespace}"


def _base(node: ClusterNode, namespace: str, folder: Path, port: int) -> list[JsonObject]:
    """The base as a site would use it: its images, its Secret, a second route by variables."""
    failing = {
        "DCNIOS_DAEMON__HTTP__PORT": str(port),
        "DCNIOS_ROUTES__SHOW__MATCH__SUBJECT": "good/*",
        "DCNIOS_ROUTES__FAIL__FROM": "[hooks]",
        "DCNIOS_ROUTES__FAIL__MATCH__SUBJECT": "bad/*",
        "DCNIOS_ROUTES__FAIL__RUN__KIND": "job",
        "DCNIOS_ROUTES__FAIL__RUN__IMAGE": node.image,
        "DCNIOS_ROUTES__FAIL__RUN__SCRIPT": "seq 10000 10999; exit 3",
    }
    container = {
        "name": "daemon",
        "env": _environment(node.access, node, **failing),
        "ports": [{"$patch": "replace"}, {"name": "http", "containerPort": port}],
    }
    return overlay(
        folder,
        "kubernetes/base",
        namespace=namespace,
        images=_images(node),
        secretGenerator=[
            {"name": "dcnios", "literals": [f"admin-token={ADMIN}", f"hooks-token={HOOKS}"]},
        ],
        patches=[_patch("StatefulSet", "dcnios", {"hostNetwork": True, "containers": [container]})],
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_base_turns_an_event_into_a_job_and_a_new_pod_knows_it(
    cluster_node: ClusterNode, namespace: str, tmp_path: Path
) -> None:
    access, port = cluster_node.access, free_port()
    volume = _volume(access, namespace, tmp_path / "journal")
    try:
        apply(access, namespace, _base(cluster_node, namespace, tmp_path / "overlay", port))
        pod = f"/api/v1/namespaces/{namespace}/pods/dcnios-0"
        first = _until_ready(access, pod)
        daemon = Daemon(port, token=ADMIN)

        assert daemon.send("1", b"stranger", subject="good/1") == 401
        long = "".join(f"line {number}\n" for number in range(40_000))
        assert daemon.send("1", b"small", subject="good/1", token=HOOKS) < 300
        assert daemon.send("2", long.encode(), subject="good/2", token=HOOKS) < 300
        assert daemon.send("3", b"", subject="bad/3", token=HOOKS) < 300
        good = {item["subject"]: item["order"] for item in daemon.until_deliveries(2, "succeeded")}
        assert _output(access, namespace, good["good/1"]) == "small"
        assert _output(access, namespace, good["good/2"]) == long
        secret = access.call("GET", f"/api/v1/namespaces/{namespace}/secrets/{good['good/2']}")
        assert [owner["name"] for owner in secret["metadata"]["ownerReferences"]] == [good["good/2"]]
        (dead,) = daemon.until_deliveries(1, "dead")
        assert dead["outcome"]["exit_code"] == 3
        assert dead["outcome"]["log_tail"].rstrip().endswith("10998\n10999")
        jobs = set(_jobs(access, namespace))
        assert jobs == {*good.values(), dead["order"]}

        access.call("DELETE", pod)
        _until_ready(access, pod, other_than=first)
        assert daemon.send("1", b"small", subject="good/1", token=HOOKS) < 300
        assert daemon.send("4", b"later", subject="good/4", token=HOOKS) < 300
        later = {item["subject"]: item["order"] for item in daemon.until_deliveries(3, "succeeded")}
        assert later == {**good, "good/4": later["good/4"]}
        assert set(_jobs(access, namespace)) == {*jobs, later["good/4"]}
    finally:
        access.call("DELETE", volume)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sidecar_needs_no_file(cluster_node: ClusterNode, namespace: str, tmp_path: Path) -> None:
    access, port = cluster_node.access, free_port()
    env = _environment(access, cluster_node, DCNIOS_DAEMON__HTTP__PORT=str(port))
    sidecar = {"hostNetwork": True, "initContainers": [{"name": "dcnios", "env": env}]}
    things = overlay(
        tmp_path / "overlay",
        "sidecar",
        namespace=namespace,
        images=_images(cluster_node),
        patches=[_patch("Pod", "with-dcnios", sidecar)],
    )
    assert not [thing for thing in things if thing["kind"] == "ConfigMap"]
    apply(access, namespace, things)
    pod = f"/api/v1/namespaces/{namespace}/pods/with-dcnios"
    _until_ready(access, pod)
    daemon = Daemon(port)

    (dropped,) = daemon.until_deliveries(1, "succeeded")
    told = json.loads(_output(access, namespace, dropped["order"]))
    assert (dropped["source"], told["path"], told["size"]) == ("outgoing", "/outgoing/report.txt", 6)
    assert daemon.send("1", b"hello") < 300
    sent = next(item for item in daemon.until_deliveries(2, "succeeded") if item["source"] == "hooks")
    assert _output(access, namespace, sent["order"]) == "hello"
    jobs = _jobs(access, namespace)
    assert set(jobs) == {dropped["order"], sent["order"]}
    owners = {job["metadata"]["labels"]["dcnios-daemon/instance"] for job in jobs.values()}
    assert owners == {"with-dcnios"}

    began = access.call("DELETE", pod)["metadata"]["deletionGracePeriodSeconds"]
    polling.until(lambda: not access.exists(pod), "the pod's end", began)


# --- what it may not ------------------------------------------------------------------------------------


@pytest.fixture
def account(kubernetes: ClusterAccess, namespace: str, tmp_path: Path) -> ClusterAccess:
    """The cluster as the daemon's account sees it."""
    things = overlay(tmp_path / "rights", "kubernetes/rights", namespace=namespace)
    apply(kubernetes, namespace, things)
    seen = _as(kubernetes, namespace, "dcnios")

    def may() -> bool:
        try:
            seen.call("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs")
        except ApiError:
            return False
        return True

    polling.until(may, "the role to be in force", 30)
    return seen


def _as(kubernetes: ClusterAccess, namespace: str, name: str) -> ClusterAccess:
    """The cluster as a service account sees it."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    token = kubernetes.call("POST", path, request)["status"]["token"]
    return ClusterAccess(kubernetes.url, token, kubernetes.ca, kubernetes.kubeconfig)


def _rights(access: ClusterAccess, namespace: str) -> set[tuple[str, str]]:
    """What a user may do in a namespace: resource and verb."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    answer = access.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)
    return {
        (resource, verb)
        for rule in answer["status"]["resourceRules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_account_has_what_the_daemon_uses_and_no_more(account: ClusterAccess, namespace: str) -> None:
    everybody = _rights(account, "default")
    assert _rights(account, namespace) - everybody == {
        *(("jobs", verb) for verb in ("create", "get", "list", "watch")),
        *(("pods", verb) for verb in ("list", "watch")),
        ("pods/log", "get"),
        *(("secrets", verb) for verb in ("create", "get", "patch", "delete")),
    }


def test_beside_the_base_an_hpc_takes_the_sight_of_nodes_and_no_more(
    kubernetes: ClusterAccess, namespace: str, tmp_path: Path
) -> None:
    folder = tmp_path / "both"
    folders = ("kubernetes/rights", "kubernetes/interlink")
    things = overlay(
        folder,
        "kubernetes/rights",
        namespace=namespace,
        nameSuffix=f"-{namespace}",  # what belongs to no namespace is everybody's
        resources=[os.path.relpath(DEPLOY / part, folder) for part in folders],
    )
    (name,) = (thing["metadata"]["name"] for thing in things if thing["kind"] == "ServiceAccount")
    for_all = [thing for thing in things if thing["kind"].startswith("Cluster")]
    try:
        apply(kubernetes, namespace, things)
        account = _as(kubernetes, namespace, name)
        polling.until(lambda: ("nodes", "watch") in _rights(account, namespace), "the role's force", 30)
        nobody = _rights(_as(kubernetes, namespace, "default"), namespace)
        granted = _rights(account, namespace) - nobody
        needed = {(resource, verb) for resource, verbs in NEEDED.items() for verb in verbs}
        assert {right for right in granted if right[0] != "secrets"} == needed
        assert _rights(account, "default") - nobody == {("nodes", "list"), ("nodes", "watch")}
        assert account.call("GET", "/api/v1/nodes")["kind"] == "NodeList"
        with pytest.raises(ApiError, match="is forbidden"):
            account.call("DELETE", "/api/v1/nodes/none")
    finally:
        for thing in for_all:
            kubernetes.call("DELETE", path_of(thing, namespace))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/namespaces/{own}/secrets"),
        ("POST", "/api/v1/namespaces/{own}/pods"),
        ("POST", "/api/v1/namespaces/default/pods"),
        ("POST", "/apis/batch/v1/namespaces/default/jobs"),
        ("GET", "/apis/batch/v1/jobs"),
        ("DELETE", "/apis/batch/v1/namespaces/{own}/jobs"),
        ("GET", "/api/v1/nodes"),
    ],
)
def test_the_account_is_refused(account: ClusterAccess, namespace: str, method: str, path: str) -> None:
    body: JsonObject | None = {"metadata": {"name": "mine"}} if method == "POST" else None
    with pytest.raises(ApiError, match=r"is forbidden: User .*:dcnios") as refusal:
        account.call(method, path.format(own=namespace), body)
    assert refusal.value.status == 403


# --- what the cluster's guards say of it ----------------------------------------------------------------


def _pods(things: list[JsonObject]) -> list[JsonObject]:
    """The pods that a rendering makes; volumes from claims are the storage's matter."""
    found = [thing for thing in things if thing["kind"] == "Pod"]
    for thing in things:
        if thing["kind"] == "StatefulSet":
            spec = json.loads(json.dumps(thing["spec"]["template"]["spec"]))
            spec["volumes"].append({"name": "journal", "emptyDir": {}})
            found.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "made"}, "spec": spec})
    return found


@pytest.mark.parametrize("folder", ["kubernetes/base", "sidecar"])
def test_a_namespace_with_the_strictest_standard_takes_it(kubernetes: ClusterAccess, folder: str) -> None:
    name = f"strict-{secrets.token_hex(4)}"
    kubernetes.create_namespace(name)
    try:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        kubernetes.call("PATCH", f"/api/v1/namespaces/{name}", {"metadata": {"labels": labels}})
        things = render(DEPLOY / folder)
        apply(kubernetes, name, [thing for thing in things if thing["kind"] == "ServiceAccount"])
        (pod,) = _pods(things)
        where = f"/api/v1/namespaces/{name}/pods?dryRun=All&fieldValidation=Strict"
        assert kubernetes.call("POST", where, pod)["kind"] == "Pod"
        pod["spec"]["hostNetwork"] = True
        with pytest.raises(ApiError, match="violates PodSecurity"):
            kubernetes.call("POST", where, pod)
    finally:
        kubernetes.call("DELETE", f"/api/v1/namespaces/{name}")


def test_the_base_names_no_namespace_and_brings_no_secret(kubernetes: ClusterAccess) -> None:
    things = render(DEPLOY / "kubernetes" / "base")
    assert not [thing for thing in things if "namespace" in thing["metadata"]]
    assert {thing["kind"] for thing in things} == {
        "ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Service", "StatefulSet", "PodDisruptionBudget",
    }  # fmt: skip
