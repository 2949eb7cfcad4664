"""The Job that goes to an HPC, and what is refused because it would not arrive there."""

import base64
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dcnios_daemon.core.errors import ConfigError, OrderRefused
from dcnios_daemon.core.ports import Download
from dcnios_daemon.sinks.interlink.manifest import PAYLOAD_LIMIT, Template
from dcnios_daemon.sinks.interlink.settings import InterlinkRun
from dcnios_daemon.staging.document import StagingPlan
from tests.fakes.desk import make_order

Json = dict[str, Any]
RUN: Json = {"node": "vega", "image": "/ceph/itwinai.sif", "command": ["true"]}


def template(**run: Any) -> Template:
    given = {**RUN, **run}
    if "script" in given:
        del given["command"]
    return Template(InterlinkRun(**given), route="train", instance="hall-b")


def job(*, payload: bytes = b"{}", node: str | None = None, **run: Any) -> Json:
    return template(**run).make(make_order(payload=payload), plan=StagingPlan(), node=node)


def pod(made: Json) -> Json:
    spec: Json = made["spec"]["template"]["spec"]
    return spec


def annotations(made: Json) -> dict[str, str]:
    found: dict[str, str] = made["spec"]["template"]["metadata"]["annotations"]
    return found


def environment(made: Json) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in pod(made)["containers"][0]["env"] if "value" in entry}


def executed(made: Json, folder: Path) -> str:
    """What the container would say, were this machine the HPC's."""
    env = {"PATH": "/usr/bin:/bin", "TMPDIR": str(folder), **environment(made)}
    return subprocess.run(
        pod(made)["containers"][0]["command"], env=env, check=True, capture_output=True, text=True
    ).stdout


def test_the_pod_goes_to_the_node_and_stays_while_it_is_away() -> None:
    made = pod(job())
    assert made["nodeSelector"] == {"kubernetes.io/hostname": "vega"}
    assert [item["key"] for item in made["tolerations"]] == [
        "virtual-node.interlink/no-schedule",
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    assert all(item["operator"] == "Exists" for item in made["tolerations"])
    assert not any("tolerationSeconds" in item for item in made["tolerations"])


def test_a_node_is_chosen_by_labels() -> None:
    labels = {"nvidia-gpu-type": "A100"}
    found = pod(_labelled(labels))["nodeSelector"]
    assert found == {**labels, "virtual-node.interlink/type": "virtual-kubelet"}


def _labelled(labels: dict[str, str], node: str | None = None) -> Json:
    run = InterlinkRun(image="img", command=("true",), node_labels=labels)
    return Template(run, route="train", instance="hall-b").make(make_order(), plan=StagingPlan(), node=node)


def test_older_installs_have_another_label() -> None:
    labels = {"type": "virtual-kubelet"}
    assert pod(_labelled(labels))["nodeSelector"] == labels
    assert pod(_labelled(labels, "vega"))["nodeSelector"] == {**labels, "kubernetes.io/hostname": "vega"}


def test_it_runs_once_and_nothing_of_the_cluster_goes_along() -> None:
    made = job(slurm={"time": "1:00:00"}, queue_allowance="2d", keep="1h")
    spec = made["spec"]
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (2 * 86400 + 3600, 3600)
    assert pod(made)["restartPolicy"] == "Never"
    assert pod(made)["enableServiceLinks"] is False
    assert pod(made)["automountServiceAccountToken"] is False


def test_requests_are_limits_and_never_missing() -> None:
    default = pod(job())["containers"][0]["resources"]
    assert default["limits"] == default["requests"] == {"cpu": "1", "memory": "2Gi"}
    given = pod(job(resources={"cpu": "8", "memory": "64Gi", "gpu": 2}))["containers"][0]["resources"]
    assert given["limits"] == given["requests"] == {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "2"}


def test_slurm_is_asked_for_the_gpus_and_told_the_key() -> None:
    order = make_order()
    made = template(resources={"gpu": 2}, slurm={"partition": "gpu"}).make(order, plan=StagingPlan())
    flags = shlex.split(annotations(made)["slurm-job.vk.io/flags"])
    assert {"--partition=gpu", "--gres=gpu:2", f"--comment={order.key}"} <= set(flags)
    assert "slurm-job.vk.io/flags" not in made["metadata"]["annotations"]


def test_the_sites_extras_are_annotations_of_the_pod() -> None:
    found = annotations(
        job(
            image_root="docker://",
            binds=["/scratch/p1:/scratch", "/ceph"],
            singularity_options=["--nv", "--writable-tmpfs"],
            pre_exec="module load cuda",
            flavor="gpu-a100",
            annotations={"htcondor-job.vk.io/flags": "x"},
        )
    )
    del found["dcnios-daemon/attempt"]
    assert found == {
        "htcondor-job.vk.io/flags": "x",
        "slurm-job.vk.io/flags": found["slurm-job.vk.io/flags"],
        "slurm-job.vk.io/image-root": "docker://",
        "slurm-job.vk.io/singularity-mounts": "--bind /scratch/p1:/scratch --bind /ceph",
        "slurm-job.vk.io/singularity-options": "--nv --writable-tmpfs",
        "slurm-job.vk.io/pre-exec": "module load cuda",
        "slurm-job.vk.io/flavor": "gpu-a100",
    }


def test_job_and_pod_say_whose_they_are() -> None:
    order = make_order()
    made = template(labels={"team": "x"}, queue="gpus").make(order, plan=StagingPlan())
    assert made["metadata"]["name"] == order.name
    assert made["spec"]["suspend"] is True
    for metadata in (made["metadata"], made["spec"]["template"]["metadata"]):
        assert metadata["labels"] == {
            "team": "x",
            "kueue.x-k8s.io/queue-name": "gpus",
            "app.kubernetes.io/managed-by": "dcnios-daemon",
            "dcnios-daemon/instance": "hall-b",
            "dcnios-daemon/route": "train",
            "dcnios-daemon/key": order.key,
            "dcnios-daemon/attempt": "1",
            "dcnios-daemon/sink": "interlink",
        }


@settings(max_examples=15)
@given(payload=st.binary(max_size=300))
def test_the_payload_arrives_byte_for_byte(payload: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("hpc")
    made = job(payload=payload, script='cp "$DCNIOS_EVENT_FILE" "$COPY"', env={"COPY": str(folder / "copy")})
    executed(made, folder)
    assert (folder / "copy").read_bytes() == payload


def test_the_run_sees_what_it_sees_everywhere(tmp_path: Path) -> None:
    made = job(
        script='printf "%s|" '
        '"$DCNIOS_ROUTE" "$DCNIOS_KEY" "$DCNIOS_ATTEMPT" "$STORAGE_OBJECT_KEY" "$NAME" "$EVENT"',
        env={"NAME": "{{ event.name }} $(date) `date` \"'"},
    )
    said = executed(made, tmp_path).split("|")
    key = make_order().key
    assert said[:6] == ["gray", key, "1", "a.png", "a.png $(date) `date` \"'", "{}"]
    assert f"dcnios-end key={key} attempt=1 step=done exit=0" in said[6]


def test_the_work_folder_is_where_tmpdir_says(tmp_path: Path) -> None:
    """Apptainer's own /tmp has room for 64 MiB."""
    scratch = tmp_path / "scratch of p123"
    scratch.mkdir()
    made = job(env={"TMPDIR": str(scratch)}, script='echo "$TMP_OUTPUT_DIR"; echo "$TMPDIR"')
    work, told, *_ = executed(made, tmp_path).splitlines()
    assert Path(work).is_relative_to(scratch)
    assert told == str(scratch)


def test_text_of_an_event_is_in_no_annotation_and_no_command() -> None:
    order = make_order(subject="inbox/UNIQUE.png", payload=b"UNIQUE")
    made = template(env={"NAME": "{{ event.subject }}"}).make(order, plan=StagingPlan())
    assert "UNIQUE" not in json.dumps(made)


def test_a_secret_is_a_variable_by_reference() -> None:
    entry = pod(job(secrets={"MLFLOW_TRACKING_PASSWORD": "mlflow/password"}))["containers"][0]["env"][-1]
    assert entry["valueFrom"] == {"secretKeyRef": {"name": "mlflow", "key": "password"}}


def test_what_is_too_large_is_refused_with_words() -> None:
    assert job(payload=b"x" * PAYLOAD_LIMIT)
    with pytest.raises(OrderRefused, match=r"90001 bytes.*reference"):
        job(payload=b"x" * (PAYLOAD_LIMIT + 1))
    with pytest.raises(OrderRefused, match="put the script into the image"):
        job(script="#" * 100_000)


def test_every_variable_fits_what_linux_takes() -> None:
    made = job(payload=b"\xff" * PAYLOAD_LIMIT, script=" " * 18_800)
    assert max(len(name) + len(value) for name, value in environment(made).items()) < 128 * 1024 - 2


def test_the_order_has_the_links_that_staging_needs() -> None:
    plan = StagingPlan(download=Download(url="https://store.example/a?leave"), local_name="a.png")
    with_links = template(stage_in=True).make(make_order(), plan=plan)
    assert len(environment(with_links)["DCNIOS_ORDER"]) > len(environment(job())["DCNIOS_ORDER"])


@pytest.mark.parametrize(("stage_with", "verbs"), [("links", {"get"}), ("tool", {"plan"})])
def test_the_route_says_what_stages(stage_with: str, verbs: set[str]) -> None:
    plan = StagingPlan(download=Download(url="https://store.example/a?leave"), local_name="a.png")
    made = template(stage_in=True, stage_with=stage_with).make(make_order(), plan=plan)
    order = base64.b64decode(environment(made)["DCNIOS_ORDER"]).decode()
    assert {line.partition("|")[0] for line in order.splitlines()} & {"get", "plan"} == verbs


def test_nothing_is_asked_of_a_tool_where_nothing_is_staged() -> None:
    assert environment(job(stage_with="tool")) == environment(job())


def test_a_folder_of_the_hpc_has_the_type_without_which_the_plugin_breaks() -> None:
    made = pod(job(volumes={"data": {"mount": "/data", "host_path": "/ceph/data", "read_only": True}}))
    assert made["volumes"] == [{"name": "data", "hostPath": {"path": "/ceph/data", "type": "Directory"}}]
    assert made["containers"][0]["volumeMounts"] == [{"name": "data", "mountPath": "/data", "readOnly": True}]


def test_a_secret_is_mounted_where_files_arrive() -> None:
    volumes = {"keys": {"mount": "/keys", "secret": "keys"}}
    assert pod(job(volumes=volumes, shared_fs=True))["volumes"][0]["secret"] == {"secretName": "keys"}
    with pytest.raises(ConfigError, match="shared_fs"):
        job(volumes=volumes)


def test_tolerations_of_the_overlay_come_on_top() -> None:
    made = pod(job(pod={"tolerations": [{"key": "gpus", "operator": "Exists"}], "priorityClassName": "high"}))
    assert len(made["tolerations"]) == 4
    assert made["priorityClassName"] == "high"


CONTAINER = {"name": "run"}
OVERLAYS: list[tuple[Json, str]] = [
    ({"initContainers": [{"name": "a"}]}, "initContainers: .*exit codes"),
    ({"containers": [{"name": "sidecar"}]}, "2 containers"),
    ({"containers": [{**CONTAINER, "livenessProbe": {"exec": {}}}]}, "livenessProbe"),
    ({"containers": [{**CONTAINER, "readinessProbe": {"exec": {}}}]}, "readinessProbe"),
    ({"containers": [{**CONTAINER, "startupProbe": {"exec": {}}}]}, "startupProbe"),
    ({"containers": [{**CONTAINER, "lifecycle": {"preStop": {}}}]}, "lifecycle"),
    ({"containers": [{**CONTAINER, "ports": [{"containerPort": 80}]}]}, "ports: .*tunnel"),
    ({"containers": [{**CONTAINER, "workingDir": "/a"}]}, "workingDir"),
    ({"containers": [{**CONTAINER, "envFrom": [{}]}]}, "envFrom"),
    ({"containers": [{**CONTAINER, "command": ["mine"]}]}, "leave command and args"),
    ({"containers": [{**CONTAINER, "args": ["mine"]}]}, "leave command and args"),
    ({"containers": [{**CONTAINER, "resources": {"limits": {"cpu": "9"}}}]}, "resources: cpu"),
    (
        {"containers": [{**CONTAINER, "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {}}}]}]},
        "env A: resourceFieldRef",
    ),
    ({"containers": [{**CONTAINER, "env": [{"name": "DCNIOS_PAYLOAD", "value": ""}]}]}, "DCNIOS_PAYLOAD"),
    ({"volumes": [{"name": "v", "persistentVolumeClaim": {}}]}, "persistentVolumeClaim: .*mounts vanish"),
    ({"volumes": [{"name": "v", "csi": {}}]}, "csi: .*mounts vanish"),
    ({"volumes": [{"name": "v", "nfs": {}}]}, "nfs: .*mounts vanish"),
    ({"volumes": [{"name": "v", "cephfs": {}}]}, "cephfs: .*mounts vanish"),
    ({"volumes": [{"name": "v", "hostPath": {"path": "/a"}}]}, "without type"),
    ({"volumes": [{"name": "v", "hostPath": {"path": "/a", "type": "File"}}]}, "without type"),
    ({"volumes": [{"name": "v", "projected": {}}]}, "projected"),
    ({"volumes": [{"name": "v", "downwardAPI": {}}]}, "downwardAPI"),
    ({"volumes": [{"name": "v", "configMap": {}}]}, "configMap: newlines"),
    ({"volumes": [{"name": "v", "secret": {"items": []}}]}, "secret"),
    ({"restartPolicy": "OnFailure"}, "restartPolicy"),
    ({"automountServiceAccountToken": True}, "automountServiceAccountToken"),
    ({"serviceAccountName": "me"}, "serviceAccountName"),
    ({"imagePullSecrets": [{"name": "a"}]}, "imagePullSecrets"),
    ({"terminationGracePeriodSeconds": 5}, "terminationGracePeriodSeconds"),
    ({"nodeSelector": {"kubernetes.io/os": "linux"}}, "never linux"),
]


@pytest.mark.parametrize(("overlay", "words"), OVERLAYS, ids=[words for _, words in OVERLAYS])
def test_what_would_not_arrive_is_refused_at_once(overlay: Json, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        job(pod=overlay)


def test_an_ignored_part_of_a_secret_is_refused() -> None:
    with pytest.raises(ConfigError, match="items: ignored"):
        job(shared_fs=True, pod={"volumes": [{"name": "v", "secret": {"items": [{"key": "a"}]}}]})


def test_all_that_would_not_arrive_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        job(pod={"hostAliases": [{}], "volumes": [{"name": "v", "csi": {}}]})
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"node": None}, "give the node's name"),
        ({"node_labels": {"a": "b"}}, "not both"),
        ({"image": None}, "give an image"),
        ({"command": ()}, "give script, script_file or command"),
        ({"command": (), "args": ("a",)}, "give script, script_file or command"),
        ({"manifest": "job.yaml"}, "leave out"),
        ({"service_account": "me"}, "no token of the cluster"),
        ({"image_pull_secrets": ["a"]}, "its own credentials"),
        ({"annotations": {"slurm-job.vk.io/flags": "-p gpu"}}, "key of its own: slurm"),
        ({"queue": "gpus", "pre_exec": "module load"}, "one after the other"),
        ({"queue_allowance": "1d"}, "needs slurm.time"),
        ({"queue_allowance": "1d", "deadline": "2d", "slurm": {"time": "60"}}, "not both"),
        ({"deadline": "1h", "slurm": {"time": "60"}}, "must leave time"),
        ({"binds": ["/a b:/c"]}, "binds"),
        ({"binds": ["/a:/c; rm"]}, "binds"),
        ({"singularity_options": ["--bind $(x)"]}, "singularity_options"),
        (
            {"stage_out": {"o": {"to": "s3://b/", "using": "u", "credentials": "secret", "secret": "s"}}},
            "for job only",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(given: Json, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        InterlinkRun(**{**RUN, **given})


def test_kueue_may_choose_the_node() -> None:
    run = InterlinkRun(image="img", command=("true",), queue="gpus")
    made = Template(run, route="train", instance="i").make(make_order(), plan=StagingPlan())
    assert "nodeSelector" not in pod(made)
