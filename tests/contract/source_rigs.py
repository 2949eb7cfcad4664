"""A rig for each kind of source. A new kind adds one class and one line at the end."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from urllib.parse import quote_plus

import msgspec

from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Inbound, Source
from dcnios_daemon.sources.cloudevents.source import CloudEventsSource
from dcnios_daemon.sources.directory.settings import DirectorySettings
from dcnios_daemon.sources.directory.source import DirectorySource
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.sources.minio.source import MinioSource
from dcnios_daemon.staging.s3_answers import S3Object
from tests.contract.dcache_rig import DcacheRig
from tests.contract.kafka_rig import KafkaRig
from tests.contract.source_rig import NAME, Rig
from tests.contract.sqs_rig import SqsRig
from tests.contract.store_notification import notification
from tests.unit import s3_samples as samples


class FakeS3:
    """Buckets in memory, listed in pages; tells of each upload as MinIO does."""

    def __init__(self, *, page: int = 3) -> None:
        self.objects: dict[str, S3Object] = {}
        self.history: list[S3Object] = []
        """All versions, where the bucket keeps them."""
        self.calls: list[str] = []
        self._page = page
        self._instant = 1_700_000_000_000

    def put(self, key: str, *, etag: str = "d41d8cd98f00b204e9800998ecf8427e", size: int = 3) -> bytes:
        """Store it; returns the body of MinIO's notification."""
        self._instant += 7
        self.objects[key] = S3Object(key, size, etag, self._instant / 1000)
        return notification(key, etag=etag, size=size, instant=self._instant)

    async def pages(
        self, bucket: str, *, prefix: str = "", after: str = ""
    ) -> AsyncGenerator[Sequence[S3Object], None]:
        """See :class:`~dcnios_daemon.staging.s3.S3Client`."""
        while True:
            self.calls.append(after)
            await asyncio.sleep(0)
            keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
            if keys:
                yield [self.objects[key] for key in keys[: self._page]]
            if len(keys) <= self._page:
                return
            after = keys[self._page - 1]

    async def versions(
        self, bucket: str, *, prefix: str = "", after: str = ""
    ) -> AsyncGenerator[Sequence[S3Object], None]:
        """Those in ``history``, the newest of a key first, as S3 has them."""
        self.calls.append(after)
        await asyncio.sleep(0)
        found = [each for each in self.history if each.key.startswith(prefix) and each.key > after]
        found.sort(key=lambda each: (each.key, -each.modified))
        for start in range(0, len(found), self._page):
            yield found[start : start + self._page]

    async def keeps_versions(self, bucket: str) -> bool:
        """If there is a history."""
        await asyncio.sleep(0)
        return bool(self.history)

    async def aclose(self) -> None:
        """Nothing is held."""


def post(body: bytes, **headers: str) -> Inbound:
    """A POST of it."""
    return Inbound("POST", {name.replace("_", "-"): value for name, value in headers.items()}, body)


class MinioRig(Rig):
    """Every second upload is told, the others only listed; what is told may be told again."""

    push = True

    def __init__(self) -> None:
        super().__init__()
        self.store = FakeS3()
        self._bodies: list[bytes] = []

    def build(self) -> Source:
        """With a listing so often that a test can wait for it."""
        settings = MinioSettings(endpoint="http://s3.example", buckets=("inbox",), reconcile=0.02)
        return MinioSource(name=NAME, settings=settings, lister=lambda _: self.store)

    async def happen(self, count: int) -> None:
        """Uploads."""
        for _ in range(count):
            key = f"some/key {len(self.happened)}"
            body = self.tell(key)
            self.happened.append(f"inbox/{key}")
            self._bodies.append(body)
            if len(self.happened) % 2:
                await self.insist(post(body))

    def tell(self, key: str) -> bytes:
        """Upload it; returns what the store tells of it."""
        return self.store.put(key)

    async def send_again(self) -> None:
        """Tell of all, in one body as AWS may."""
        records = [msgspec.json.decode(body)["Records"][0] for body in self._bodies]
        await self.insist(post(msgspec.json.encode({"Records": records})))

    async def send_malformed(self) -> None:
        """A body cut short."""
        assert (await self.door(post(self.store.put("cut")[:-5]))).status in {400, 503}
        del self.store.objects["cut"]

    def identify(self, event: Event) -> str:
        """Bucket and key."""
        return event.subject


class AwsRig(MinioRig):
    """Told as AWS tells, without the instant at which the object was made."""

    def tell(self, key: str) -> bytes:
        """See above."""
        self.store.put(key)
        thing = {"key": quote_plus(key), "eTag": self.store.objects[key].etag, "size": 3}
        return samples.aws("ObjectCreated:Put", thing=thing)


class CephRig(MinioRig):
    """Told as Ceph tells, with the key as it is."""

    def tell(self, key: str) -> bytes:
        """See above."""
        self.store.put(key)
        return samples.ceph(key=key, eTag=self.store.objects[key].etag, size=3, versionId="")


class CloudEventsRig(Rig):
    """Callers that come again until they are answered."""

    push = True

    def build(self) -> Source:
        """The source has no settings of its own."""
        return CloudEventsSource(name=NAME)

    async def happen(self, count: int) -> None:
        """Binary mode."""
        for _ in range(count):
            name = f"e{len(self.happened)}"
            self.happened.append(name)
            await self.insist(self._request(name))

    async def send_again(self) -> None:
        """Structured mode, all in a batch."""
        events = [{"specversion": "1.0", "id": name, "source": "/rig", "type": "t"} for name in self.happened]
        batch = post(msgspec.json.encode(events), content_type="application/cloudevents-batch+json")
        await self.insist(batch)

    async def send_malformed(self) -> None:
        """Without its id."""
        assert (await self.door(post(b"", ce_specversion="1.0"))).status in {400, 503}

    @staticmethod
    def _request(name: str) -> Inbound:
        return post(b"x", ce_specversion="1.0", ce_id=name, ce_source="/rig", ce_type="t")

    def identify(self, event: Event) -> str:
        """The CloudEvent's own id."""
        return event.attributes["id"]


class DirectoryRig(Rig):
    """A folder on this machine."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path()

    async def open(self) -> None:
        """Make it."""
        self.root = Path(await asyncio.to_thread(tempfile.mkdtemp))

    async def close(self) -> None:
        """Remove it."""
        await asyncio.to_thread(shutil.rmtree, self.root)

    def build(self) -> Source:
        """Looking often."""
        settings = DirectorySettings(path=self.root, pattern="**/*", poll=0.01, quiet=0.02)
        return DirectorySource(name=NAME, settings=settings)

    async def happen(self, count: int) -> None:
        """Files, some in folders, some renamed into place."""
        await asyncio.to_thread(self._write, count)

    def _write(self, count: int) -> None:
        for _ in range(count):
            number = len(self.happened)
            name = f"deep/{number}.dat" if number % 2 else f"{number}.dat"
            path = self.root / name
            path.parent.mkdir(exist_ok=True)
            part = path.with_name(f"{path.name}.part")
            part.write_text("content")
            part.rename(path)
            self.happened.append(name)

    async def send_malformed(self) -> None:
        """Names that are no UTF-8, a dangling link, a folder like a file: none may hold up the rest."""
        with contextlib.suppress(FileExistsError):
            (self.root / "link").symlink_to("nowhere")
            (self.root / "folder.dat").mkdir()

    def identify(self, event: Event) -> str:
        """The path below the directory."""
        return event.subject


RIGS: dict[str, Callable[[], Rig]] = {
    "cloudevents": CloudEventsRig,
    "dcache": DcacheRig,
    "directory": DirectoryRig,
    "kafka": KafkaRig,
    "minio": MinioRig,
    "minio-aws": AwsRig,
    "minio-ceph": CephRig,
    "minio-sqs": SqsRig,
}
