"""DCNiOS workflows run here without NiFi, and what cannot be is said."""
# ruff: noqa: E501 - messages stand whole

import json
from pathlib import Path

import msgspec
import pytest

from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.importers.report import Verdict, as_text
from tests.unit.importing import checked, told, workflow

WORKFLOW = """
nifi:
  endpoint: https://nifi.example.org
  user: admin
  password: nifi-pass-1
  Source:
    dCache:
      - name: dcache
        endpoint: https://dcache.example.org:3880/api/v1
        user: alice
        password: dcache-pass-2
        folder: /data/raw/
        statefile: state1
        components: [{name: GetFile, seconds: 2, node: (ALL | PRIMARY)}]
        alterations: [{action: Merge, maxMessages: 10, windowSeconds: 5}]
    Kafka:
      - name: kafka
        bootstrap_servers: broker.example.org:9093
        topic: frames
        group_id: "1"
        sasl_username: bob
        sasl_password: kafka-pass-3
        ssl_context: {Truststore_Filename: kafka.p12, Truststore_Password: "p12-pass-4"}
        alterations:
          - {action: Encode, Encoding: base64}
          - {action: Decode, Encoding: base64}
          - {action: Encode, Encoding: hex}
    GetS3:
      - name: S3_download
        AWS_ACCESS_KEY_ID: AKIA-5
        AWS_SECRET_ACCESS_KEY: aws-pass-6
        AWS_DEFAULT_REGION: eu-central-1
        AWS_S3_BUCKET: landing
    GetSQS:
      - name: SQS-events
        AWS_DEFAULT_REGION: us-east-1
        queue_name: uploads
    RUCIO:
      - {name: rucio, host: mq.example.org, queue_name: q, password: rucio-pass-7}
  Destination:
    OSCAR:
      - name: invoke
        endpoint: https://oscar.example.org/
        service: edgan3
        token: oscar-token-8
        components: [{name: InvokeOSCAR, seconds: 2}]
      - {name: other, endpoint: oscar.example.org, service: plain, user: carol, password: oscar-pass-9}
    PutS3:
      - {name: keep, MinIO_Endpoint: "http://minio:9000", AWS_S3_BUCKET: kept, AWS_ACCESS_KEY_ID: a, AWS_SECRET_ACCESS_KEY: minio-pass-0}
  generic:
    - {name: own, file: own.json, variables: {key: value}}
  connection:
    - {from: dcache, to: invoke}
    - {from: kafka, to: other}
    - {from: S3_download, to: keep}
    - {from: SQS-events, to: invoke}
    - {from: own, to: invoke}
    - {from: rucio, to: invoke}
    - {from: ghost, to: invoke}
    - {from: invoke, to: dcache}
"""
PASSWORDS = [f"pass-{number}" for number in (1, 2, 3, 4, 6, 7, 9, 0)] + ["oscar-token-8", "AKIA-5"]


def test_the_workflow_is_right_and_holds_no_password(tmp_path: Path) -> None:
    made = workflow(WORKFLOW)
    checked(made, tmp_path)
    shown = made.yaml + as_text(made.report) + json.dumps(made.configuration)
    assert [password for password in PASSWORDS if password in shown] == []


def test_dcache_to_oscar(tmp_path: Path) -> None:
    made = workflow(WORKFLOW)
    settings = checked(made, tmp_path)
    source, route = settings.sources["dcache"], settings.routes["dcache-invoke"]
    assert source.api == "https://dcache.example.org:3880/api/v1"
    assert ([watch.path for watch in source.watch.values()], source.username) == (["/data/raw"], "alice")
    assert made.files["dcache-password"] == "dcache-pass-2"
    assert (route.run.kind, route.run.job_url) == ("oscar", "https://oscar.example.org/job/edgan3")
    assert made.files[Path(str(route.run.token.path)).name] == "oscar-token-8"
    assert route.rate == 0.5  # one in two seconds
    assert route.batch.size == 1
    assert "kept in the journal" in told(made, Verdict.DIFFERENTLY, about="dcache")
    assert "each event becomes one job" in told(made, Verdict.DIFFERENTLY, about="invoke")


def test_what_merge_made_for_oscar_goes_event_by_event(tmp_path: Path) -> None:
    """Its supervisor could never read it. A batch of ours is one # away, and right."""
    made = workflow(WORKFLOW)
    assert checked(made, tmp_path).routes["dcache-invoke"].batch.size == 1
    said = told(made, Verdict.DIFFERENTLY, about="dcache")
    assert "alterations[0]: each event goes to invoke by itself" in said
    assert "    # batch: {size: 10, wait: 5s}\n" in made.yaml
    taken = msgspec.structs.replace(made, yaml=made.yaml.replace("    # batch:", "    batch:"))
    batch = checked(taken, tmp_path).routes["dcache-invoke"].batch
    assert (batch.size, batch.wait) == (10, 5)


@pytest.mark.parametrize(
    ("merge", "size", "wait"),
    [
        ("maxMessages: 10, windowSeconds: 7", 10, 7),
        ("maxMessages: 5000, windowSeconds: 7", 1000, 7),
        ("maxMessages: 0", 1, 0),
        ("maxMessages: many, windowSeconds: 1e9", 1, 0),
        ("windowSeconds: 999999", 1, 86400),
    ],
)
def test_what_merge_made_for_a_bucket_is_a_batch(merge: str, size: int, wait: float, tmp_path: Path) -> None:
    text = WORKFLOW.replace("{from: dcache, to: invoke}", "{from: dcache, to: keep}")
    made = workflow(text.replace("maxMessages: 10, windowSeconds: 5", merge))
    batch = checked(made, tmp_path).routes["dcache-keep"].batch
    assert (batch.size, batch.wait) == (size, wait)
    assert "alterations[0]: a batch, of which keep gets one JSON object" in told(made, Verdict.DIFFERENTLY)


@pytest.mark.parametrize(
    ("seconds", "rate"),
    [("0.5", 2.0), ("0.0001", None), ("86400", 1 / 86400), ("999999999", None), ("x", None)],
)
def test_only_a_sensible_pace_is_a_rate(seconds: str, rate: float | None, tmp_path: Path) -> None:
    made = workflow(WORKFLOW.replace("InvokeOSCAR, seconds: 2", f"InvokeOSCAR, seconds: {seconds}"))
    assert checked(made, tmp_path).routes["dcache-invoke"].rate == rate


def test_kafka_keeps_its_group_and_login(tmp_path: Path) -> None:
    made = workflow(WORKFLOW)
    source = checked(made, tmp_path).sources["kafka"]
    assert (source.bootstrap, source.topics, source.group) == (("broker.example.org:9093",), ("frames",), "1")
    assert source.start == "latest"
    security = source.security
    assert (security.protocol, security.mechanism, security.username) == ("SASL_SSL", "PLAIN", "bob")
    assert made.files["kafka-password"] == "kafka-pass-3"
    assert made.files["kafka-truststore-password"] == "p12-pass-4"
    assert "openssl pkcs12 -in kafka.p12" in told(made, Verdict.TO_DO)


def test_the_mechanism_counts_here(tmp_path: Path) -> None:
    text = WORKFLOW.replace("sasl_username", "sasl_mechanism: SCRAM-SHA-512\n        sasl_username")
    assert checked(workflow(text), tmp_path).sources["kafka"].security.mechanism == "SCRAM-SHA-512"


def test_codings_that_undo_each_other_are_none() -> None:
    made = workflow(WORKFLOW)
    said = told(made, Verdict.DIFFERENTLY, about="kafka")
    assert "alterations[1]: undoes" in said
    assert told(made, Verdict.CANNOT, about="kafka") == (
        "alterations[2]: encode hex: data goes byte for byte: what receives it must encode or decode by itself"
    )


def test_a_bucket_is_listed_until_its_queue_has_an_address(tmp_path: Path) -> None:
    source = checked(workflow(WORKFLOW), tmp_path).sources["s3-download"]
    assert (source.buckets, source.receive, source.reconcile) == (("landing",), (), 60.0)
    source = checked(workflow(WORKFLOW, aws_account="123456789012"), tmp_path).sources["s3-download"]
    assert source.receive == ("sqs",)
    assert source.queue_url == "https://sqs.eu-central-1.amazonaws.com/123456789012/landing_events"


def test_a_queue_needs_the_bucket_that_tells_it(tmp_path: Path) -> None:
    assert "--bucket SQS-events=BUCKET" in told(workflow(WORKFLOW), Verdict.CANNOT)
    made = workflow(WORKFLOW, aws_account="123456789012", buckets={"SQS-events": "mine"})
    source = checked(made, tmp_path).sources["sqs-events"]
    assert (source.buckets, source.queue_url) == (
        ("mine",),
        "https://sqs.us-east-1.amazonaws.com/123456789012/uploads",
    )


def test_events_are_kept_in_a_bucket_by_a_process(tmp_path: Path) -> None:
    run = checked(workflow(WORKFLOW), tmp_path).routes["s3-download-keep"].run
    assert run.kind == "process"
    assert run.stage_out["data"].to == "s3://kept/"


def test_with_a_password_oscar_tells_the_token_and_how_jobs_end(tmp_path: Path) -> None:
    made = workflow(WORKFLOW)
    run = checked(made, tmp_path).routes["kafka-other"].run
    assert (run.kind, run.service, run.username, run.token) == ("oscar", "plain", "carol", None)
    assert made.files["other-oscar-password"] == "oscar-pass-9"


def test_an_oscar_without_a_login_is_left_to_do(tmp_path: Path) -> None:
    made = workflow(WORKFLOW.replace("user: carol, password: oscar-pass-9", ""))
    run = checked(made, tmp_path).routes["kafka-other"].run
    assert str(run.token.path) == "secrets/other-oscar-token"
    assert "write the token into secrets/other-oscar-token" in told(made, Verdict.TO_DO)


@pytest.mark.parametrize("service", ["", "Edgan", "a/b", "a" * 40])
def test_what_can_be_no_service_makes_no_route(service: str, tmp_path: Path) -> None:
    made = workflow(WORKFLOW.replace("service: edgan3", f"service: '{service}'"))
    assert "dcache-invoke" not in checked(made, tmp_path).routes
    assert "no service that could be called" in told(made, Verdict.CANNOT, about="invoke")


def test_what_cannot_be_connected_is_said() -> None:
    said = told(workflow(WORKFLOW), Verdict.CANNOT)
    assert 'no route: from "ghost", which is no element' in said
    assert "no route from own to invoke: own cannot be" in said
    assert "no route from invoke to dcache: invoke cannot be, dcache cannot be" in said
    assert "no Rucio (AMQP) source" in said
    assert "process group of NiFi's own" in said


def test_the_older_form_without_source_and_destination_is_read_too() -> None:
    text = """
nifi:
  dCache: [{name: d, endpoint: dcache.example.org, user: u, password: p, folder: f, statefile: s}]
  OSCAR: [{name: o, endpoint: https://oscar.example.org, service: s, token: t}]
  connection: [{from: d, to: o}]
"""
    assert list(workflow(text).configuration["routes"]) == ["d-o"]


def test_what_nothing_is_connected_to_is_left_out() -> None:
    made = workflow(WORKFLOW.replace("- {from: kafka, to: other}", ""))
    assert "kafka" not in made.configuration["sources"]
    assert "no connection uses it" in told(made, Verdict.CANNOT, about="kafka")


@pytest.mark.parametrize("text", ["", "nifi", "nifi:", "a: b", "[nifi]"])
def test_what_is_no_workflow_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="holds no workflow"):
        workflow(text)


@pytest.mark.parametrize("value", ["5", "[]", "{}", "[5]", "{a: 5}", "[{name: x}]", "[{name: {}}]"])
@pytest.mark.parametrize(
    "field", ["Source", "dCache", "Kafka", "GetS3", "OSCAR", "PutS3", "connection", "generic"]
)
def test_wrong_types_are_reported(field: str, value: str, tmp_path: Path) -> None:
    made = workflow(f"nifi:\n  user: x\n  {field}: {value}\n")
    assert checked(made, tmp_path).routes == {}
