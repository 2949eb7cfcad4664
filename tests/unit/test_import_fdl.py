"""OSCAR's services do here what they did there, and what cannot be is said."""

import json
from pathlib import Path

import msgspec
import pytest
import yaml

from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.templating import compile_text, context
from dcnios_daemon.importers.report import Verdict, as_text
from tests.unit import fdl_samples
from tests.unit.fdl_samples import SECRETS, SHAPES
from tests.unit.importing import SCRIPT, checked, fdl, told


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_a_configuration_that_is_right(shape: str, tmp_path: Path) -> None:
    made = fdl(SHAPES[shape])
    checked(made, tmp_path)
    assert yaml.safe_load(made.yaml.replace(" on:", " 'on':")) == made.configuration


@pytest.mark.parametrize("shape", SHAPES)
def test_no_credential_is_in_a_configuration_or_a_report(shape: str) -> None:
    made = fdl(SHAPES[shape])
    shown = made.yaml + as_text(made.report) + json.dumps(made.configuration)
    assert [secret for secret in SECRETS if secret in shown] == []


def test_a_plain_service_keeps_filter_script_resources_environment_and_outputs(tmp_path: Path) -> None:
    settings = checked(fdl(fdl_samples.PLAIN, minio="http://minio:9000"), tmp_path)
    source, route = settings.sources["grayscale-in"], settings.routes["grayscale"]
    assert (source.endpoint, source.buckets, source.prefix) == ("http://minio:9000", ("pictures",), "in/")
    assert source.events == ("s3:ObjectCreated:*",)
    assert route.sources == ("grayscale-in",)
    assert route.match.action == ("created",)
    run = route.run
    assert (run.kind, run.image, run.script) == ("job", "registry.example.org/imagemagick:7", SCRIPT)
    assert (run.resources.cpu, run.resources.memory, run.resources.gpu) == ("1.0", "1Gi", 0)
    assert run.stage_in
    out = run.stage_out["out"]
    assert (out.to, out.using) == ("s3://pictures/out/", "grayscale-in")
    assert (out.prefix, out.suffix) == (("gray-",), (".png", ".jpg"))


def test_values_stay_what_they_are_in_the_file(tmp_path: Path) -> None:
    env = checked(fdl(fdl_samples.PLAIN), tmp_path).routes["grayscale"].run.env
    event = Event(
        key="0" * 40, source="s", kind="minio", subject="b/k", action=Action.CREATED, time=0.0, data=b"{}"
    )
    seen = {
        name: compile_text(text, where="x")(context(event, route="r", attempt=1))
        for name, text in env.items()
    }
    assert seen == {
        "OSCAR_SERVICE_NAME": "grayscale",
        "QUALITY": "0755",
        "RUN_FOR": "00:55:00",
        "GREETING": "{{ not a template }}",
    }


def test_accelerators_limits_and_other_stores_come_along(tmp_path: Path) -> None:
    made = fdl(fdl_samples.GPU)
    settings = checked(made, tmp_path)
    route, run = settings.routes["train"], settings.routes["train"].run
    assert run.resources.gpu == 1
    assert route.in_flight == 2  # 4 cores in all, 1.5 for each
    assert run.image_pull_secrets == ("pull-me",)
    assert run.labels == {"team": "vision"}
    (container,) = run.pod["containers"]
    assert container["resources"] == {
        "limits": {"sgx.intel.com/enclave": "1"},
        "requests": {"ephemeral-storage": "10Gi"},
    }
    assert (settings.sources["train-in"].buckets, settings.sources["train-in"].prefix) == (
        ("train",),
        "sets/",
    )
    assert (run.stage_out["out"].to, run.stage_out["out"].using) == ("s3://models/new/", "s3-cloud")
    store = settings.sources["s3-cloud"]
    assert (store.endpoint, store.region, store.lists) == (None, "eu-central-1", False)
    assert made.files["s3-cloud-secret-key"] == "s3cr3t-of-cloud"


def test_a_service_writes_by_its_own_source(tmp_path: Path) -> None:
    settings = checked(fdl(fdl_samples.INTERLINK, fdl_samples.PLAIN), tmp_path)
    assert settings.routes["grayscale"].run.stage_out["out"].using == "grayscale-in"


def test_a_long_name_is_cut_the_same_each_time(tmp_path: Path) -> None:
    name = "thermal-bridges-on-rooftops-by-drone"
    (route,) = checked(fdl(fdl_samples.INTERLINK), tmp_path).routes
    assert len(route) <= 31
    assert route.startswith("thermal-bridges-on-roo")
    other = fdl_samples.INTERLINK.replace(name, name + "s")
    both = checked(fdl(fdl_samples.INTERLINK, other), tmp_path).routes
    assert len(both) == 2
    assert next(iter(both)) == route


def test_an_hpcs_service_is_a_run_of_kind_interlink(tmp_path: Path) -> None:
    made = fdl(fdl_samples.INTERLINK)
    (route,) = checked(made, tmp_path).routes.values()
    run = route.run
    assert (run.kind, run.node, run.image) == (
        "interlink",
        "vega-vk",
        "docker://registry.example.org/thermal",
    )
    assert (run.slurm.time, run.slurm.nodes, run.queue_allowance) == ("02:30:00", 1, 86400)
    assert run.stage_in
    assert "runs of kind interlink" in told(made, Verdict.CARRIED)


def test_interlink_is_used_when_there_is_such_a_run() -> None:
    without = fdl(fdl_samples.INTERLINK, run_kinds=frozenset({"job"}))
    (route,) = without.configuration["routes"].values()
    assert (route["run"]["kind"], route["run"]["image"]) == ("job", "registry.example.org/thermal")
    assert "interlink_node_name" in told(without, Verdict.CANNOT)
    made = fdl(fdl_samples.INTERLINK, run_kinds=frozenset({"job", "interlink"}))
    (route,) = made.configuration["routes"].values()
    assert (route["run"]["kind"], route["run"]["node"]) == ("interlink", "vega-vk")
    assert route["run"]["image"] == "docker://registry.example.org/thermal"
    assert route["run"]["slurm"] == {"time": "02:30:00", "nodes": 1}
    assert route["run"]["queue_allowance"] == "1d"
    assert "interlink" not in told(made, Verdict.CANNOT)


def test_what_the_plugin_is_told_has_keys_of_its_own(tmp_path: Path) -> None:
    annotations = """
          mine: kept
          slurm-job.vk.io/flags: --job-name=mine -p gpu --constraint "a100&big" --mem=4G loose -N x
          slurm-job.vk.io/singularity-options: --no-home --no-mount /exa5 --env A=B;C
          job.vk.io/singularity-mounts: --bind /ceph/data:/data:ro,/scratch --bind ../up
          job.vk.io/pre-exec: module load x
"""
    text = fdl_samples.INTERLINK.replace(
        "\n          slurm-job.vk.io/flags: --time=02:30:00 --nodes=1\n", annotations
    ).replace("script: thermal.sh", "script: thermal.sh\n        image_pull_secrets: [mine]")
    made = fdl(text)
    checked(made, tmp_path)
    (route,) = made.configuration["routes"].values()
    run = route["run"]
    assert run["slurm"] == {"partition": "gpu", "flags": ["--constraint=a100&big", "--mem=4G"]}
    assert run["singularity_options"] == ["--no-home", "--no-mount=/exa5"]
    assert run["binds"] == ["/ceph/data:/data:ro", "/scratch"]
    assert (run["pre_exec"], run["annotations"], run["deadline"]) == ("module load x", {"mine": "kept"}, "1d")
    assert "image_pull_secrets" not in run
    said = told(made, Verdict.CANNOT)
    for left_out in ('"../up"', '"-N"', '"loose"', '"--env=A=B;C"', "image_pull_secrets"):
        assert left_out in said
    assert "without --job-name" in told(made, Verdict.DIFFERENTLY)


def test_a_server_is_a_service_that_is_reached_from_inside_only(tmp_path: Path) -> None:
    made = fdl(fdl_samples.EXPOSE)
    settings = checked(made, tmp_path)
    assert settings.routes == {}
    lab = settings.services["lab"]
    assert (lab.kind, lab.image, lab.port) == ("container", "registry.example.org/notebook", 8888)
    assert lab.command == ("/bin/sh", "-c", SCRIPT)
    assert (lab.resources.cpu, lab.resources.memory) == ("0.2", "256Mi")
    assert (lab.auth, lab.expose, lab.replicas.max) == ("none", None, None)
    assert lab.secrets == {"JUPYTER_TOKEN": "lab-env/JUPYTER_TOKEN"}
    assert "root-token" in made.files["lab-env.secret.yaml"]
    said = told(made, Verdict.DIFFERENTLY)
    assert "expose.set_auth: it was public" in said
    assert "expose: service lab, reached inside the cluster only" in said
    assert 'expose.nodePort: "30500": no ports of nodes' in told(made, Verdict.CANNOT)


def test_the_line_that_lets_people_in_is_right_once_the_mark_is_taken_away(tmp_path: Path) -> None:
    made = fdl(fdl_samples.EXPOSE)
    line = "    # expose: {host: lab.example.org, path: /system/services/lab/exposed}\n"
    assert line in made.yaml
    taken = msgspec.structs.replace(made, yaml=made.yaml.replace("    # expose:", "    expose:"))
    expose = checked(taken, tmp_path).services["lab"].expose
    assert expose.url == "http://lab.example.org/system/services/lab/exposed"


def test_a_server_keeps_its_scale_and_health(tmp_path: Path) -> None:
    more = "min_scale: 0, max_scale: 5, cpu_threshold: 70, health_path: /health, set_auth: true"
    text = fdl_samples.EXPOSE.replace("min_scale: 1, max_scale: 1", more).replace("cpu_threshold: 90, ", "")
    made = fdl(text)
    lab = checked(made, tmp_path).services["lab"]
    assert (lab.replicas.min, lab.replicas.max, lab.replicas.cpu_percent) == (1, 5, 70)
    assert lab.health_path == "/health"
    assert "one pod at least" in told(made, Verdict.DIFFERENTLY)
    assert "expose.set_auth: OSCAR's Ingress asked for a login, ours asks for none" in told(
        made, Verdict.CANNOT
    )


def test_an_images_own_command_may_be_the_server(tmp_path: Path) -> None:
    made = fdl(fdl_samples.EXPOSE.replace("rewrite_target: true", "default_command: true"))
    assert checked(made, tmp_path).services["lab"].command == ()
    assert "# expose: {host: lab.example.org, path: /}" in made.yaml


@pytest.mark.parametrize(
    ("first", "command"),
    [
        ("#!/bin/bash", ["/bin/bash", "-c"]),
        ("#!/usr/bin/env bash", ["/usr/bin/env", "bash", "-c"]),
        ("echo", ["/bin/sh", "-c"]),
        ("#!/usr/bin/python3", None),
        ("#!", None),
    ],
)
def test_a_server_is_started_by_the_shell_that_its_script_names(
    first: str, command: list[str] | None, tmp_path: Path
) -> None:
    text = fdl_samples.EXPOSE.replace("script: start.sh", f'script: "{first}\\nserve\\n"')
    made = fdl(text)
    services = checked(made, tmp_path).services
    if command is None:
        assert services == {}
        assert "only a shell's can be" in told(made, Verdict.CANNOT)
    else:
        assert list(services["lab"].command) == [*command, f"{first}\nserve\n"]


def test_a_server_without_its_script_is_none() -> None:
    made = fdl(fdl_samples.EXPOSE, scripts=False)
    assert "services" not in made.configuration
    assert 'script: "start.sh" cannot be read' in told(made, Verdict.CANNOT)


def test_what_has_inputs_is_a_route_and_its_port_is_told_of(tmp_path: Path) -> None:
    made = fdl(fdl_samples.EXPOSE + "      input: [{storage_provider: minio, path: lab/in}]\n")
    settings = checked(made, tmp_path)
    assert (list(settings.routes), settings.services) == (["lab"], {})
    assert "expose: it has inputs, and is a route" in told(made, Verdict.CANNOT)


@pytest.mark.parametrize("port", ["8888", "[8888]", "['8888']", "[8888, 9999]"])
def test_a_port_may_be_one_or_a_list(port: str, tmp_path: Path) -> None:
    made = fdl(fdl_samples.EXPOSE.replace("api_port: 8888", f"api_port: {port}"))
    assert checked(made, tmp_path).services["lab"].port == 8888
    assert ("only the first is served: 8888" in told(made, Verdict.CANNOT)) == ("9999" in port)


@pytest.mark.parametrize("port", ["99999", "http", "-1"])
def test_what_is_no_port_serves_nothing(port: str, tmp_path: Path) -> None:
    made = fdl(fdl_samples.EXPOSE.replace("api_port: 8888", f"api_port: {port}"))
    assert checked(made, tmp_path).services == {}
    assert "expose.api_port: is no port" in told(made, Verdict.CANNOT)


def test_a_port_of_zero_exposes_nothing() -> None:
    made = fdl(fdl_samples.EXPOSE.replace("api_port: 8888", "api_port: 0"))
    assert list(made.configuration["routes"]) == ["lab"]


def test_mount_and_kserve_are_said_and_the_rest_of_the_service_comes() -> None:
    assert "mount: " in told(fdl(fdl_samples.MOUNT), Verdict.CANNOT)
    made = fdl(fdl_samples.KSERVE)
    assert list(made.configuration["routes"]) == ["model"]
    assert "InferenceService" in told(made, Verdict.CANNOT, about="model")
    assert "no route" in told(made, Verdict.CANNOT, about="llm")


def test_a_volume_is_a_claim_that_somebody_makes(tmp_path: Path) -> None:
    made = fdl(fdl_samples.VOLUME)
    (volume,) = checked(made, tmp_path).routes["counter"].run.volumes.values()
    assert (volume.mount, volume.claim) == ("/data", "counter")
    assert 'counter of "1Gi"' in told(made, Verdict.TO_DO)


def test_what_cannot_be_read_makes_no_route() -> None:
    made = fdl(fdl_samples.RUCIO)
    assert made.configuration["routes"] == {}
    assert made.configuration["sources"] == {}
    assert "rucio.desy: there is no Rucio source" in told(made, Verdict.CANNOT)


def test_a_store_that_is_not_offered_is_said_so_and_not_field_by_field() -> None:
    said = told(fdl(fdl_samples.RUCIO), Verdict.CANNOT)
    assert "storage_providers.rucio.desy: there is no Rucio source or store here: left out" in said
    assert "no such field" not in said


def test_dcache_is_watched_and_written_to(tmp_path: Path) -> None:
    made = fdl(fdl_samples.WEBDAV)
    settings = checked(made, tmp_path)
    source = settings.sources["from-dcache-in"]
    assert (source.url, source.door) == ("https://dcache.example.org:3880", "https://dcache.example.org")
    assert [watch.path for watch in source.watch.values()] == ["/data/raw"]
    outs = settings.routes["from-dcache"].run.stage_out
    assert [(out.to, out.using) for out in outs.values()] == [("dav:/data/done/", "from-dcache-in")]
    assert made.files["webdav-dcache-password"] == "d0or-key"
    assert "Onedata" in told(made, Verdict.CANNOT)


def test_services_of_one_name_both_run_and_read_by_one_source(tmp_path: Path) -> None:
    """With OSCAR the second of two with the same folder is never told."""
    made = fdl(fdl_samples.FEDERATION)
    settings = checked(made, tmp_path)
    assert len(settings.routes) == 2
    assert list(settings.sources) == ["shared-in"]
    said = told(made, Verdict.CANNOT)
    for field in ("federation", "replicas", "delegation", "rescheduler_threshold", "clusters"):
        assert f"{field}: " in said


def test_secrets_go_to_a_kubernetes_secret_and_so_does_what_looks_like_one(tmp_path: Path) -> None:
    made = fdl(fdl_samples.SYNCHRONOUS)
    run = checked(made, tmp_path).routes["answer"].run
    secret = yaml.safe_load(made.files["answer-env.secret.yaml"])
    assert secret["kind"] == "Secret"
    assert secret["stringData"] == {
        "API": "s3cret-api",
        "DATABASE_URL": "postgres://me:pa55word@db/x",
        "AWS_SECRET_ACCESS_KEY": "aws-s3cret",
    }
    assert run.secrets == {name: f"answer-env/{name}" for name in secret["stringData"]}
    assert run.env["MAX_TOKENS"] == "5"
    assert "POST /run" in told(made, Verdict.CANNOT)


def test_a_script_finds_what_the_supervisor_gave_it(tmp_path: Path) -> None:
    made = fdl(fdl_samples.SYNCHRONOUS)
    run = checked(made, tmp_path).routes["answer"].run
    first, *rest = run.script.split("\n")
    assert first == "#!/bin/sh"
    assert rest[0].startswith('INPUT_FILE_PATH="${INPUT_FILE_PATH:-$DCNIOS_EVENT_FILE}"')
    assert rest[1].startswith("TMP_INPUT_DIR=")
    assert "JOB_UUID" in run.env
    assert run.pod["containers"][0]["env"][0]["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
    assert "OSCAR_SERVICE_TOKEN" in told(made, Verdict.CANNOT)


def test_the_api_form_is_read_with_its_users_buckets(tmp_path: Path) -> None:
    made = fdl(fdl_samples.API)
    settings = checked(made, tmp_path)
    source, run = settings.sources["from-api-in"], settings.routes["from-api"].run
    assert source.endpoint == "https://minio.example.org"
    assert source.buckets == ("api", "api-0123456789")
    assert run.script == '#!/bin/sh\necho "$STORAGE_OBJECT_KEY"\n'
    for bucket in ("api", "api-0123456789"):
        event = Event(
            key="0" * 40,
            source="s",
            kind="minio",
            subject=f"{bucket}/in/k",
            action=Action.CREATED,
            time=0.0,
            data=b"",
        )
        to = compile_text(run.stage_out["out"].to, where="x")(context(event, route="r", attempt=1))
        assert to == f"s3://{bucket}/out/"
    assert "certificates are always verified" in told(made, Verdict.CANNOT)
    assert "keys are not in the file" in told(made, Verdict.TO_DO)


def test_a_service_or_a_list_of_them_may_also_be_yaml() -> None:
    flat = "name: one\nimage: x\nscript: 'echo 1'\ninput: [{storage_provider: minio, path: one/in}]\n"
    assert list(fdl(flat).configuration["routes"]) == ["one"]
    several = "- " + flat.replace("\n", "\n  ")
    assert list(fdl(several, flat.replace("one", "two")).configuration["routes"]) == ["one", "two"]


def test_nothing_is_fetched_where_the_service_said_so() -> None:
    made = fdl(fdl_samples.MOUNT.replace("script: x.sh", "script: x.sh\n      file_stage_in: true"))
    run = made.configuration["routes"]["mounted"]["run"]
    assert "stage_in" not in run
    assert run["script"].split("\n")[1].startswith("INPUT_FILE_PATH=")


def test_a_script_that_is_not_there_is_named() -> None:
    made = fdl(fdl_samples.PLAIN, scripts=False)
    assert made.configuration["routes"]["grayscale"]["run"]["script_file"] == "gray.sh"
    assert '"gray.sh" cannot be read' in told(made, Verdict.TO_DO)


def test_results_in_the_input_folder_are_warned_of() -> None:
    made = fdl(fdl_samples.PLAIN.replace("pictures/out", "pictures/in/done"))
    assert "each result is an event again" in told(made, Verdict.TO_DO)
    assert "each result is an event again" not in told(fdl(fdl_samples.PLAIN), Verdict.TO_DO)


def test_every_field_is_told_of() -> None:
    text = fdl_samples.PLAIN.replace("log_level", "lock_level").replace("QUALITY: '0755'", "QUALITY: [1]")
    made = fdl(text)
    assert "lock_level: no such field is known" in told(made, Verdict.CANNOT)
    assert "environment.Variables.QUALITY: must be a text, is a list: left out" in told(made, Verdict.CANNOT)
    assert "memory" in told(made, Verdict.CARRIED)


def test_anchors_and_merges_are_followed() -> None:
    text = """
base: &base {image: x, script: "echo 1", memory: 1Gi, input: [{storage_provider: minio, path: a/in}]}
functions: {oscar: [{c: {<<: *base, name: one}}, {c: {<<: *base, name: two, memory: 2Gi}}]}
"""
    routes = fdl(text).configuration["routes"]
    assert [route["run"]["resources"]["memory"] for route in routes.values()] == ["1Gi", "2Gi"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "just words",
        "[1, 2, 3]",
        "{a: b",
        "a: [\n",
        "\x00",
        "&a [*a]",
        "a: &a {<<: *a}",
        "a: b\na: c",
        "[" * 100_000,
        "{? [1]: 2}",
        "!!int abc",
        "functions: 5",
        "functions: {oscar: nothing}",
        "functions: {oscar: [[], 5, {c: 7}]}",
        '{"functions": {"oscar": [{"c": {}}]}}',
        "apiVersion: v1\nkind: Secret\nmetadata: {name: x}",
    ],
)
def test_what_holds_no_service_is_refused_in_words(text: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        fdl(text)


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(ConfigError, match="characters"):
        fdl("#" * (16 * 1024 * 1024 + 1))


def test_laughs_are_not_multiplied() -> None:
    levels = ["a0: &a0 {x: y}"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    text = "\n".join(levels) + "\nname: one\nimage: x\nscript: echo\nenvironment: {variables: {a: *a29}}\n"
    assert "must be a text, is a list" in told(fdl(text), Verdict.CANNOT)
    merged = ["a0: &a0 {" + ", ".join(f"k{n}: v" for n in range(100)) + "}"]
    merged += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 30)]
    with pytest.raises(ConfigError, match="too many keys"):
        fdl("\n".join(merged))


def test_an_error_never_quotes_the_file() -> None:
    with pytest.raises(ConfigError) as caught:
        fdl("name: x\npassword: 'hush-hush\n")
    assert "hush" not in str(caught.value)


def test_the_report_says_each_thing_once() -> None:
    findings = fdl(fdl_samples.PLAIN).report
    assert len({(found.about, found.field, found.verdict, found.what) for found in findings}) == len(findings)
