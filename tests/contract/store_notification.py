"""What MinIO tells of an upload."""

from urllib.parse import quote_plus

import msgspec


def notification(key: str, *, etag: str, size: int, instant: int) -> bytes:
    """A body as MinIO posts it (recorded from the real server, shortened)."""
    thing = {"key": quote_plus(key), "eTag": etag, "sequencer": f"{instant * 1_000_000 + 123_456:X}"}
    record = {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": "2023-11-14T22:13:20.000Z",
        "eventName": "s3:ObjectCreated:Put",
        "userIdentity": {"principalId": "someone"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "Config",
            "bucket": {"name": "inbox", "arn": "arn:aws:s3:::inbox"},
            "object": thing | ({"size": size} if size else {}),
        },
    }
    return msgspec.json.encode(
        {"EventName": "s3:ObjectCreated:Put", "Key": f"inbox/{key}", "Records": [record]}
    )
