"""The sink that writes: an order is over when brokers have acknowledged its record."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

from dcnios_daemon.core.ports import Desk, Order, Outcome
from dcnios_daemon.sinks.at_once import Ended
from dcnios_daemon.sinks.connections import Connection, Connections
from dcnios_daemon.sinks.kafka.record import record
from dcnios_daemon.sinks.kafka.settings import KafkaRun
from dcnios_daemon.sinks.kafka.writer import Writer
from dcnios_daemon.sinks.spec import SinkContext


def neighbour(run: KafkaRun) -> str:
    """Whose trouble is another's too: the topic, since each may have rights and limits of its own."""
    return f"{','.join(run.bootstrap)}/{run.topic}"


class KafkaPlan:
    """A route's ``run`` block. Implements :class:`~dcnios_daemon.core.ports.Plan`."""

    def __init__(self, to: Connection[KafkaRun, Writer], ended: Ended, context: SinkContext) -> None:
        self._to = to
        self._run = to.run
        self._writer = to.client
        self._ended = ended
        self._clock = context.clock
        self._instance = context.instance

    async def render(self, order: Order) -> Any:  # noqa: ANN401 - see core.ports.Plan
        """The record."""
        made = record(order, instance=self._instance)
        value: dict[str, str | None]
        try:
            value = {"value": None if made.value is None else made.value.decode()}
        except UnicodeDecodeError:
            value = {"value_base64": base64.b64encode(made.value or b"").decode()}
        return {
            "order": order.name,
            "bootstrap": list(self._run.bootstrap),
            "topic": self._run.topic,
            "key": made.key.decode(),
            "headers": {name: text.decode() for name, text in made.headers},
            **value,
        }

    async def submit(self, order: Order) -> None:
        """See :class:`~dcnios_daemon.core.ports.Plan`. Returns when the record is written."""
        started = self._clock.now()
        place = await self._writer.write(order.name, record(order, instance=self._instance))
        await self._ended.add(
            Outcome(
                order=order.name,
                reason="Acknowledged",
                message=f"topic {self._run.topic}, partition {place.partition}, offset {place.offset}",
                started=started,
                ended=self._clock.now(),
            )
        )

    async def exists(self, order: Order) -> bool:  # noqa: ARG002 - of none is anything left
        """See :class:`~dcnios_daemon.core.ports.Plan`."""
        return False


class KafkaSink:
    """Implements :class:`~dcnios_daemon.core.ports.Sink`."""

    def __init__(self, context: SinkContext, *, writer: Callable[..., Writer] = Writer) -> None:
        self._context = context
        self._make_writer = writer
        self._ended = Ended("Acknowledged")
        self._connections: Connections[KafkaRun, Writer] = Connections()

    def plan(self, route: str, run: KafkaRun) -> KafkaPlan:
        """See :class:`~dcnios_daemon.core.ports.Sink`. Equal blocks share a connection."""
        client = f"dcnios-{self._context.instance}-{route}"
        to = self._connections.to(
            run, lambda: self._make_writer(run, client=client, clock=self._context.clock)
        )
        return KafkaPlan(to, self._ended, self._context)

    async def serve(self, desk: Desk, ready: Callable[[], None]) -> None:
        """See :class:`~dcnios_daemon.core.ports.Sink`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._connections.tidy(), name="kafka: connections")
            await self._ended.serve(desk, ready)

    async def aclose(self) -> None:
        """Disconnect."""
        await self._connections.aclose()
