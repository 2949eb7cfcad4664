"""Whatever somebody calls an FDL file or a workflow: no crash, what comes of it is right, no secret shows."""

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dcnios_daemon.config.document import read_yaml
from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.importers.report import Finding
from dcnios_daemon.importers.writing import to_yaml
from tests.unit import fdl_samples
from tests.unit.importing import checked, fdl, workflow

SECRET = "Xs3cr3tX"

quick = settings(max_examples=150, suppress_health_check=list(HealthCheck))

words = st.text(max_size=50) | st.sampled_from(
    [
        "",
        "a",
        "minio",
        "minio.default",
        "s3.x",
        "webdav.dcache",
        "rucio.r",
        "a/b",
        "/",
        "..",
        "{{",
        "{% x",
        "\n a",
    ]
)
anything: st.SearchStrategy[Any] = st.recursive(
    words | st.booleans() | st.none() | st.integers() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
texts = st.dictionaries(words, words | anything, max_size=3)
places = st.lists(
    st.fixed_dictionaries(
        {"storage_provider": words, "path": words},
        optional={"prefix": st.lists(words, max_size=2), "suffix": anything, "other": anything},
    ),
    max_size=3,
)
provider = st.fixed_dictionaries(
    {},
    optional={
        "endpoint": words | st.just(f"https://u:{SECRET}@minio:9000/x"),
        "access_key": st.just(SECRET),
        "secret_key": st.just(SECRET),
        "region": words,
        "hostname": words | st.just("dcache.example.org:2880"),
        "login": words,
        "password": st.just(SECRET),
    },
)
providers = st.dictionaries(
    st.sampled_from(["minio", "s3", "webdav", "rucio", "onedata", "x"]),
    st.dictionaries(words | st.sampled_from(["default", "x", "dcache"]), provider | anything, max_size=2),
    max_size=3,
)
environment = st.fixed_dictionaries(
    {},
    optional={"Variables": texts, "secrets": st.dictionaries(words, st.just(SECRET), max_size=2) | anything},
)
plugins = st.dictionaries(
    st.sampled_from(
        [f"slurm-job.vk.io/{key}" for key in ("flags", "singularity-mounts", "singularity-options", "flavor")]
    ),
    words | st.sampled_from(["--time=1:00 -p 'x", "--bind /a:/b,c -n 2", "-A --nodes=0 y --mem=1G"]),
    max_size=3,
)
service = st.fixed_dictionaries(
    {"name": words, "image": words.filter(bool), "script": words},
    optional={
        "memory": words | st.sampled_from(["1Gi", "0.5"]),
        "cpu": words | st.sampled_from(["1", "500m", "0"]),
        "total_cpu": words | st.sampled_from(["4", "0"]),
        "enable_gpu": anything,
        "enable_sgx": st.booleans(),
        "ephemeral_storage_request": words,
        "file_stage_in": st.booleans(),
        "interlink_node_name": words,
        "image_pull_secrets": anything,
        "isolation_level": st.sampled_from(["USER", "SERVICE", "x"]),
        "bucket_list": st.lists(words, max_size=2),
        "token": st.just(SECRET),
        "environment": environment | anything,
        "labels": texts,
        "annotations": texts | plugins | anything,
        "input": places | anything,
        "output": places | anything,
        "volume": st.fixed_dictionaries({"mount_path": words, "size": words}, optional={"name": words})
        | anything,
        "expose": st.fixed_dictionaries({"api_port": anything}) | anything,
        "mount": anything,
        "kserve": anything,
        "federation": anything,
        "synchronous": anything,
        "storage_providers": providers | anything,
        "unknown": anything,
    },
)
entry = st.dictionaries(words, service | anything, min_size=1, max_size=2)
files = st.fixed_dictionaries(
    {"functions": st.fixed_dictionaries({"oscar": st.lists(entry, max_size=3) | anything}) | anything},
    optional={"storage_providers": providers | anything, "clusters": anything, "more": anything},
)


def in_a_folder(made: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        checked(made, Path(folder))


def written(document: Any) -> str:
    return json.dumps(document)


@quick
@given(st.lists(files | service, min_size=1, max_size=2))
@example([yaml.safe_load(text) for text in fdl_samples.SHAPES.values()])
def test_what_looks_like_fdl_gives_a_right_configuration(documents: list[Any]) -> None:
    try:
        fdl(*map(written, documents), run_kinds=frozenset({"job", "interlink"}))
        made = fdl(*map(written, documents))
    except ConfigError as refused:
        if "holds no service" not in str(refused):
            raise
        return
    in_a_folder(made)
    assert SECRET not in made.yaml
    assert SECRET not in written(list(map(repr, made.report)))


@quick
@given(anything | st.dictionaries(words, anything))
def test_anything_at_all_is_read_or_refused(document: Any) -> None:
    for text in (written(document), yaml.safe_dump(document)):
        for read in (fdl, workflow):
            try:
                made = read(text)
            except ConfigError:
                continue
            in_a_folder(made)


names = st.sampled_from(["a", "b", "S3_x", "A long name: which is none at all, or is it?"]) | words
source = st.fixed_dictionaries(
    {"name": names},
    optional={
        "endpoint": words | st.just("https://h:1/api/v1"),
        "user": words,
        "password": st.just(SECRET),
        "folder": words,
        "statefile": words,
        "bootstrap_servers": words | st.just("h:1"),
        "topic": words | st.just("t"),
        "group_id": words,
        "security_protocol": st.sampled_from(["PLAINTEXT", "SSL", "SASL_SSL", "x"]),
        "sasl_mechanism": st.sampled_from(["PLAIN", "SCRAM-SHA-512", "GSSAPI"]),
        "sasl_username": words,
        "sasl_password": st.just(SECRET),
        "ssl_context": st.fixed_dictionaries(
            {"Truststore_Filename": words, "Truststore_Password": st.just(SECRET)}
        ),
        "AWS_DEFAULT_REGION": words,
        "AWS_S3_BUCKET": words,
        "AWS_ACCESS_KEY_ID": st.just(SECRET),
        "AWS_SECRET_ACCESS_KEY": st.just(SECRET),
        "queue_name": words,
        "service": words | st.just("s"),
        "token": st.just(SECRET),
        "components": anything | st.just([{"name": "InvokeOSCAR", "seconds": 3}]),
        "alterations": st.lists(
            st.fixed_dictionaries({"action": words | st.sampled_from(["Merge", "Encode", "Decode"])}),
            max_size=3,
        ),
    },
)
group = st.dictionaries(
    st.sampled_from(["dCache", "Kafka", "GetS3", "GetSQS", "RUCIO", "OSCAR", "PutS3", "generic"]),
    st.lists(source, max_size=2) | anything,
)
connections = st.lists(st.fixed_dictionaries({"from": names, "to": names}), max_size=5) | anything
flows = st.fixed_dictionaries(
    {"nifi": st.fixed_dictionaries({"Source": group, "Destination": group, "connection": connections})}
)


@quick
@given(flows)
def test_what_looks_like_a_workflow_gives_a_right_configuration(document: Any) -> None:
    made = workflow(written(document), aws_account="123456789012")
    in_a_folder(made)
    assert SECRET not in made.yaml
    assert SECRET not in written(list(map(repr, made.report)))


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=20), st.text() | st.dictionaries(st.text(max_size=9), st.text())
    )
)
@example({"0" * 90: {}})
@example({"a": " x\n y\n\n\n", "b": "\n\n", "c": "x\n \n", "on": "on", "d": "# no\n", "e": "\tx\n"})
def test_what_is_written_is_read_again(values: dict[str, Any]) -> None:
    text = to_yaml(
        {"top": values, "more": 1}, {("top",): ["said before"], (): ["head"]}, {("top",): ["after"]}
    )
    document = read_yaml(text, "written.yaml")
    assert document.mistakes == []
    assert document.values == {"top": values, "more": 1}


def test_a_finding_stands_on_one_line() -> None:
    found = Finding(about="a", field="b\nc", verdict="cannot be", what="d\n\ne")  # type: ignore[arg-type]
    assert found.line() == "b c: d e"
