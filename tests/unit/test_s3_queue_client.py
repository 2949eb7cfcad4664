"""What a queue's answers mean, and as whom it is asked. The real thing is in the integration tests."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.sources.minio.queue_client import Message, QueueClient
from dcnios_daemon.staging import s3_identity
from dcnios_daemon.staging.s3_answers import Refused
from dcnios_daemon.staging.s3_identity import S3Settings

MESSAGE = {"MessageId": "1", "ReceiptHandle": "r", "Body": "b"}


class Sqs:
    """Answers what it is told to."""

    def __init__(self, answer: Any = None, *, status: int = 200) -> None:
        self.answer, self.status = answer or {}, status
        self.knows: str | None = None
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.who: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        """By SQS's JSON protocol."""
        self.asked.append((request.headers["X-Amz-Target"].partition(".")[2], await request.json()))
        self.who.append(request.headers["Authorization"].split("Credential=")[1].split("/")[0])
        if self.knows is not None and self.who[-1] != self.knows:
            refusal = {"__type": "com.amazon.coral.service#InvalidClientTokenId", "message": "who?"}
            return web.json_response(refusal, status=403)
        text = self.answer if isinstance(self.answer, str) else json.dumps(self.answer)
        return web.Response(status=self.status, text=text, content_type="application/x-amz-json-1.0")


@asynccontextmanager
async def client(sqs: Sqs, **settings: str) -> AsyncIterator[QueueClient]:
    """Of that queue."""
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", sqs.handle)
    who = {"secret_key": "s"} | (settings or {"access_key": "old"})
    async with TestServer(application) as server:
        made = QueueClient(S3Settings.model_validate(who), str(server.make_url("/1/inbox")))
        try:
            yield made
        finally:
            await made.aclose()


async def test_messages_are_waited_for_hidden_and_deleted_by_their_receipts() -> None:
    sqs = Sqs({"Messages": [MESSAGE]})
    async with client(sqs) as made:
        (message,) = await made.receive(hidden=60)
        sqs.answer = {}
        assert await made.receive(hidden=60) == []
        await made.extend([message], hidden=60)
        await made.delete([message])
    assert message == Message("1", "r", "b")
    url = made.url
    entry = {"Id": "0", "ReceiptHandle": "r"}
    assert sqs.asked[1:] == [
        (
            "ReceiveMessage",
            {"QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 20, "VisibilityTimeout": 60},
        ),
        (
            "ChangeMessageVisibilityBatch",
            {"QueueUrl": url, "Entries": [entry | {"VisibilityTimeout": 60}]},
        ),
        ("DeleteMessageBatch", {"QueueUrl": url, "Entries": [entry]}),
    ]


async def test_keys_that_the_queue_no_longer_knows_are_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_identity, "REREAD", 3600.0)  # they are not read anew just for their age
    access, sqs = tmp_path / "access", Sqs({"Messages": [MESSAGE]})
    access.write_text("old")
    async with client(sqs, access_key_file=str(access)) as made:
        assert await made.receive(hidden=1)
        access.write_text("new")
        sqs.knows = "new"
        assert await made.receive(hidden=1)
        sqs.knows = "nobody"
        with pytest.raises(Refused, match="InvalidClientTokenId"):
            await made.receive(hidden=1)
    assert sqs.who == ["old", "old", "new", "new"]


@pytest.mark.parametrize(
    ("status", "answer", "again"),
    [
        (503, "", True),
        (500, {"__type": "InternalError"}, True),
        (429, {"__type": "TooMany"}, True),
        (400, {"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slow down"}, True),
        (400, {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no such"}, False),
        (403, {"__type": "AccessDenied"}, False),
    ],
)
async def test_what_passes_is_waited_for_and_what_does_not_is_told(
    status: int, answer: Any, again: bool
) -> None:
    async with client(Sqs(answer, status=status)) as made:
        with pytest.raises(StoreError, match=str(status)) as raised:
            await made.receive(hidden=1)
    assert raised.value.retryable is again


async def test_what_was_not_deleted_is_said() -> None:
    failed = {"Id": "0", "Code": "InternalError", "Message": "sorry", "SenderFault": False}
    async with client(Sqs({"Failed": [failed]})) as made:
        with pytest.raises(StoreUnavailable, match="InternalError: sorry"):
            await made.delete([Message("1", "r", "b")])


async def test_a_queue_that_is_not_there_is_waited_for() -> None:
    made = QueueClient(
        S3Settings.model_validate({"access_key": "a", "secret_key": "b"}), "http://127.0.0.1:9/q/q"
    )
    try:
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9"):
            await made.receive(hidden=1)
    finally:
        await made.aclose()


def test_its_library_is_loaded_only_when_a_queue_is_asked() -> None:
    program = (
        "import sys, dcnios_daemon.sources.registry as r; r.KINDS['minio'].build(name='s', "
        "settings=r.KINDS['minio'].settings(buckets=('b',), reconcile=0)); "
        "sys.exit(bool({'botocore', 'aiobotocore'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
