"""Looks whether a topic could be written to, without writing anything."""

from collections.abc import Mapping, Sequence
from typing import Any

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import SinkError
from dcnios_daemon.kafka.library import load
from dcnios_daemon.kubernetes.login import KubernetesSettings
from dcnios_daemon.sinks.kafka.settings import KafkaRun
from dcnios_daemon.sinks.kafka.writer import connected

_NO_SUCH_PARTITION = 2**31 - 1
_WITHIN_MS = 5000


async def check(
    *,
    kubernetes: KubernetesSettings,  # noqa: ARG001 - all kinds are asked alike
    any_payload: bool,  # noqa: ARG001
    runs: Mapping[str, KafkaRun],
) -> Sequence[str]:
    """What is missing. See :class:`~dcnios_daemon.sinks.registry.SinkKind`."""
    return [finding for place, run in runs.items() for finding in await _look(place, run)]


async def _look(place: str, run: KafkaRun) -> list[str]:
    where = ", ".join(run.bootstrap)
    try:
        async with connected(run, client="dcnios-check", clock=SystemClock()) as (writer, producer):
            with writer.brokers.failures():
                known = await producer.client.fetch_all_metadata()
                if run.topic not in known.topics():
                    text = f"topic {run.topic!r} does not exist on {where}, or must not be seen"
                    return [f"{text}: create it, or correct {place}.topic"]
                if not await _may_write(producer, run.topic):
                    return [f"no right to write to topic {run.topic!r} on {where}: grant it"]
    except SinkError as error:
        return [f"{error}: correct {place}"]
    return []


async def _may_write(producer: Any, topic: str) -> bool:  # noqa: ANN401 - untyped
    """Ask to write to a partition that there cannot be: brokers look at the right first."""
    aiokafka = await load()
    batch = producer.create_batch()
    batch.append(timestamp=None, key=b"", value=b"")
    request = aiokafka.protocol.produce.ProduceRequest(
        transactional_id=None,
        required_acks=-1,
        timeout=_WITHIN_MS,
        topics=[(topic, [(_NO_SUCH_PARTITION, bytes(batch._build()))])],  # noqa: SLF001 - no public way
    )
    answer = await producer.client.send(producer.client.get_random_node(), request)
    (_, partitions), *_ = answer.topics
    denied = aiokafka.errors.TopicAuthorizationFailedError
    return all(aiokafka.errors.for_code(partition[1]) is not denied for partition in partitions)
