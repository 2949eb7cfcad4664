"""What each error of the client library means for an order of the Kafka sink."""

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import errors

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import OrderRefused, SinkUnavailable
from dcnios_daemon.kafka.library import library
from dcnios_daemon.sinks.kafka import KafkaRun
from dcnios_daemon.sinks.kafka.record import Record
from dcnios_daemon.sinks.kafka.writer import Place, Writer

library()
RUN = KafkaRun(bootstrap=("broker:9092",), topic="frames")
RECORD = Record(b"key", b"value", [])
OF_THE_RECORD = {
    "InvalidRecordError",
    "InvalidTimestampError",
    "MessageSizeTooLargeError",
    "PolicyViolationError",
    "RecordListTooLargeError",
    "RecordTooLargeError",
}
"""Brokers will never take it: its order is dead, with their words."""
OF_THE_PRODUCER = {
    "InvalidProducerEpoch",
    "InvalidProducerIdMapping",
    "OutOfOrderSequenceNumber",
    "ProducerFenced",
    "UnknownProducerId",
}
"""Another producer may write it, at once."""
RETRIABLE = {
    "ConcurrentTransactions",
    "CoordinatorLoadInProgressError",
    "CoordinatorNotAvailableError",
    "CorruptRecordException",
    "FetchSessionIdNotFound",
    "InvalidFetchSessionEpoch",
    "KafkaStorageError",
    "LeaderNotAvailableError",
    "ListenerNotFound",
    "NotControllerError",
    "NotCoordinatorError",
    "NotEnoughReplicasAfterAppendError",
    "NotEnoughReplicasError",
    "NotLeaderForPartitionError",
    "ReplicaNotAvailableError",
    "RequestTimedOutError",
    "UnknownTopicOrPartitionError",
}
"""Kafka's own list, as far as the library has names for them; it lacks some of them in its own."""


def all_errors() -> list[type[errors.KafkaError]]:
    def below(kind: type[errors.KafkaError]) -> Iterator[type[errors.KafkaError]]:
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    found = {
        each.__name__: each for each in below(errors.KafkaError) if each is not errors.BrokerResponseError
    }
    return [found[name] for name in sorted(found)]


class Answering(Writer):
    """Brokers that answer each record with the error, as often as it is sent."""

    def __init__(self, error: BaseException, *, times: int = 100) -> None:
        super().__init__(RUN, client="test", clock=SystemClock())
        self.error, self.times, self.asked = error, times, 0

    async def _started(self) -> Any:
        from dcnios_daemon.sinks.kafka.writer import _Producer  # noqa: PLC0415

        return _Producer(self, self._travel_alone)

    async def send(self, topic: str, value: Any, **_: Any) -> asyncio.Future[Any]:
        """The library's."""
        self.asked += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.asked > self.times:
            future.set_result(Place(0, 7))
        else:
            future.set_exception(self.error)
        return future

    async def stop(self) -> None:
        """The library's."""

    async def close(self) -> None:
        """The library's."""

    @property
    def client(self) -> Any:
        """The library's."""
        return self


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
async def test_what_an_error_means(kind: type[errors.KafkaError]) -> None:
    name = kind.__name__
    expected = OrderRefused if name in OF_THE_RECORD else SinkUnavailable
    writer = Answering(kind())
    with pytest.raises(expected, match="Kafka at broker:9092") as raised:
        await writer.write("order", RECORD)
    assert writer.asked == (3 if name in OF_THE_PRODUCER else 2 if name in OF_THE_RECORD else 1)
    if name in OF_THE_RECORD:
        assert getattr(kind, "description", "") in str(raised.value)
        assert not kind.retriable
        assert name not in RETRIABLE


def test_the_table_has_only_names_that_the_library_has() -> None:
    """An upgrade that calls one otherwise is seen here."""
    known = {kind.__name__ for kind in all_errors()} | set(vars(errors))
    assert known >= OF_THE_RECORD | OF_THE_PRODUCER | RETRIABLE


def test_answers_that_the_library_has_no_name_for_have_one() -> None:
    assert errors.for_code(87).__name__ == "InvalidRecordError"
    assert errors.for_code(76).__name__ == "UnsupportedCompressionTypeError"


async def test_a_record_that_travelled_with_a_bad_one_is_written() -> None:
    writer = Answering(errors.for_code(87)(), times=1)
    assert await writer.write("order", RECORD) == Place(0, 7)


async def test_after_a_bad_record_was_found_records_travel_together_again() -> None:
    writer = Answering(errors.for_code(87)(), times=2)
    with pytest.raises(OrderRefused):
        await writer.write("bad", RECORD)
    assert not writer._travel_alone
    writer = Answering(errors.MessageSizeTooLargeError(), times=2)
    with pytest.raises(OrderRefused):
        await writer.write("large", RECORD)
    assert writer._travel_alone


def test_the_librarys_private_ways_that_are_used_are_there() -> None:
    """There is no public way to commit in the name of one generation only, nor to ask what these know: an
    upgrade of the library that changes one must be noticed here."""
    from aiokafka.consumer.group_coordinator import GroupCoordinator  # noqa: PLC0415
    from aiokafka.consumer.subscription_state import SubscriptionState  # noqa: PLC0415

    assert list(inspect.signature(GroupCoordinator._do_commit_offsets).parameters) == [
        "self",
        "assignment",
        "offsets",
    ]
    assert callable(GroupCoordinator._send_req)
    assert callable(GroupCoordinator.ensure_coordinator_known)
    assert callable(GroupCoordinator.fetch_committed_offsets)
    assert isinstance(SubscriptionState.subscription, property)
