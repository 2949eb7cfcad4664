"""An SQS queue: receive, delete, extend. By the "Amazon SQS API reference", in its JSON protocol, which
ElasticMQ and others speak too. Signed like all else that is asked of a store, so that rotated keys are
picked up here as well.
"""

from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.staging.s3_answers import Refused
from dcnios_daemon.staging.s3_calls import Call, SignedCalls
from dcnios_daemon.staging.s3_identity import S3Settings

BATCH = 10
"""Messages of one call, at most."""
LONG_POLL = 20
"""Seconds that a call waits for messages: the most that SQS takes."""
_BUSY = frozenset({"RequestThrottled", "ThrottlingException", "KmsThrottled", "OverLimit"})
_SERVER_ERROR = 500
_TOO_MANY = 429
_Answer = TypeVar("_Answer")


class Message(msgspec.Struct, frozen=True):
    """One message."""

    id: str = msgspec.field(name="MessageId")
    receipt: str = msgspec.field(name="ReceiptHandle")
    body: str = msgspec.field(name="Body")


class _Received(msgspec.Struct):
    messages: list[Message] | None = msgspec.field(name="Messages", default=None)


class _Failure(msgspec.Struct):
    code: str = msgspec.field(name="Code", default="")
    message: str = msgspec.field(name="Message", default="")


class _Done(msgspec.Struct):
    failed: list[_Failure] | None = msgspec.field(name="Failed", default=None)


class _Attributes(msgspec.Struct):
    attributes: dict[str, str] = msgspec.field(name="Attributes", default_factory=dict)


class _Error(msgspec.Struct):
    kind: str = msgspec.field(name="__type", default="")
    message: str = ""


def _refused(where: str, status: int, body: bytes) -> StoreError:
    try:
        error = msgspec.json.decode(body, type=_Error)
        code, words = error.kind.rpartition("#")[2], error.message
    except msgspec.DecodeError:
        code, words = "", body[:200].decode(errors="replace").strip()
    said = f"{where}: {status} {code}: {words}" if code else f"{where}: {status} {words}"
    if status >= _SERVER_ERROR or status == _TOO_MANY or code in _BUSY:
        return StoreUnavailable(said)
    return Refused(said, code=code)


class QueueClient:
    """One queue.

    Args:
        settings: As whom.
        url: The queue's address.
    """

    def __init__(self, settings: S3Settings, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self._endpoint = f"{parts.scheme}://{parts.netloc}/"
        self._calls = SignedCalls(settings, connections=0, service="sqs", refused=_refused)

    async def receive(self, *, hidden: int) -> list[Message]:
        """Wait for messages, and hide them from others for so many seconds.

        Raises:
            StoreUnavailable, StoreError: See :class:`~dcnios_daemon.staging.s3_calls.SignedCalls`; so all.
        """
        asked = {"MaxNumberOfMessages": BATCH, "WaitTimeSeconds": LONG_POLL, "VisibilityTimeout": hidden}
        return (await self._call("ReceiveMessage", asked, _Received)).messages or []

    async def delete(self, messages: Sequence[Message]) -> None:
        """Take them off the queue for good."""
        entries = [{"Id": str(at), "ReceiptHandle": each.receipt} for at, each in enumerate(messages)]
        await self._batch("DeleteMessageBatch", entries)

    async def extend(self, messages: Sequence[Message], *, hidden: int) -> None:
        """Hide them for so many seconds from now."""
        entries = [
            {"Id": str(at), "ReceiptHandle": each.receipt, "VisibilityTimeout": hidden}
            for at, each in enumerate(messages)
        ]
        await self._batch("ChangeMessageVisibilityBatch", entries)

    async def arn(self) -> str:
        """The queue's ARN."""
        asked = {"AttributeNames": ["QueueArn"]}
        found = (await self._call("GetQueueAttributes", asked, _Attributes)).attributes
        try:
            return found["QueueArn"]
        except KeyError:
            raise StoreError(f"{self.url} does not tell its QueueArn") from None

    async def _batch(self, action: str, entries: Sequence[dict[str, Any]]) -> None:
        for failure in (await self._call(action, {"Entries": entries}, _Done)).failed or ():
            raise StoreUnavailable(f"{self.url}: {action}: {failure.code}: {failure.message}")

    async def _call(self, action: str, asked: dict[str, Any], answer: type[_Answer]) -> _Answer:
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{action}"}
        body = msgspec.json.encode({"QueueUrl": self.url} | asked)
        call = Call(method="POST", url=self._endpoint, where=self.url, body=body, headers=headers)
        async with self._calls.open(call) as reply:
            try:
                return msgspec.json.decode(await reply.read(), type=answer)
            except msgspec.DecodeError as error:
                raise StoreError(f"{self.url}: {action}: the answer cannot be read: {error}") from error

    async def aclose(self) -> None:
        """Release connections."""
        await self._calls.aclose()
