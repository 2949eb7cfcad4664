"""`dcnios sources setup` and what `check --connect` says of it, before a real MinIO; and what only AWS
refuses, before a server that answers in its words."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner, Result

from dcnios_daemon import cli
from dcnios_daemon.config import connections
from dcnios_daemon.config.model import DaemonSettings
from tests.e2e.stores import minio_source, s3_client
from tests.servers.minio import MinIO, S3Access
from tests.servers.workspace import Workspace

ARN = "arn:minio:sqs::UPLOADS:webhook"


@pytest.fixture(scope="module")
def store() -> Iterator[S3Access]:
    with Workspace() as space:
        env: dict[str, str] = {}
        for name in ("UPLOADS", "OTHER"):
            env |= {
                f"MINIO_NOTIFY_WEBHOOK_ENABLE_{name}": "on",
                f"MINIO_NOTIFY_WEBHOOK_ENDPOINT_{name}": "http://127.0.0.1:9/",
                f"MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_{name}": str(space.directory("queue")),
            }
        with MinIO(space, env=env) as made:
            yield made.access


@pytest_asyncio.fixture
async def bucket(store: S3Access) -> AsyncIterator[str]:
    name = f"setup-{secrets.token_hex(4)}"
    async with s3_client(store) as client:
        await client.create_bucket(Bucket=name)
    yield name


class Command:
    """The command, with a configuration of one source."""

    def __init__(self, folder: Path, **source: Any) -> None:
        self.source = source
        self.file = folder / "f.yaml"
        route = {"from": ["uploads"], "run": {"kind": "dry-run"}}
        self.document = {"sources": {"uploads": source}, "routes": {"r": route}}
        self.file.write_text(json.dumps(self.document))

    async def setup(self, *options: str, name: str = "uploads") -> Result:
        """Run it."""
        words = ["sources", "setup", name, "--config", str(self.file), *options]
        return await asyncio.to_thread(CliRunner().invoke, cli.main, words)

    async def check(self) -> list[str]:
        """What `check --connect` finds."""
        settings = DaemonSettings.model_validate(self.document)
        found = await connections.check_connections(settings)
        return [said for who, said in found if who == "source uploads" and said]


async def _rules(store: S3Access, bucket: str) -> list[dict[str, Any]]:
    async with s3_client(store) as client:
        found = await client.get_bucket_notification_configuration(Bucket=bucket)
    rules: list[dict[str, Any]] = found.get("QueueConfigurations", [])
    return rules


async def _set(store: S3Access, bucket: str, *rules: dict[str, Any]) -> None:
    async with s3_client(store) as client:
        await client.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={"QueueConfigurations": list(rules)}
        )


async def test_it_says_what_it_would_do_does_it_and_does_nothing_twice(
    store: S3Access, bucket: str, tmp_path: Path
) -> None:
    command = Command(tmp_path, **minio_source(store, bucket, prefix="run/ü", suffix=".dat"))
    (said,) = await command.check()
    assert said == f"bucket {bucket!r} tells nobody here of its objects: dcnios sources setup uploads"
    would = await command.setup("--dry-run")
    assert would.exit_code == 0, would.output
    assert f"{bucket}: would add 'dcnios-uploads-" in would.output
    assert await _rules(store, bucket) == []
    done = await command.setup()
    assert done.exit_code == 0, done.output
    assert f"s3:ObjectCreated:*, prefix 'run/ü', suffix '.dat' to {ARN}" in done.output
    (rule,) = await _rules(store, bucket)
    assert (rule["QueueArn"], rule["Events"]) == (ARN, ["s3:ObjectCreated:*"])
    assert rule["Filter"]["Key"]["FilterRules"] == [
        {"Name": "prefix", "Value": "run/ü"},
        {"Name": "suffix", "Value": ".dat"},
    ]
    again = await command.setup("--json")
    assert json.loads(again.output)["buckets"] == [f"{bucket}: tells {ARN} already"]
    assert await _rules(store, bucket) == [rule]
    assert await command.check() == []


async def test_what_is_there_stays(store: S3Access, bucket: str, tmp_path: Path) -> None:
    other = {
        "Id": "theirs",
        "QueueArn": "arn:minio:sqs::OTHER:webhook",
        "Events": ["s3:ObjectCreated:Put", "s3:ObjectRemoved:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "a&<b>"}]}},
    }
    await _set(store, bucket, other)
    (before,) = await _rules(store, bucket)
    command = Command(tmp_path, **minio_source(store, bucket))
    done = await command.setup()
    assert done.exit_code == 0, done.output
    assert "overlaps with 'theirs'" in done.output
    assert before in await _rules(store, bucket)
    assert len(await _rules(store, bucket)) == 2


async def test_a_rule_that_is_narrower_than_what_is_wanted_is_told_and_mended(
    store: S3Access, bucket: str, tmp_path: Path
) -> None:
    await _set(store, bucket, {"Id": "old", "QueueArn": ARN, "Events": ["s3:ObjectCreated:Put"]})
    command = Command(tmp_path, **minio_source(store, bucket))
    (said,) = await command.check()
    assert said.startswith(f"bucket {bucket!r} does not tell of all s3:ObjectCreated:*")
    assert f"only s3:ObjectCreated:Put to {ARN}" in said
    done = await command.setup()
    assert done.exit_code == 0, done.output
    assert await command.check() == []
    assert {rule["Id"] for rule in await _rules(store, bucket)} > {"old"}


async def test_which_webhook_it_is_must_be_known(store: S3Access, bucket: str, tmp_path: Path) -> None:
    command = Command(tmp_path, **minio_source(store, bucket))
    command.document["sources"] = {"frames": command.source}
    command.document["routes"]["r"]["from"] = ["frames"]
    command.file.write_text(json.dumps(command.document))
    asked = await command.setup(name="frames")
    assert asked.exit_code == 1
    assert "Say it with --arn" in asked.output
    assert ARN in asked.output
    assert (await command.setup("--arn", ARN, name="frames")).exit_code == 0
    wrong = await command.setup("--arn", "arn:minio:sqs::NOBODY:webhook", name="frames")
    assert wrong.exit_code == 1
    assert "destination ARN" in wrong.output


async def test_wrong_usage_is_2(store: S3Access, bucket: str, tmp_path: Path) -> None:
    command = Command(tmp_path, **minio_source(store, bucket, receive=[]))
    assert (await command.setup()).exit_code == 2
    assert (await command.setup(name="upload")).exit_code == 2
    command = Command(tmp_path, kind="cloudevents")
    assert (await command.setup()).exit_code == 2


async def test_a_missing_bucket_is_told(store: S3Access, tmp_path: Path) -> None:
    done = await Command(tmp_path, **minio_source(store, "no-such-bucket")).setup()
    assert done.exit_code == 1
    assert "NoSuchBucket" in done.output


# --- in the words of AWS ----------------------------------------------------------------------------------

XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
SQS = "arn:aws:sqs:us-east-1:000000000000:inbox"
THEIRS = (
    f'<NotificationConfiguration xmlns="{XMLNS}"><TopicConfiguration><Id>theirs</Id>'
    "<Topic>arn:aws:sns:us-east-1:0:t</Topic><Event>s3:ObjectCreated:*</Event><Filter><S3Key><FilterRule>"
    "<Name>Prefix</Name><Value>run/</Value></FilterRule></S3Key></Filter></TopicConfiguration>"
    "<EventBridgeConfiguration/></NotificationConfiguration>"
)


class Aws:
    """A bucket of AWS, as far as its notification goes."""

    def __init__(self) -> None:
        self.document = THEIRS
        self.refuses: dict[str, tuple[str, str]] = {}

    async def handle(self, request: web.Request) -> web.Response:
        """GET or PUT ?notification, and the queue's attributes."""
        if request.method in self.refuses:
            code, words = self.refuses[request.method]
            body = f"<Error><Code>{code}</Code><Message>{words}</Message></Error>"
            return web.Response(status=403 if code == "AccessDenied" else 400, text=body)
        if request.method == "POST":
            assert request.headers["X-Amz-Target"] == "AmazonSQS.GetQueueAttributes"
            assert "/us-east-1/sqs/aws4_request" in request.headers["Authorization"]
            return web.json_response({"Attributes": {"QueueArn": SQS}})
        assert "notification" in request.query
        if request.method == "PUT":
            self.document = await request.text()
        return web.Response(text=self.document)


@pytest_asyncio.fixture
async def aws(tmp_path: Path) -> AsyncIterator[tuple[Aws, Command]]:
    made = Aws()
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", made.handle)
    async with TestServer(application) as server:
        endpoint = str(server.make_url("")).rstrip("/")
        source = minio_source(S3Access(endpoint, "a", "b"), "inbox", receive=["sqs"], prefix="new/")
        yield made, Command(tmp_path, **source, queue_url=f"{endpoint}/000000000000/inbox")


async def test_a_queue_is_asked_for_its_arn_and_what_we_know_nothing_of_stays(
    aws: tuple[Aws, Command],
) -> None:
    made, command = aws
    done = await command.setup()
    assert done.exit_code == 0, done.output
    root = ET.fromstring(made.document)
    tags = [element.tag.removeprefix(f"{{{XMLNS}}}") for element in root]
    assert sorted(tags) == ["EventBridgeConfiguration", "QueueConfiguration", "TopicConfiguration"]
    assert f"<Queue>{SQS}</Queue>" in made.document
    assert "<Topic>arn:aws:sns:us-east-1:0:t</Topic>" in made.document
    assert "already" in (await command.setup()).output


async def test_an_overlap_that_aws_refuses_is_told_with_whose_it_is(aws: tuple[Aws, Command]) -> None:
    made, command = aws
    command.document["sources"]["uploads"]["prefix"] = "run/1/"
    command.file.write_text(json.dumps(command.document))
    made.refuses["PUT"] = ("InvalidArgument", "Configurations overlap. Configurations on the same bucket …")
    done = await command.setup()
    assert done.exit_code == 1
    assert "Configurations overlap" in done.output
    assert "remove 'theirs': s3:ObjectCreated:*, prefix 'run/' to arn:aws:sns:us-east-1:0:t" in done.output
    assert made.document == THEIRS


@pytest.mark.parametrize(
    ("method", "right"), [("GET", "s3:GetBucketNotification"), ("PUT", "s3:PutBucketNotification")]
)
async def test_a_missing_right_is_told(aws: tuple[Aws, Command], method: str, right: str) -> None:
    made, command = aws
    made.refuses[method] = ("AccessDenied", "Access Denied")
    done = await command.setup()
    assert done.exit_code == 1
    assert right in done.output


async def test_a_store_that_forgets_it_at_once_is_told(aws: tuple[Aws, Command]) -> None:
    """Someone else set the whole document at the same time."""
    made, command = aws
    handle = made.handle

    async def forget(request: web.Request) -> web.Response:
        answer = await handle(request)
        made.document = THEIRS
        return answer

    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", forget)
    async with TestServer(application) as server:
        command.document["sources"]["uploads"]["endpoint"] = str(server.make_url("")).rstrip("/")
        command.file.write_text(json.dumps(command.document))
        done = await command.setup()
    assert done.exit_code == 1
    assert "at the same time" in done.output
