"""What happens at the sources, at the pace of the troubles; and what of it is told a second time."""

import asyncio
import random
import socket
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from botocore.exceptions import BotoCoreError, ClientError

from tests.crash.site import BUCKET, GROUP, MEMBER, PARTITIONS, REPEATED, TOKEN, TOPIC, Site
from tests.e2e.stores import make_topic, notify, s3_client

SHARES = {"frames": 0.48, "hooks": 0.25, "uploads": 0.15, "detector": 0.1, "drop": 0.02}
"""Of all events."""
SENDERS = 8
FOLDERS = 20
_PAUSE = 0.2


class Pace:
    """How much of everything may have happened by now."""

    def __init__(self) -> None:
        self._share = 0.0
        self._changed = asyncio.Condition()

    async def allow(self, share: float) -> None:
        """From 0 to 1; it only grows."""
        async with self._changed:
            self._share = max(self._share, share)
            self._changed.notify_all()

    async def until(self, share: float) -> None:
        """Wait until this share may have happened."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._share >= share)


class Feeds:
    """Makes the events.

    Args:
        site: Where.
        events: How many, over all sources.
        pace: When.
        dice: What is repeated.
    """

    def __init__(self, site: Site, *, events: int, pace: Pace, dice: random.Random) -> None:
        self.site = site
        self.counts = {name: round(events * share) for name, share in SHARES.items()}
        self.happened: Counter[str] = Counter()
        self.repeated: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()
        self._pace = pace
        self._dice = dice
        self._again: list[str] = []
        """Marks of webhook events to post once more at the very end."""

    async def prepare(self) -> None:
        """Make topic, bucket and folders."""
        async with s3_client(self.site.minio.access) as client:
            await client.create_bucket(Bucket=BUCKET)
            await notify(client, BUCKET, "DCNIOS")
        await make_topic(self.site.kafka.bootstrap, TOPIC, PARTITIONS)
        for number in range(FOLDERS):
            await self.site.dcache.mkdir(f"/data/{number}")

    async def run(self) -> None:
        """Make all events happen."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._frames())
            group.create_task(self._hooks())
            group.create_task(self._uploads())
            group.create_task(self._detector())
            group.create_task(self._drop())

    async def repeat_at_the_end(self) -> None:
        """Tell a tenth once more, when all Jobs are long gone. Kafka's is :meth:`rewind`."""
        async with aiohttp.ClientSession() as http:
            for mark in self._again:
                await self._post(http, mark)
                self.repeated["hooks"] += 1
        for body in self.site.relay.kept:
            while await self.site.relay.tell(body) != 200:  # noqa: ASYNC110 - the daemon may be away
                await asyncio.sleep(_PAUSE)
            self.repeated["uploads"] += 1

    async def _due(self, source: str, number: int) -> str:
        await self._pace.until(number / self.counts[source])
        return f"{source}-{number}"

    # --- Kafka ------------------------------------------------------------------------------------------

    async def _frames(self) -> None:
        producer: Any = None
        for number in range(self.counts["frames"]):
            mark = await self._due("frames", number)
            value = b'{"id":"%s"}' % mark.encode()
            while True:
                try:
                    if producer is None:
                        producer = AIOKafkaProducer(bootstrap_servers=self.site.kafka.bootstrap)
                        await producer.start()
                    await producer.send_and_wait(TOPIC, value, partition=number % PARTITIONS)
                    break
                except (KafkaError, OSError, TimeoutError):  # sent perhaps: the topic says in the end
                    await asyncio.sleep(_PAUSE)
        if producer is not None:
            await producer.stop()

    async def count_frames(self) -> None:
        """What the topic holds is what happened."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.site.kafka.bootstrap, auto_offset_reset="earliest")
        partitions = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.start()
        try:
            ends = await consumer.end_offsets(partitions)
            while any([await consumer.position(each) < ends[each] for each in partitions]):
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    self.happened.update(record.value.decode().split('"')[3] for record in records)
        finally:
            await consumer.stop()

    async def lag(self) -> int:
        """Records that the group has not committed."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.site.kafka.bootstrap, group_id=GROUP)
        partitions = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.start()
        try:
            ends = await consumer.end_offsets(partitions)
            committed = {each: await consumer.committed(each) or 0 for each in partitions}
            self.acknowledged["frames"] = sum(committed.values())
            behind: int = sum(ends.values()) - self.acknowledged["frames"]
            return behind
        finally:
            await consumer.stop()

    async def rewind(self, records: int) -> None:
        """Set the group back, while the daemon is away: it is put out of the group first."""
        await asyncio.to_thread(self._leave_group)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.site.kafka.bootstrap, group_id=GROUP, enable_auto_commit=False
        )
        partitions = [TopicPartition(TOPIC, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.start()
        try:
            for partition in partitions:
                there = await consumer.committed(partition) or 0
                back = max(0, there - -(-records // PARTITIONS))
                await consumer.commit({partition: OffsetAndMetadata(back, "")})
                self.repeated["frames"] += there - back
        finally:
            await consumer.stop()

    def _leave_group(self) -> None:
        """A static member stays for a minute after it has died, and guards the group's offsets."""
        host, _, port = self.site.kafka.bootstrap.partition(":")
        body = struct.pack(">hhih", 13, 3, 1, -1) + _text(GROUP) + struct.pack(">i", 1) + _text("")
        body += _text(MEMBER)
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            connection.recv(100)

    # --- the webhook ------------------------------------------------------------------------------------

    async def _hooks(self) -> None:
        numbers = iter(range(self.counts["hooks"]))

        async def send() -> None:
            for number in numbers:
                mark = await self._due("hooks", number)
                self.happened[mark] += 1
                await self._post(http, mark)
                self.acknowledged["hooks"] += 1
                if self._dice.random() < REPEATED:
                    self._again.append(mark)
                if self._dice.random() < REPEATED / 2:
                    await self._post(http, mark)
                    self.repeated["hooks"] += 1

        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(timeout=timeout) as http, asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(send())

    async def _post(self, http: aiohttp.ClientSession, mark: str) -> None:
        """Until it is accepted."""
        headers = {
            "ce-id": mark,
            "ce-source": "/crash",
            "ce-type": "crash",
            "ce-specversion": "1.0",
            "content-type": "application/json",
            "authorization": f"Bearer {TOKEN}",
        }
        while True:
            try:
                url = f"{self.site.hooks_url}/hooks"
                async with http.post(url, headers=headers, json={"id": mark}) as answer:
                    await answer.read()
                    if answer.status == 200:
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(_PAUSE)

    # --- stores and folders -----------------------------------------------------------------------------

    async def _uploads(self) -> None:
        async with s3_client(self.site.minio.access) as client:
            for number in range(self.counts["uploads"]):
                mark = await self._due("uploads", number)
                self.happened[mark] += 1
                await _put(client, f"run/{mark}")

    async def _detector(self) -> None:
        for number in range(self.counts["detector"]):
            mark = await self._due("detector", number)
            self.happened[mark] += 1
            await self.site.dcache.upload(f"/data/{number % FOLDERS}/{mark}")

    async def _drop(self) -> None:
        for number in range(self.counts["drop"]):
            mark = await self._due("drop", number)
            self.happened[mark] += 1
            await asyncio.to_thread(_place, self.site.inbox / mark)


async def _put(client: Any, key: str) -> None:
    """Once: an upload whose answer got lost is not made again."""
    while True:
        try:
            await client.put_object(Bucket=BUCKET, Key=key, Body=key.encode(), IfNoneMatch="*")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                return
        except (BotoCoreError, OSError):
            pass
        else:
            return
        await asyncio.sleep(_PAUSE)


def _place(path: Path) -> None:
    hidden = path.with_name(f".{path.name}")
    hidden.write_text(path.name)
    hidden.rename(path)


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()
