"""An SQS queue: receive, delete, extend. By aiobotocore, which is loaded when a queue is first asked: with it
come some 20 MB, which nobody else is to pay for.

It signs with what the store is asked with, so that rotated keys are picked up here as well.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.staging.s3_answers import Refused
from dcnios_daemon.staging.s3_calls import STALE
from dcnios_daemon.staging.s3_identity import Identity, Keys, S3Settings

BATCH = 10
"""Messages of one call, at most."""
LONG_POLL = 20
"""Seconds that a call waits for messages: the most that SQS takes."""
_CONNECT = 10
_SILENCE = 40
_BUSY = frozenset({"RequestThrottled", "ThrottlingException", "KmsThrottled", "OverLimit"})
_SERVER_ERROR = 500
_TOO_MANY = 429


class Message(msgspec.Struct, frozen=True):
    """One message."""

    id: str
    receipt: str
    body: str


def _prepare(where: str) -> tuple[Any, Any]:
    """A session that has read all files that it needs, which is why this is not for the event loop, and the
    configuration of its client."""
    from aiobotocore.config import AioConfig  # noqa: PLC0415 - only daemons with a queue pay for it
    from aiobotocore.session import AioSession  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    try:
        session = AioSession()
        session.warm_up_loader_caches("sqs")
        session.full_config  # noqa: B018 - a property that reads ~/.aws
        config = AioConfig(
            connect_timeout=_CONNECT,
            read_timeout=LONG_POLL + _SILENCE,
            retries={"total_max_attempts": 1},
        )
    except (BotoCoreError, OSError) as error:
        raise StoreUnavailable(f"{where}: {type(error).__name__}: {error}") from error
    return session, config


class QueueClient:
    """One queue.

    Args:
        settings: As whom.
        url: The queue's address.
    """

    def __init__(self, settings: S3Settings, url: str) -> None:
        self.url = url
        self._settings = settings
        self._identity = Identity(settings)
        self._opening = asyncio.Lock()
        self._held = contextlib.AsyncExitStack()
        self._client: Any = None
        self._credentials: Any = None

    async def receive(self, *, hidden: int) -> list[Message]:
        """Wait for messages, and hide them from others for so many seconds.

        Raises:
            StoreUnavailable: The queue cannot be asked now; so all.
            StoreError: It refuses; so all.
        """
        answer = await self._call(
            "receive_message",
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=LONG_POLL,
            VisibilityTimeout=hidden,
        )
        return [
            Message(each["MessageId"], each["ReceiptHandle"], each["Body"])
            for each in answer.get("Messages", ())
        ]

    async def delete(self, messages: Sequence[Message]) -> None:
        """Take them off the queue for good."""
        entries = [{"Id": str(at), "ReceiptHandle": each.receipt} for at, each in enumerate(messages)]
        await self._batch("delete_message_batch", entries)

    async def extend(self, messages: Sequence[Message], *, hidden: int) -> None:
        """Hide them for so many seconds from now."""
        entries = [
            {"Id": str(at), "ReceiptHandle": each.receipt, "VisibilityTimeout": hidden}
            for at, each in enumerate(messages)
        ]
        await self._batch("change_message_visibility_batch", entries)

    async def arn(self) -> str:
        """The queue's ARN."""
        answer = await self._call("get_queue_attributes", AttributeNames=["QueueArn"])
        try:
            return str(answer["Attributes"]["QueueArn"])
        except KeyError:
            raise StoreError(f"{self.url} does not tell its QueueArn") from None

    async def aclose(self) -> None:
        """Release connections."""
        await self._held.aclose()

    # ----------------------------------------------------------------------------------------------------

    async def _batch(self, action: str, entries: Sequence[dict[str, Any]]) -> None:
        for failure in (await self._call(action, Entries=entries)).get("Failed", ()):
            raise StoreUnavailable(
                f"{self.url}: {action}: {failure.get('Code')}: {failure.get('Message', '')}"
            )

    async def _call(self, action: str, **asked: Any) -> Mapping[str, Any]:  # noqa: ANN401 - by the API
        """Ask; once more where our keys are no longer known and there are newer ones."""
        keys = await self._identity.keys()
        try:
            return await self._ask(keys, action, asked)
        except Refused as error:
            if error.code not in STALE or not await self._identity.renew(keys):
                raise
        return await self._ask(await self._identity.keys(), action, asked)

    async def _ask(self, keys: Keys, action: str, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        client = await self._open(keys)
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - loaded by now

        try:
            answer: Mapping[str, Any] = await getattr(client, action)(QueueUrl=self.url, **asked)
        except ClientError as error:
            raise self._refused(error.response) from error
        except (BotoCoreError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise StoreUnavailable(f"{self.url}: {type(error).__name__}: {error}") from error
        return answer

    async def _open(self, keys: Keys) -> Any:  # noqa: ANN401 - the library has no types
        """The client, which from now on signs with these keys."""
        async with self._opening:
            if self._client is None:
                self._client = await self._make(keys)
        self._credentials.access_key = keys.access_key
        self._credentials.secret_key = keys.secret_key
        self._credentials.token = keys.token
        return self._client

    async def _make(self, keys: Keys) -> Any:  # noqa: ANN401 - the library has no types
        session, config = await asyncio.to_thread(_prepare, self.url)
        session.set_credentials(keys.access_key, keys.secret_key, keys.token)
        self._credentials = await session.get_credentials()
        made = session.create_client(
            "sqs",
            region_name=self._settings.region,
            endpoint_url="{0.scheme}://{0.netloc}".format(urlsplit(self.url)),
            verify=None if self._settings.ca_file is None else str(self._settings.ca_file),
            config=config,
        )
        return await self._held.enter_async_context(made)

    def _refused(self, answer: Mapping[str, Any]) -> StoreError:
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code, words = answer["Error"].get("Code", ""), answer["Error"].get("Message", "")
        said = f"{self.url}: {status} {code}: {words}"
        if status >= _SERVER_ERROR or status == _TOO_MANY or code in _BUSY:
            return StoreUnavailable(said)
        return Refused(said, code=code)
