"""The MinIO source against a real MinIO that tells it by webhook, through the daemon's real web server."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import pytest_asyncio

from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.ports import Journal, Source
from dcnios_daemon.core.settings import Secret
from dcnios_daemon.sources import runner
from dcnios_daemon.sources.minio import listen
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.sources.minio.source import MinioSource
from dcnios_daemon.staging.s3 import S3Client
from dcnios_daemon.telemetry.events import StreamLost
from dcnios_daemon.telemetry.health import Health
from dcnios_daemon.web.api import Api
from dcnios_daemon.web.server import Door, WebServer
from tests.contract.source_rig import NAME, Bench, Rig
from tests.e2e.stores import notify, s3_client
from tests.servers import versions
from tests.servers.minio import MinIO
from tests.servers.workspace import Workspace

ODD_KEYS = (
    "plain.txt",
    "a b+c%2F#d?.txt",
    "quotes \"'` & <tags>.txt",
    "emoji/\N{CAT FACE}/\N{SNOWMAN}.png",
    "umlaut/Äpfel ünd\N{NO-BREAK SPACE}Öl.txt",
    "/".join(letter * 224 for letter in "wxyz"),
    "empty",
)


class RealMinioRig(Rig):
    """Uploads to the real server, which tells of them by itself."""

    push = True

    def __init__(self, server: MinIO, bucket: str) -> None:
        super().__init__()
        self.server, self.bucket = server, bucket
        self.more: dict[str, Any] = {}

    def build(self) -> Source:
        """With what the test asks for."""
        settings = MinioSettings.model_validate(
            {
                "endpoint": self.server.endpoint,
                "access_key": self.server.access_key,
                "secret_key": self.server.secret_key,
                "buckets": [self.bucket],
                "reconcile": 0.2,
                **self.more,
            }
        )
        return MinioSource(name=NAME, settings=settings)

    async def upload(self, client: Any, key: str, content: bytes = b"content") -> None:
        """Put it, again while the server is away."""
        while True:
            try:
                await client.put_object(Bucket=self.bucket, Key=key, Body=content)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                break
        self.happened.append(f"{self.bucket}/{key}")

    async def happen(self, count: int) -> None:
        """Uploads."""
        async with s3_client(self.server.access) as client:
            for _ in range(count):
                await self.upload(client, f"object-{len(self.happened)}")

    def identify(self, event: Event) -> str:
        """Bucket and key."""
        return event.subject


class Site:
    """A MinIO with one bucket, and the daemon's port that it tells of it."""

    def __init__(self, server: MinIO, bench: Bench, rig: RealMinioRig) -> None:
        self.server, self.bench, self.rig = server, bench, rig
        self.events = bench.journal.events

    def via(self) -> Counter[str]:
        """How many events were told, how many listed."""
        return Counter(event.attributes["via"] for event in self.events)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.2)


@pytest_asyncio.fixture
async def site(workspace: Workspace) -> AsyncIterator[Site]:
    async with _site(workspace, versions.MINIO) as made:
        yield made


@pytest_asyncio.fixture
async def streaming_site(workspace: Workspace) -> AsyncIterator[Site]:
    """With a MinIO that can be listened to."""
    async with _site(workspace, versions.MINIO_THAT_STREAMS) as made:
        made.rig.more = {"receive": ["listen"], "reconcile": 0}
        yield made


@asynccontextmanager
async def _site(workspace: Workspace, version: str) -> AsyncIterator[Site]:
    port, token, bucket = workspace.port(), secrets.token_hex(8), "inbox"
    web = WebServer(
        health=Health(),
        api=Api(journal=cast("Journal", None), status=dict, routes=list),
        admin_token=Secret("admin"),
    )
    env = {
        "MINIO_NOTIFY_WEBHOOK_ENABLE_DCNIOS": "on",
        "MINIO_NOTIFY_WEBHOOK_ENDPOINT_DCNIOS": f"http://127.0.0.1:{port}/sources/{NAME}",
        "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_DCNIOS": token,
        "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_DCNIOS": str(workspace.directory("queue")),
    }
    server = MinIO(workspace, env=env, version=version)
    rig = RealMinioRig(server, bucket)
    bench = Bench(rig)
    web.mount(NAME, Door(receiver=bench, token=Secret(token)))
    async with web.listen("127.0.0.1", port):
        await asyncio.to_thread(server.start)
        try:
            async with s3_client(server.access) as client:
                await client.create_bucket(Bucket=bucket)
                await notify(client, bucket, "DCNIOS")
            yield Site(server, bench, rig)
        finally:
            await asyncio.to_thread(server.stop)


async def test_told_and_listed_is_one_event_and_overwriting_with_the_same_bytes_is_another(
    site: Site,
) -> None:
    async with site.bench.running() as running, s3_client(site.server.access) as client:
        await site.rig.upload(client, "run/1.dat")
        await site.bench.all_accepted()
        await _listed_again(site)
        await site.rig.upload(client, "run/1.dat")
        await site.bench.all_accepted()
        await _listed_again(site)
        await site.bench.all_accepted()
        assert not running.status.last_error
    first, second = site.events
    assert first.key != second.key
    assert first.attributes["etag"] == second.attributes["etag"]


async def _listed_again(site: Site) -> None:
    seen = site.bench.journal.duplicates
    await site.bench.journal.until(lambda: site.bench.journal.duplicates > seen + 1)


async def test_a_key_is_the_same_told_or_listed_whatever_the_objects_name(site: Site) -> None:
    site.rig.more = {"reconcile": 0}
    async with site.bench.running(), s3_client(site.server.access) as client:
        for key in ODD_KEYS:
            await site.rig.upload(client, key, b"" if key == "empty" else key.encode())
        await client.put_object(Bucket=site.rig.bucket, Key="a folder/", Body=b"")
        await _upload_in_parts(client, site.rig)
        await site.bench.all_accepted()
    assert site.via() == {"webhook": len(ODD_KEYS) + 1}

    listed = Bench(site.rig)
    site.rig.more = {"receive": []}
    async with listed.running():
        await listed.all_accepted()
    told_of = {event.key: event for event in site.events}
    assert told_of.keys() == listed.journal.keys
    for event in listed.journal.events:
        told = told_of[event.key]
        assert (event.subject, event.size, event.time, event.action) == (
            told.subject,
            told.size,
            told.time,
            told.action,
        )


async def _upload_in_parts(client: Any, rig: RealMinioRig) -> None:
    key = "in parts"
    upload = (await client.create_multipart_upload(Bucket=rig.bucket, Key=key))["UploadId"]
    about = {"Bucket": rig.bucket, "Key": key, "UploadId": upload}
    part = await client.upload_part(**about, PartNumber=1, Body=b"x" * 1000)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    await client.complete_multipart_upload(**about, MultipartUpload=parts)
    rig.happened.append(f"{rig.bucket}/{key}")


async def test_what_was_answered_busy_comes_again_from_the_stores_queue(site: Site) -> None:
    site.rig.more = {"reconcile": 0}
    async with site.bench.running():
        site.bench.gate.set("full")
        await site.rig.happen(5)
        await asyncio.sleep(1)
        assert not site.events
        site.bench.gate.set(None)
        await site.bench.all_accepted()
    assert site.via() == {"webhook": 5}


async def test_restarts_of_either_side_lose_and_double_nothing(site: Site) -> None:
    """An upload that is cut off may have been stored, and is made again: so the store's own versions say what
    really happened."""
    await _enable_versions(site)
    async with asyncio.TaskGroup() as group:
        uploads = group.create_task(site.rig.happen(60))
        for _ in range(3):
            async with site.bench.running():
                await asyncio.sleep(0.5)
                await asyncio.to_thread(site.server.kill)
                await asyncio.sleep(0.2)
            await asyncio.to_thread(site.server.start)
        async with site.bench.running():
            await uploads
            await _listed_again(site)
            await _listed_again(site)
    really = await _versions(site)
    accepted = Counter(event.subject for event in site.events)
    assert really.keys() == set(site.rig.happened)
    assert accepted == really


async def _enable_versions(site: Site, status: str = "Enabled") -> None:
    async with s3_client(site.server.access) as client:
        await client.put_bucket_versioning(Bucket=site.rig.bucket, VersioningConfiguration={"Status": status})


async def _versions(site: Site) -> Counter[str]:
    async with s3_client(site.server.access) as client:
        found = await client.list_object_versions(Bucket=site.rig.bucket)
    return Counter(f"{site.rig.bucket}/{version['Key']}" for version in found["Versions"])


async def test_versions_and_delete_markers_have_the_same_key_told_or_listed(site: Site) -> None:
    site.rig.more = {"reconcile": 3600, "events": BOTH}
    async with site.bench.running(), s3_client(site.server.access) as client:
        await _tell_of_both(site, client)
        await site.bench.journal.until(lambda: bool(site.bench.journal.cursors))
        await site.rig.upload(client, "before there were versions")
        await _enable_versions(site)
        for key in ("ümlaut %+", "deleted", "deleted with others"):
            for content in (b"one", b"two"):
                await site.rig.upload(client, key, content)
        await _delete(client, site, "deleted")
        await _delete_with_others(client, site, "deleted with others")
        await _enable_versions(site, "Suspended")
        for key in ("null", "null with others"):
            await site.rig.upload(client, key)
            await site.bench.all_accepted()
        await _delete(client, site, "null")
        await _delete_with_others(client, site, "null with others")
        await site.bench.all_accepted()
    assert site.via() == {"webhook": 13}
    assert Counter(event.action for event in site.events) == {Action.CREATED: 9, Action.REMOVED: 4}
    told_of = {event.key: event for event in site.events if not _is_overwritten(event)}
    site.rig.more = {"receive": [], "events": BOTH}
    site.rig.happened = [event.subject for event in told_of.values()]
    listed = Bench(site.rig)
    async with listed.running():
        await listed.all_accepted()
    assert listed.journal.keys == told_of.keys()
    for event in listed.journal.events:
        told = told_of[event.key]
        assert (event.action, event.size) == (told.action, told.size)
        assert abs(event.time - told.time) < 0.5
        assert told.attributes.get("version_id") in {event.attributes["version_id"], None}


BOTH = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


def _is_overwritten(event: Event) -> bool:
    """The delete marker took its place, since versions were no longer kept."""
    return "/null" in event.subject and event.action is Action.CREATED


async def _delete(client: Any, site: Site, key: str) -> None:
    await client.delete_object(Bucket=site.rig.bucket, Key=key)
    site.rig.happened.append(f"{site.rig.bucket}/{key}")


async def _delete_with_others(client: Any, site: Site, key: str) -> None:
    await client.delete_objects(Bucket=site.rig.bucket, Delete={"Objects": [{"Key": key}]})
    site.rig.happened.append(f"{site.rig.bucket}/{key}")


async def _tell_of_both(site: Site, client: Any) -> None:
    target = {"Id": "all", "QueueArn": "arn:minio:sqs::DCNIOS:webhook", "Events": BOTH}
    await client.put_bucket_notification_configuration(
        Bucket=site.rig.bucket, NotificationConfiguration={"QueueConfigurations": [target]}
    )


async def test_versions_made_and_deleted_while_nobody_told_are_found(site: Site) -> None:
    site.rig.more = {"receive": [], "events": BOTH}
    await _enable_versions(site)
    async with s3_client(site.server.access) as client:
        async with site.bench.running():
            await site.rig.upload(client, "first")
            await site.bench.all_accepted()
        for number in range(5):
            await site.rig.upload(client, "overwritten", b"%d" % number)
        await site.rig.upload(client, "overwritten", b"4")
        await site.rig.upload(client, "deleted")
        await _delete(client, site, "deleted")
        async with site.bench.running() as running:
            await site.bench.all_accepted()
            await _listed_again(site)
            await site.bench.all_accepted()
            assert not running.status.last_error
        for event in site.events:
            if event.action is Action.CREATED:
                version = event.attributes["version_id"]
                key = event.attributes["object"]
                await client.head_object(Bucket=site.rig.bucket, Key=key, VersionId=version)
    assert site.via() == {"listing": 9}
    assert Counter(event.action for event in site.events) == {Action.CREATED: 8, Action.REMOVED: 1}


async def test_a_thousand_versions_and_more_are_one_call_per_thousand(site: Site) -> None:
    site.rig.more = {"receive": []}
    await _enable_versions(site)
    async with s3_client(site.server.access) as client:
        for start in range(0, 1100, 50):
            async with asyncio.TaskGroup() as group:
                for number in range(start, start + 50):
                    group.create_task(site.rig.upload(client, f"é {number % 11}", b"%d" % number))
    store = S3Client(cast("MinioSource", site.rig.build())._settings)
    try:
        pages = [page async for page in store.versions(site.rig.bucket)]
    finally:
        await store.aclose()
    assert [len(page) for page in pages] == [1000, 100]
    async with site.bench.running():
        await site.bench.all_accepted()


# --- listening ----------------------------------------------------------------------------------------


async def _until(happy: Callable[[], bool]) -> None:
    while not happy():  # noqa: ASYNC110 - what is waited for calls nobody
        await asyncio.sleep(0.05)


async def _heard(site: Site) -> None:
    """Wait until the stream is open: what is uploaded over and over is told some time."""
    key = f"{site.rig.bucket}/probe"
    async with s3_client(site.server.access) as client:
        while all(event.subject != key for event in site.events):
            await client.put_object(Bucket=site.rig.bucket, Key="probe", Body=b"")
            await asyncio.sleep(0.1)
    site.rig.happened += [key] * sum(event.subject == key for event in site.events)


async def test_a_key_is_the_same_told_in_either_way_or_listed_whatever_the_objects_name(
    streaming_site: Site,
) -> None:
    site = streaming_site
    both = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
    async with s3_client(site.server.access) as client:
        rule = {"Id": "all", "QueueArn": "arn:minio:sqs::DCNIOS:webhook", "Events": both}
        await client.put_bucket_notification_configuration(
            Bucket=site.rig.bucket, NotificationConfiguration={"QueueConfigurations": [rule]}
        )
        site.rig.more = {"receive": ["webhook", "listen"], "reconcile": 0.2, "events": both}
        told: dict[str, set[str]] = {"webhook": set(), "listen": set(), "listing": set()}
        _note_ways(site, told)
        async with site.bench.running() as running:
            while not told["listen"]:
                await site.rig.upload(client, f"early-{len(site.rig.happened)}")
                await asyncio.sleep(0.2)
            for key in ODD_KEYS:
                await site.rig.upload(client, key, b"" if key == "empty" else key.encode())
            await _upload_in_parts(client, site.rig)
            await site.bench.all_accepted()
            await _every_way(site, told)
            await client.delete_object(Bucket=site.rig.bucket, Key="plain.txt")
            site.rig.happened.append(f"{site.rig.bucket}/plain.txt")
            await site.bench.all_accepted()
            assert site.events[-1].action is Action.REMOVED
            await _until(lambda: site.events[-1].key in told["webhook"] & told["listen"])
            await site.bench.all_accepted()
            assert not running.status.last_error


def _note_ways(site: Site, told: dict[str, set[str]]) -> None:
    """Have the journal remember which way told of which key, duplicates included."""
    append = site.bench.journal.append

    async def noting(source: str, admissions: Any, cursor: str | None) -> Any:
        for admission in admissions:
            told[admission.event.attributes["via"]].add(admission.event.key)
        return await append(source, admissions, cursor)

    site.bench.journal.append = noting  # type: ignore[method-assign]


async def _every_way(site: Site, told: dict[str, set[str]]) -> None:
    """All that happened after the start came by all ways, under the same keys."""
    late = {event.key for event in site.events if "/early-" not in event.subject}
    assert len(late) == len(ODD_KEYS) + 1
    await _until(lambda: late <= told["webhook"] & told["listen"] & told["listing"])


async def test_what_is_heard_reads_like_what_the_webhook_tells(streaming_site: Site) -> None:
    site = streaming_site
    async with site.bench.running(), s3_client(site.server.access) as client:
        await _heard(site)
        await site.rig.upload(client, "a b+c%2F#d?.txt")
        await site.bench.all_accepted()
    document = json.loads(site.events[-1].data)
    assert site.events[-1].attributes["via"] == "listen"
    assert document["EventName"] == "s3:ObjectCreated:Put"
    assert document["Key"] == "inbox/a b+c%2F#d?.txt"
    assert document["Records"][0]["s3"]["object"]["key"] == "a+b%2Bc%252F%23d%3F.txt"
    assert document["Records"][0]["s3"]["object"]["size"] == 7


async def test_filters_are_the_same_though_minio_knows_fewer(streaming_site: Site) -> None:
    site = streaming_site
    site.rig.more |= {"prefix": "ab", "suffix": "bc", "events": ["s3:ObjectCreated:P?t"]}
    async with site.bench.running(), s3_client(site.server.access) as client:
        while not site.events:
            await client.put_object(Bucket=site.rig.bucket, Key="abbc", Body=b"")
            await asyncio.sleep(0.1)
        for key in ("abc", "ab/x/bc", "xabc", "abcx"):
            await client.put_object(Bucket=site.rig.bucket, Key=key, Body=b"x")
        await site.bench.journal.until(lambda: site.events[-1].subject == "inbox/ab/x/bc")
    assert {event.subject for event in site.events} == {"inbox/abbc", "inbox/abc", "inbox/ab/x/bc"}


async def test_after_a_restart_of_the_store_the_gap_is_listed_and_the_stream_goes_on(
    streaming_site: Site,
) -> None:
    site = streaming_site
    site.rig.more = {"receive": ["listen"], "reconcile": 3600}
    async with site.bench.running() as running, s3_client(site.server.access) as client:
        await _heard(site)
        for _ in range(2):
            await asyncio.to_thread(site.server.kill)
            await asyncio.to_thread(site.server.start)
            await site.rig.happen(5)
            await site.bench.all_accepted()
            while site.events[-1].attributes["via"] != "listen":
                await site.rig.upload(client, f"after-{len(site.rig.happened)}")
                await site.bench.all_accepted()
        assert not running.status.last_error
    # Of which way is luck: a stream that is open again before the first upload hears them all.
    assert site.via().keys() <= {"listing", "listen"}


async def test_while_the_journal_is_full_nothing_is_read_and_then_all_is_there(
    streaming_site: Site,
) -> None:
    site = streaming_site
    site.rig.more = {"receive": ["listen"], "reconcile": 3600}
    async with site.bench.running():
        await _heard(site)
        site.bench.gate.set("full")
        await asyncio.sleep(1.5)
        before = len(site.events)
        await site.rig.happen(20)
        assert len(site.events) == before
        site.bench.gate.set(None)
        await site.bench.all_accepted()
        while site.events[-1].attributes["via"] != "listen":
            await site.rig.happen(1)
            await site.bench.all_accepted()


async def test_a_minio_that_keeps_its_stream_to_itself_is_said_and_the_listing_does_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "SILENCE", 2.0)
    lost: list[StreamLost] = []

    def emit(self: StreamLost) -> None:
        lost.append(self)

    monkeypatch.setattr(StreamLost, "emit", emit)
    site.rig.more = {"receive": ["listen"], "reconcile": 0.2}
    async with site.bench.running() as running:
        await site.rig.happen(3)
        await site.bench.all_accepted()
        await _until(lambda: bool(lost))
        assert not running.status.last_error
    assert "use its webhook" in lost[0].error
