import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dcnios_daemon.core.errors import ConfigError, OrderRefused
from dcnios_daemon.kubernetes.pods import literal, merge
from dcnios_daemon.sinks.job.carrier import ANNOTATION_LIMIT, SECRET_LIMIT
from dcnios_daemon.sinks.job.manifest import Template
from dcnios_daemon.sinks.job.sink import JobRun
from tests.fakes.desk import make_order

Json = dict[str, Any]


def template(*, manifest: Any = None, route: str = "gray", image: str | None = "img", **run: Any) -> Template:
    keys = run if manifest is not None else {"image": image, **run}
    return Template(
        JobRun(**keys), route=route, instance="hall-b", staging_image="dcnios:1", manifest=manifest
    )


def job(*, payload: bytes = b"{}", plan: bytes | None = None, **keys: Any) -> Json:
    return template(**keys).make(make_order(payload=payload), plan=plan).job


def pod(made: Json) -> Json:
    spec: Json = made["spec"]["template"]["spec"]
    return spec


def the_run(made: Json) -> Json:
    containers = [*pod(made).get("initContainers", []), *pod(made)["containers"]]
    return next(container for container in containers if container["name"] == "run")


def environment(made: Json) -> dict[str, str]:
    """As the container sees it, by the rules of the kubelet."""
    return {entry["name"]: expand(entry["value"]) for entry in the_run(made)["env"] if "value" in entry}


def expand(text: str) -> str:
    """k8s.io/kubernetes/third_party/forked/golang/expansion, with every variable set to a marker."""
    made, at = "", 0
    while at < len(text):
        following = text[at + 1 : at + 2]
        if text[at] != "$" or not following:
            made, at = made + text[at], at + 1
        elif following == "(" and ")" in text[at:]:
            made, at = made + "<EXPANDED>", text.index(")", at) + 1
        elif following == "$":
            made, at = made + "$", at + 2
        else:
            made, at = made + "$" + following, at + 2
    return made


def test_a_job_runs_once_ends_in_time_and_goes_away() -> None:
    spec = job(deadline="90s", keep="5m")["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["podReplacementPolicy"] == "Failed"
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (90, 300)
    assert "suspend" not in spec


def test_job_and_pod_say_whose_they_are() -> None:
    order = make_order()
    made = template(labels={"team": "x"}).make(order).job
    for metadata in (made["metadata"], made["spec"]["template"]["metadata"]):
        assert metadata["labels"] == {
            "team": "x",
            "app.kubernetes.io/managed-by": "dcnios-daemon",
            "dcnios-daemon/instance": "hall-b",
            "dcnios-daemon/route": "gray",
            "dcnios-daemon/key": order.key,
        }
        assert metadata["annotations"]["dcnios-daemon/attempt"] == "1"
    assert made["metadata"]["name"] == order.name


def test_nobody_gets_more_rights_than_needed() -> None:
    made = pod(job())
    assert made["automountServiceAccountToken"] is False
    assert made["enableServiceLinks"] is False
    assert the_run(job())["securityContext"] == {"allowPrivilegeEscalation": False}
    with_account = pod(job(service_account="reader"))
    assert with_account["serviceAccountName"] == "reader"
    assert "automountServiceAccountToken" not in with_account


def test_resources_are_limits_and_a_gpu_is_a_device() -> None:
    limits = the_run(job(resources={"cpu": "2", "memory": "1Gi", "gpu": 1}))["resources"]["limits"]
    assert limits == {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": "1"}


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_the_payload_stands_in_an_annotation_as_it_is(text: str) -> None:
    made = template().make(make_order(payload=text.encode()))
    inside = json.loads(json.dumps(made.job))["spec"]["template"]["metadata"]["annotations"]
    assert inside["dcnios-daemon/event"] == text
    assert made.secret is None


@pytest.mark.parametrize(
    ("payload", "by_secret"),
    [
        (b"x" * ANNOTATION_LIMIT, False),
        (b"x" * (ANNOTATION_LIMIT + 1), True),
        (b"\xff\xfe", True),
        (b"x" * SECRET_LIMIT, True),
    ],
    ids=["limit", "above", "not-utf8", "largest"],
)
def test_what_no_annotation_takes_goes_by_a_secret_of_the_jobs_name(payload: bytes, by_secret: bool) -> None:
    made = template().make(make_order(payload=payload))
    assert (made.secret is not None) is by_secret
    volume = pod(made.job)["volumes"][0]
    if made.secret is None:
        assert volume["downwardAPI"]["items"][0]["path"] == "event.json"
    else:
        name = made.job["metadata"]["name"]
        assert made.secret["metadata"]["name"] == name == volume["secret"]["secretName"]
        assert made.secret["metadata"]["labels"] == made.job["metadata"]["labels"]
        assert "dcnios-daemon/event" not in made.job["spec"]["template"]["metadata"]["annotations"]


def test_a_payload_beside_a_large_plan_makes_room_for_it() -> None:
    made = template(stage_in=True).make(make_order(payload=b"x" * 190_000), plan=b"p" * 60_000)
    assert made.secret is not None


def test_a_payload_that_nothing_carries_is_refused_with_its_size() -> None:
    with pytest.raises(OrderRefused, match="1048577 bytes"):
        job(payload=b"x" * (SECRET_LIMIT + 1))


@pytest.mark.parametrize(
    ("payload", "given_as"),
    [
        (b"{}", "fieldRef"),
        (b"", "fieldRef"),
        (b"x" * 65536, "fieldRef"),
        (b"x" * 65537, None),
        (b"a\0b", None),
        (b"\xff", None),
    ],
)
def test_the_payload_is_also_a_variable_while_that_holds_it(payload: bytes, given_as: str | None) -> None:
    entries = {entry["name"]: entry for entry in the_run(job(payload=payload))["env"]}
    assert (given_as in entries["EVENT"]["valueFrom"]) if given_as else "EVENT" not in entries


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=60))
def test_kubernetes_replaces_nothing_in_event_text(text: str) -> None:
    made = template(stage_in=True, env={"MINE": "{{ event.subject }}", "RAW": "$(HOME) $$"}).make(
        make_order(subject=f"inbox/{text}")
    )
    seen = environment(made.job)
    assert seen["STORAGE_OBJECT_KEY"] == text
    assert seen["MINE"] == f"inbox/{text}"
    assert seen["RAW"] == "$(HOME) $$"


@given(st.text())
def test_literal_is_undone_by_the_kubelet(text: str) -> None:
    assert expand(literal(text)) == text


def test_the_script_reaches_the_shell_as_it_was_written() -> None:
    script = 'set -e\nfor f in $(ls); do echo "$f" $$ ${f%.png}; done\n'
    command = the_run(job(script=script))["command"]
    assert command[:2] == ["/bin/sh", "-c"]
    assert expand(command[2]) == script


def test_a_script_too_long_for_the_kernel_is_a_mistake_at_start() -> None:
    with pytest.raises(ConfigError, match=r"routes\.gray\.run: the script has over 131071 bytes"):
        template(script="x" * 131072)


def test_a_script_file_that_is_not_there_is_a_mistake_at_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"script_file.*nowhere"):
        template(script_file=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("run", "before", "main"),
    [
        ({}, [], "run"),
        ({"stage_in": True}, ["stage-in"], "run"),
        ({"stage_out": {"x": {"to": "s3://b/", "using": "u"}}}, ["run"], "stage-out"),
        (
            {"stage_in": True, "stage_out": {"x": {"to": "s3://b/", "using": "u"}}},
            ["stage-in", "run"],
            "stage-out",
        ),
    ],
)
def test_staging_is_a_chain_that_stops_at_the_first_failure(run: Json, before: list[str], main: str) -> None:
    made = pod(job(plan=b"{}" if run else None, **run))
    assert [container["name"] for container in made.get("initContainers", [])] == before
    assert [container["name"] for container in made["containers"]] == [main]


def test_the_staging_plan_is_seen_by_the_staging_containers_only() -> None:
    made = job(plan=b'{"secret": "leave"}', stage_in=True, stage_out={"x": {"to": "s3://b/", "using": "u"}})
    assert (
        made["spec"]["template"]["metadata"]["annotations"]["dcnios-daemon/staging"] == '{"secret": "leave"}'
    )
    assert "dcnios-daemon/staging" not in made["metadata"]["annotations"]
    run = the_run(made)
    assert "dcnios-staging" not in json.dumps(run)
    for container in [*pod(made)["initContainers"], *pod(made)["containers"]]:
        mounted = any(mount["name"] == "dcnios-staging" for mount in container["volumeMounts"])
        assert mounted is (container["name"] != "run")
        work = next(mount for mount in container["volumeMounts"] if mount["name"] == "dcnios-work")
        assert work["mountPath"] == "/dcnios-work"


def test_a_stores_keys_are_mounted_into_stage_out_only() -> None:
    keyed = {"to": "s3://b/", "using": "u", "credentials": "secret"}
    outs = {
        "One": {**keyed, "secret": "outbox.keys"},
        "two": {**keyed, "secret": "outbox.keys"},
        "three": {"to": "s3://b/", "using": "u"},
    }
    made = pod(job(plan=b"{}", stage_in=True, stage_out=outs))
    volumes = [volume for volume in made["volumes"] if "secret" in volume]
    assert [volume["secret"] for volume in volumes] == [{"secretName": "outbox.keys"}]
    name = volumes[0]["name"]
    mounted = {
        container["name"]: [mount for mount in container["volumeMounts"] if mount["name"] == name]
        for container in [*made["initContainers"], *made["containers"]]
    }
    mount = {"name": name, "mountPath": "/dcnios-credentials/outbox.keys", "readOnly": True}
    assert mounted == {"stage-in": [], "run": [], "stage-out": [mount]}


@pytest.mark.parametrize(
    "out",
    [
        {"to": "s3://b/", "credentials": "secret"},
        {"to": "s3://b/", "secret": "outbox-keys"},
        {"to": "dav:/b/", "credentials": "secret", "secret": "outbox-keys"},
        {"to": "s3://b/", "credentials": "secret", "secret": "../etc"},
        {"to": "s3://b/", "credentials": "both", "secret": "outbox-keys"},
    ],
)
def test_keys_of_a_store_need_an_s3_target_and_a_secrets_name(out: Json) -> None:
    with pytest.raises(ValidationError):
        JobRun(image="img", stage_out={"x": {"using": "u", **out}})


def test_staging_containers_fit_into_what_the_run_needs() -> None:
    made = job(plan=b"{}", stage_in=True, resources={"cpu": "2", "memory": "64Mi", "gpu": 1})
    assert pod(made)["initContainers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "256Mi"}


def test_staging_without_an_image_for_it_is_a_mistake_at_start() -> None:
    with pytest.raises(ConfigError, match=r"kubernetes\.staging_image"):
        Template(JobRun(image="img", stage_in=True), route="gray", instance="i")


def test_secrets_and_volumes_are_mounted_by_name() -> None:
    made = job(
        secrets={"PASSWORD": "db/password"},
        volumes={
            "data": {"mount": "/data", "claim": "store", "read_only": True},
            "tmp": {"mount": "/x", "empty": True},
        },
    )
    assert {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}} in the_run(
        made
    )["env"]
    assert {"name": "data", "mountPath": "/data", "readOnly": True} in the_run(made)["volumeMounts"]
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "store", "readOnly": True}}
    assert claim in pod(made)["volumes"]


@pytest.mark.parametrize(
    "keys",
    [
        {"env": {"EVENT": "x"}},
        {"secrets": {"DCNIOS_KEY": "a/b"}},
        {"env": {"A": "1"}, "secrets": {"A": "a/b"}},
    ],
)
def test_a_variable_has_one_meaning(keys: Json) -> None:
    with pytest.raises(ConfigError, match=r"routes\.gray\.run: (EVENT|DCNIOS_KEY|A)"):
        template(**keys)


def test_the_overlay_is_merged_into_the_pod_by_names() -> None:
    made = job(
        pod={
            "hostNetwork": True,
            "containers": [{"name": "run", "workingDir": "/w"}, {"name": "side", "image": "s"}],
            "volumes": [{"name": "more", "emptyDir": {}}],
        },
        plan=b"{}",
        stage_out={"x": {"to": "s3://b/", "using": "u"}},
    )
    assert pod(made)["hostNetwork"] is True
    assert the_run(made)["workingDir"] == "/w"
    assert [container["name"] for container in pod(made)["containers"]] == ["stage-out", "side"]
    assert {"dcnios-event", "dcnios-work", "dcnios-staging", "more"} == {
        volume["name"] for volume in pod(made)["volumes"]
    }


def test_merge_replaces_what_has_no_name() -> None:
    base = {"args": ["a"], "env": [{"name": "A", "value": "1"}], "keep": 1}
    over = {"args": ["b", "c"], "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}]}
    assert merge(base, over) == {
        "args": ["b", "c"],
        "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}],
        "keep": 1,
    }


def test_a_queue_makes_suspended_jobs_for_kueue() -> None:
    made = job(queue="gpu")
    assert made["spec"]["suspend"] is True
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu"
    assert job(suspend=True)["spec"]["suspend"] is True


def test_orders_do_not_leak_into_each_other() -> None:
    made = template(env={"A": "{{ event.name }}"})
    first, second = (json.dumps(made.make(make_order(name)).job) for name in ("first", "second"))
    assert "first" in first
    assert "first" not in second
    made.make(make_order("third", payload=b"\xff"))
    assert json.dumps(made.make(make_order("first")).job) == first


SPLICED = template(
    stage_in=True,
    env={"A": "{{ event.subject }}", "B": "$(HOME) is {{ attempt }}"},
    annotations={"note": 'a "quoted" one'},
)


@given(
    payloads=st.lists(
        st.tuples(
            st.text().map(lambda text: text.encode("utf-8", "ignore")) | st.binary(max_size=20),
            st.text(st.characters(codec="utf-8"), min_size=1),
            st.integers(1, 9),
            st.sampled_from([None, b"{}", b'{"a": "x"}']),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_spliced_is_what_is_built(payloads: list[tuple[bytes, str, int, bytes | None]]) -> None:
    for payload, subject, attempt, plan in payloads:
        order = make_order(payload=payload, subject=subject, attempt=attempt)
        spliced, built = SPLICED.encode(order, plan=plan), SPLICED.make(order, plan=plan)
        assert (spliced is None) == (built.secret is not None)
        if spliced is not None:
            assert json.loads(spliced) == built.job


MANIFEST = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"labels": {"mine": "1"}, "generateName": "x-"},
    "spec": {
        "backoffLimit": 2,
        "template": {
            "metadata": {"annotations": {"note": "for {{ event.name }}"}},
            "spec": {
                "containers": [
                    {"name": "helper", "image": "h"},
                    {
                        "name": "run",
                        "image": "img",
                        "env": [{"name": "FILE", "value": "{{ event.subject }}"}],
                    },
                ],
                "volumes": [{"name": "v", "emptyDir": {}}],
            },
        },
    },
}


def test_a_whole_manifest_keeps_what_it_says_and_gets_the_contract() -> None:
    order = make_order(subject="inbox/a: {x}\n- b.png")
    made = template(manifest=MANIFEST).make(order).job
    assert made["metadata"]["name"] == order.name
    assert made["metadata"]["labels"]["mine"] == "1"
    assert made["metadata"]["labels"]["dcnios-daemon/key"] == order.key
    assert made["spec"]["backoffLimit"] == 2
    assert made["spec"]["ttlSecondsAfterFinished"] == 600
    inside = made["spec"]["template"]
    assert inside["metadata"]["annotations"]["note"] == "for a: {x}\n- b.png"
    assert inside["spec"]["restartPolicy"] == "Never"
    entries = {entry["name"]: entry for entry in the_run(made)["env"]}
    assert entries["FILE"]["value"] == "inbox/a: {x}\n- b.png"
    assert entries["DCNIOS_EVENT_FILE"]["value"] == "/dcnios/event.json"
    assert {"dcnios-event", "dcnios-work", "v"} == {volume["name"] for volume in inside["spec"]["volumes"]}
    assert "env" not in inside["spec"]["containers"][0]


def test_a_template_without_its_field_refuses_the_order() -> None:
    with pytest.raises(OrderRefused, match="nothing"):
        job(env={"A": "{{ event.nothing }}"})


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ([], "no Job"),
        ({"kind": "Pod"}, "no Job"),
        ({"kind": "Job", "spec": {"template": {"spec": {"containers": []}}}}, "no Job"),
        ({**MANIFEST, "metadata": {"namespace": "x"}}, "kubernetes.namespace"),
        ({**MANIFEST, "metadata": {"annotations": {"a": "{{ event. }}"}}}, "template"),
    ],
)
def test_a_wrong_manifest_is_a_mistake_at_start(manifest: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        template(manifest=manifest)


@pytest.mark.parametrize(
    "run",
    [
        {"manifest": "job.yaml", "image": "img"},
        {"manifest": "job.yaml", "stage_in": True},
        {"image": "img", "script": "x", "command": ["y"]},
        {"image": "img", "keep": "5s"},
        {"image": "img", "secrets": {"A": "nokey"}},
        {"image": "img", "env": {"not a name": "x"}},
        {"image": "img", "volumes": {"v": {"mount": "/x", "claim": "a", "secret": "b"}}},
        {"image": "img", "unknown": 1},
    ],
)
def test_settings_that_contradict_themselves_are_refused(run: Json) -> None:
    with pytest.raises(ValidationError):
        JobRun(**run)


def test_no_two_routes_share_a_label() -> None:
    """A label may not end with a hyphen, a route's name may: one route must not be judged as another."""
    plain, odd = (job(route=name)["metadata"]["labels"]["dcnios-daemon/route"] for name in ("gray", "gray-"))
    assert plain == "gray" != odd
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9_]*[a-z0-9])?", odd)
