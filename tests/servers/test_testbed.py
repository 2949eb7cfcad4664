"""The test bed does what the other tests rely on."""

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import polling
from tests.servers.access import ApiError, ClusterAccess, JsonObject
from tests.servers.fixtures import ClusterNode, KafkaAccess
from tests.servers.kubernetes import ControlPlane
from tests.servers.minio import MinIO, S3Access
from tests.servers.sweep import bridge_name, memory_directory
from tests.servers.workspace import REPOSITORY, Workspace

PAYLOAD = 'two\nlines, a back\\slash, "quotes" and \u2028'


def container(name: str, command: str, image: str) -> JsonObject:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", command],
        "volumeMounts": [{"name": "event", "mountPath": "/event"}],
    }


def job(containers: list[JsonObject], **pod: Any) -> JsonObject:
    field = {"path": "payload", "fieldRef": {"fieldPath": "metadata.annotations['payload']"}}
    spec = {
        "restartPolicy": "Never",
        "initContainers": containers[:-1],
        "containers": containers[-1:],
        "volumes": [{"name": "event", "downwardAPI": {"items": [field]}}],
        **pod,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"job-{secrets.token_hex(4)}"},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"annotations": {"payload": PAYLOAD}}, "spec": spec},
        },
    }


def run(access: ClusterAccess, namespace: str, body: JsonObject) -> JsonObject:
    """Creates a Job and returns its pod when the Job is over."""
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    name = access.call("POST", jobs, body)["metadata"]["name"]

    def over() -> bool:
        status = access.call("GET", f"{jobs}/{name}")["status"]
        return bool(status.get("succeeded") or status.get("failed"))

    polling.until(over, f"the end of {name}", 60)
    pods = access.call("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector=job-name={name}")
    pod: JsonObject = pods["items"][0]
    return pod


def log(access: ClusterAccess, pod: JsonObject, name: str) -> str:
    meta = pod["metadata"]
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/log?container={name}"
    return str(access.call("GET", path)["text"])


def exit_codes(pod: JsonObject) -> dict[str, int | None]:
    statuses = pod["status"]["initContainerStatuses"] + pod["status"]["containerStatuses"]
    return {s["name"]: s["state"].get("terminated", {}).get("exitCode") for s in statuses}


def test_chained_containers_run_in_turn_and_see_the_payload(
    cluster_node: ClusterNode, namespace: str
) -> None:
    commands = {"in": "true", "run": "cat /event/payload", "out": "touch here && id -u"}
    chain = [container(name, command, cluster_node.image) for name, command in commands.items()]
    pod = run(cluster_node.access, namespace, job(chain))
    assert exit_codes(pod) == {"in": 0, "run": 0, "out": 0}
    assert log(cluster_node.access, pod, "run") == PAYLOAD
    assert log(cluster_node.access, pod, "out") == "65532\n"
    assert pod["status"]["podIP"] != pod["status"]["hostIP"]


def test_a_failing_second_container_keeps_its_exit_code(cluster_node: ClusterNode, namespace: str) -> None:
    commands = {"in": "true", "run": "exit 7", "out": "true"}
    chain = [container(name, command, cluster_node.image) for name, command in commands.items()]
    pod = run(cluster_node.access, namespace, job(chain))
    assert pod["status"]["phase"] == "Failed"
    assert exit_codes(pod) == {"in": 0, "run": 7, "out": None}


def test_the_daemon_can_be_imported_in_its_image(cluster_node: ClusterNode, namespace: str) -> None:
    check = container("check", 'python3 -c "import aiohttp, dcnios_daemon"', cluster_node.image)
    pod = run(cluster_node.access, namespace, job([check], hostNetwork=True))
    assert pod["status"]["phase"] == "Succeeded", log(cluster_node.access, pod, "check")


def test_a_pod_on_the_host_network_reaches_the_api_and_the_store(
    cluster_node: ClusterNode, namespace: str, minio: S3Access
) -> None:
    port = cluster_node.access.url.rpartition(":")[2]
    secret = "/var/run/secrets/kubernetes.io/serviceaccount"
    api = f"https://127.0.0.1:{port}/api/v1/namespaces/{namespace}/secrets"
    ask = f'curl -sS --cacert {secret}/ca.crt -H "Authorization: Bearer $(cat {secret}/token)" {api}'
    store = f"curl -sS -o /dev/null -w %{{http_code}} {minio.endpoint}/minio/health/live"
    check = container("check", f"{ask} && {store}", cluster_node.image)
    pod = run(cluster_node.access, namespace, job([check], hostNetwork=True))
    text = log(cluster_node.access, pod, "check")
    assert f"system:serviceaccount:{namespace}:default" in text
    assert "forbidden" in text
    assert text.endswith("200")


def test_a_stranger_is_refused(kubernetes: ClusterAccess) -> None:
    stranger = ClusterAccess(kubernetes.url, "wrong", kubernetes.ca, kubernetes.kubeconfig)
    with pytest.raises(ApiError, match="Unauthorized"):
        stranger.call("GET", "/api/v1/namespaces")


def test_audited_creations_can_be_counted(workspace: Workspace) -> None:
    audit = workspace.directory("audit") / "log"
    with ControlPlane(workspace, audit_log=audit) as control:
        control.access.create_namespace("counted")
        lines = [line for line in audit.read_text().splitlines() if '"name":"counted"' in line]
        assert any('"verb":"create"' in line and '"resource":"namespaces"' in line for line in lines)


def test_a_killed_server_comes_back_with_its_port_and_data(workspace: Workspace) -> None:
    with MinIO(workspace, env={"MINIO_REGION": "eu-test-1"}) as minio:
        (minio.directory / "data" / "kept").mkdir()
        endpoint, first = minio.endpoint, minio.pid
        minio.kill()
        assert not minio.alive
        minio.start()
        assert (minio.endpoint, (minio.directory / "data" / "kept").is_dir()) == (endpoint, True)
        assert minio.pid != first


def test_kafka_serves(kafka: KafkaAccess) -> None:
    assert kafka.bootstrap.startswith("127.0.0.1:")


KILLED_RUN = """
from tests.servers import polling
from tests.servers.kubernetes import ControlPlane
from tests.servers.node import Node
from tests.servers.workspace import Workspace

with Workspace() as space, ControlPlane(space) as control, Node(space, control) as node:
    container = {"name": "c", "image": node.image, "command": ["sleep", "600"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}
    pods = "/api/v1/namespaces/default/pods"
    control.access.call("POST", pods, pod)
    running = lambda: control.access.call("GET", pods + "/p")["status"]["phase"] == "Running"
    polling.until(running, "the pod to run", 60)
    inits = space.path.glob("containerd/state/io.containerd.runtime.v2.task/*/*/init.pid")
    servers = [control.etcd, control.api, control.controller_manager, node.containerd, node.kubelet]
    print(space.path, *(server.pid for server in servers), *(init.read_text() for init in inits), flush=True)
    input()
"""


def test_nothing_outlives_a_killed_run(cluster_node: ClusterNode) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_RUN],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        name, *pids = process.stdout.readline().split()
        os.kill(process.pid, signal.SIGKILL)
    path = Path(name)
    assert len(pids) == 7
    left = [path, memory_directory(path), Path("/sys/class/net", bridge_name(path))]
    left += [Path(f"/proc/{pid}") for pid in pids]
    polling.until(lambda: not any(thing.exists() for thing in left), f"the end of {name} and {pids}", 30)
    assert f"{path}/" not in Path("/proc/mounts").read_text()
