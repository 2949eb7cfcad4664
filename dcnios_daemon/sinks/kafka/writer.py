"""A producer that is replaced when it can no longer be trusted, and remembers what is on its way.

The library's idempotent producer never gives up on a record, and numbers those of a partition so that brokers
write each once. Two things follow. A record that was not acknowledged in time is not sent again: its second
submission waits for the first. And when brokers refuse one, there is a gap in the numbers: a new producer is
needed, with numbers of its own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import msgspec

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import OrderRefused, SinkUnavailable
from dcnios_daemon.kafka.brokers import Brokers
from dcnios_daemon.kafka.library import load
from dcnios_daemon.sinks.kafka.record import Record
from dcnios_daemon.sinks.kafka.settings import KafkaRun
from dcnios_daemon.sinks.kafka.verdict import Meaning, is_too_large, meaning, words

_BATCH_BYTES = 16 << 10
"""What travels together; a larger record goes alone."""
_LARGEST = 64 << 20
"""Bytes of a record. Brokers hang up on requests over 100 MiB instead of answering them."""
_STOP = 5.0
_GIVE_UP = 300.0
"""Seconds without any acknowledgement after which the next try is made by a new producer, with the login as
it is then."""
_TRIES = 3


class Place(msgspec.Struct, frozen=True):
    """Where a record is now."""

    partition: int
    offset: int
    """-1: written, but brokers no longer say where."""


class _Producer(msgspec.Struct, eq=False):
    """One of the library's, and where it is in its life."""

    library: Any
    alone: bool
    """Whether its records travel one by one."""
    ending: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)
    ended: bool = False


class _Sent(msgspec.Struct, frozen=True, eq=False):
    """A record on its way."""

    future: asyncio.Future[Any]
    producer: _Producer
    alone: bool
    """Whether nothing else travels with it."""


class Writer:
    """Writes to one cluster. Methods raise SinkUnavailable and OrderRefused."""

    def __init__(self, run: KafkaRun, *, client: str, clock: Clock) -> None:
        self.brokers = Brokers(
            bootstrap=run.bootstrap, security=run.security, away=SinkUnavailable, refused=SinkUnavailable
        )
        self._run = run
        self._client = client
        self._clock = clock
        self._producer: _Producer | None = None
        self._travel_alone = False
        self._sent: dict[str, _Sent] = {}
        """Orders whose record is not acknowledged yet; as many as are in flight or in doubt, at most."""
        self._well_since = clock.monotonic()
        self._lock = asyncio.Lock()

    async def connect(self) -> Any:  # noqa: ANN401 - untyped
        """The library's producer, to look around with."""
        return (await self._connected()).library

    async def _connected(self) -> _Producer:
        """The producer, started if there is none."""
        async with self._lock:
            if self._producer is None:
                with self.brokers.failures():
                    self._producer = await self._started()
                self._well_since = self._clock.monotonic()
            return self._producer

    async def write(self, order: str, record: Record) -> Place:
        """Write the order's record, or wait for it if it is on its way already."""
        tries = 1
        while True:
            sent = self._sent.get(order) or await self._send(order, record)
            error = await self._end_of(order, sent)
            if error is None:
                self._well_since = self._clock.monotonic()
                return Place(sent.future.result().partition, sent.future.result().offset)
            worth_it = self._helps(sent, error)
            await self._replace(sent.producer)
            if tries == _TRIES or not worth_it:
                self._raise(sent, error)
            tries += 1

    async def aclose(self) -> None:
        """Write what is on its way, as far as brokers answer at once, and disconnect."""
        if self._producer is not None:
            await self._replace(self._producer)

    async def _end_of(self, order: str, sent: _Sent) -> BaseException | None:
        """Wait for what became of a record; None: it is written."""
        done, _ = await asyncio.wait({sent.future}, timeout=self._run.timeout)
        if not done:
            if self._clock.monotonic() - self._well_since > _GIVE_UP:
                await self._replace(sent.producer)
            text = f"no acknowledgement within {self._run.timeout:g} s"
            raise SinkUnavailable(f"Kafka at {self.brokers.where}: {text}")
        self._sent.pop(order, None)
        if sent.future.cancelled():
            raise SinkUnavailable(f"Kafka at {self.brokers.where}: the connection was given up")
        return sent.future.exception()

    def _helps(self, sent: _Sent, error: BaseException) -> bool:
        """Whether a new producer may write at once what brokers did not take."""
        means = meaning(error)
        if means is Meaning.REFUSED and not sent.alone:
            self._travel_alone = True  # it may be meant for another that travelled with it
            return True
        if means is Meaning.REFUSED and not is_too_large(error):
            self._travel_alone = False  # this is the one
        return means is Meaning.GAP

    def _raise(self, sent: _Sent, error: BaseException) -> NoReturn:
        if meaning(error) is Meaning.REFUSED:
            text = f"Kafka at {self.brokers.where}, topic {self._run.topic}: {words(error)}"
            if sent.alone:
                raise OrderRefused(text, answered=True) from error
            raise SinkUnavailable(text) from error
        with self.brokers.failures():
            raise error

    async def _send(self, order: str, record: Record) -> _Sent:
        if _size(record) > _LARGEST:
            raise OrderRefused(f"a record of {_size(record):,} bytes: {_LARGEST:,} are the most")
        producer = await self._connected()
        alone = producer.alone or _size(record) > _BATCH_BYTES
        with self.brokers.failures():
            future = await producer.library.send(
                self._run.topic, record.value, key=record.key, headers=list(record.headers)
            )
        future.add_done_callback(_look_at)
        sent = self._sent[order] = _Sent(future, producer, alone)
        return sent

    async def _started(self) -> _Producer:
        aiokafka = await load()
        options = await self.brokers.options()
        compression, alone = self._run.compression, self._travel_alone
        producer = aiokafka.AIOKafkaProducer(
            client_id=self._client,
            enable_idempotence=True,
            acks="all",
            linger_ms=self._run.linger * 1000,
            max_batch_size=1 if alone else _BATCH_BYTES,
            max_request_size=2 * _LARGEST,
            compression_type=None if compression == "none" else compression,
            **options,
        )
        try:
            await self.brokers.start(producer, options)
        except BaseException:
            await _stop(producer)
            raise
        return _Producer(producer, alone)

    async def _replace(self, producer: _Producer) -> None:
        """Let the producer finish what it can, and forget it; what it leaves may be written or not."""
        if self._producer is producer:
            self._producer = None
        async with producer.ending:
            if producer.ended:
                return
            await _stop(producer.library)
            producer.ended = True
        for order, sent in list(self._sent.items()):
            if sent.producer is producer and not sent.future.done():
                sent.future.cancel()
                del self._sent[order]


@contextlib.asynccontextmanager
async def connected(run: KafkaRun, *, client: str, clock: Clock) -> AsyncIterator[tuple[Writer, Any]]:
    """A writer and its producer, to look around with."""
    writer = Writer(run, client=client, clock=clock)
    try:
        yield writer, await writer.connect()
    finally:
        await writer.aclose()


async def _stop(producer: Any) -> None:  # noqa: ANN401 - untyped
    """Stop it, and its connections even if that takes too long."""
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP):
                await producer.stop()
    finally:
        await producer.client.close()


def _look_at(future: asyncio.Future[Any]) -> None:
    """Whoever waited for it may have gone."""
    if not future.cancelled():
        future.exception()


def _size(record: Record) -> int:
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.key) + len(record.value or b"") + headers
