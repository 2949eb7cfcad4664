"""What the end-to-end tests do as users of the stores and brokers around the daemon."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aiobotocore.session import get_session
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.servers.minio import S3Access


@contextlib.asynccontextmanager
async def s3_client(access: S3Access) -> AsyncIterator[Any]:
    """An S3 client of the store's administrator."""
    made = get_session().create_client(
        "s3",
        endpoint_url=access.endpoint,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        region_name="us-east-1",
    )
    async with made as client:
        yield client


@contextlib.asynccontextmanager
async def sqs_client(endpoint: str) -> AsyncIterator[Any]:
    """A client of a queue server that takes anybody."""
    made = get_session().create_client(
        "sqs",
        endpoint_url=endpoint,
        aws_access_key_id="anybody",
        aws_secret_access_key="anything",
        region_name="us-east-1",
    )
    async with made as client:
        yield client


async def notify(client: Any, bucket: str, target: str) -> None:
    """Have MinIO tell the webhook target of every object made in the bucket."""
    await client.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "Id": "dcnios",
                    "QueueArn": f"arn:minio:sqs::{target}:webhook",
                    "Events": ["s3:ObjectCreated:*"],
                }
            ]
        },
    )


async def objects(client: Any, bucket: str, prefix: str = "") -> dict[str, bytes]:
    """Key to content of every object below the prefix."""
    found: dict[str, bytes] = {}
    async for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            answer = await client.get_object(Bucket=bucket, Key=item["Key"])
            found[item["Key"]] = await answer["Body"].read()
    return found


async def make_topic(bootstrap: str, topic: str, partitions: int) -> None:
    """Make a topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)])
    finally:
        await admin.close()


async def produce(bootstrap: str, topic: str, values: Sequence[bytes], **more: Any) -> None:
    """Write records and wait until the broker has them all."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=4 * 1024 * 1024, **more)
    await producer.start()
    try:
        for value in values:
            await producer.send(topic, value)
        await producer.flush()
    finally:
        await producer.stop()


def minio_source(access: S3Access, bucket: str, **more: Any) -> Mapping[str, Any]:
    """A ``minio`` source on the store."""
    return {
        "kind": "minio",
        "endpoint": access.endpoint,
        "access_key": access.access_key,
        "secret_key": access.secret_key,
        "buckets": [bucket],
        **more,
    }
