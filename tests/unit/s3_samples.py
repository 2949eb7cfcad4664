"""Notifications as S3 stores send them."""

import json
from typing import Any

from tests.contract.store_notification import notification

AWS = {  # from the S3 user guide, "Event message structure"
    "Records": [
        {
            "eventVersion": "2.2",
            "eventSource": "aws:s3",
            "awsRegion": "us-west-2",
            "eventTime": "1970-01-01T00:00:00.000Z",
            "eventName": "ObjectCreated:Put",
            "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
            "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "responseElements": {
                "x-amz-request-id": "C3D13FE58DE4C810",
                "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD",
            },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "testConfigRule",
                "bucket": {
                    "name": "inbox",
                    "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                    "arn": "arn:aws:s3:::inbox",
                },
                "object": {
                    "key": "Happy+Face.jpg",
                    "size": 1024,
                    "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                    "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                    "sequencer": "0055AED6DCD90281E5",
                },
            },
        }
    ]
}
CEPH = {  # from Ceph's manual, "S3 Bucket Notifications Compatibility" and "Bucket Notifications"
    "Records": [
        {
            "eventVersion": "2.1",
            "eventSource": "ceph:s3",
            "awsRegion": "zonegroup1",
            "eventTime": "2019-11-22T13:47:35.124724Z",
            "eventName": "ObjectCreated:Put",
            "userIdentity": {"principalId": "tester"},
            "requestParameters": {"sourceIPAddress": ""},
            "responseElements": {
                "x-amz-request-id": "503a4c37-85eb-47cd-8681-2817e80b4281.5330.903595",
                "x-amz-id-2": "14d2-zone1-zonegroup1",
            },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "mynotif1",
                "bucket": {
                    "name": "inbox",
                    "ownerIdentity": {"principalId": "tester"},
                    "arn": "arn:aws:s3:us-east-1::mybucket1",
                    "id": "503a4c37-85eb-47cd-8681-2817e80b4281.5332.38",
                },
                "object": {
                    "key": "myimage1.jpg",
                    "size": "1024",
                    "eTag": "37b51d194a7513e45b56f6524f2d51f2",
                    "versionId": "",
                    "sequencer": "F7E6D75DC742D108",
                    "metadata": [],
                    "tags": [],
                },
            },
            "eventId": "",
            "opaqueData": "me@example.com",
        }
    ]
}


def aws(name: str, *, thing: dict[str, Any], **more: Any) -> bytes:
    """A record of AWS of another kind, by the tables in "Event message structure"."""
    record: dict[str, Any] = json.loads(json.dumps(AWS["Records"][0]))
    kept = {"key": record["s3"]["object"]["key"], "sequencer": record["s3"]["object"]["sequencer"]}
    record["eventVersion"], record["eventName"] = "2.5", name
    record["s3"]["object"] = kept | thing
    return json.dumps({"Records": [record | more]}).encode()


AWS_DELETE_MARKER = aws(
    "ObjectRemoved:DeleteMarkerCreated",
    thing={"eTag": "d41d8cd98f00b204e9800998ecf8427e", "versionId": "p58nl1"},
)
AWS_DELETED = aws("ObjectRemoved:Delete", thing={})
AWS_EXPIRED = aws("LifecycleExpiration:Delete", thing={}, userIdentity={"principalId": "s3.amazonaws.com"})
AWS_RESTORED = aws(
    "ObjectRestore:Completed",
    thing={"size": 9, "eTag": "e"},
    glacierEventData={
        "restoreEventData": {
            "lifecycleRestorationExpiryTime": "1970-01-01T00:00:00.000Z",
            "lifecycleRestoreStorageClass": "GLACIER",
        }
    },
)
AWS_IN_PARTS = aws("ObjectCreated:CompleteMultipartUpload", thing={"size": 99, "eTag": "a1b2-2"})


def ceph(name: str = "ObjectCreated:Put", **thing: Any) -> bytes:
    """A record of Ceph with metadata, tags and an id, as ``rgw_pubsub.cc`` writes them."""
    record: dict[str, Any] = json.loads(json.dumps(CEPH["Records"][0]))
    record |= {"eventName": name, "eventVersion": "2.2", "eventId": "1575221657.102001.80dbf9ad.73"}
    record["s3"]["object"] |= {
        "metadata": [{"key": "x-amz-meta-run", "val": "7"}],
        "tags": [{"key": "site", "val": "hall-b"}],
        **thing,
    }
    return json.dumps({"Records": [record]}).encode()


def minio_body(key: str = "a.png", **more: Any) -> bytes:
    about: dict[str, Any] = {"etag": "e", "size": 3, "instant": 1_700_000_000_123} | more
    return notification(key, **about)
