"""The two faces of the client. They differ in how they wait, and in nothing else."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from dcnios_daemon.client.delivery import Delivery
from dcnios_daemon.client.questions import LOOK_THROUGH, Answer, Pause, Questions, Steps, T
from dcnios_daemon.client.transport import Login, Transport
from dcnios_daemon.client.wanted import Wanted
from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.ports import State


class _Face:
    """A daemon's API."""

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        token_file: str | Path | None = None,
        ca_file: str | Path | None = None,
        patience: float = 30.0,
    ) -> None:
        """Ask nothing yet.

        Args:
            url: Where the daemon's page is. Default: ``$DCNIOS_CLIENT_URL``, else http://127.0.0.1:8080.
            token: The admin token: for replay, and from beyond the daemon's machine for everything. Default:
                ``$DCNIOS_CLIENT_TOKEN``.
            token_file: A file that holds it, read anew for each request. Default:
                ``$DCNIOS_CLIENT_TOKEN_FILE``.
            ca_file: Certificates (PEM) to trust. Default: ``$DCNIOS_CLIENT_CA_FILE``, else the system's.
            patience: Seconds for which a daemon that is away is asked again, before DaemonAway is raised.

        Raises:
            ValueError: The URL is none.
        """
        self._transport = Transport(url, Login(token, token_file), ca_file)
        self._ask = Questions(patience=patience, clock=SystemClock())

    def __repr__(self) -> str:
        """Name the daemon, never the token."""
        return f"<{type(self).__name__} {self._transport.url}>"


class Client(_Face):
    """For scripts and notebook cells: each call returns when it is done."""

    def expect(self, subject: str, *, source: str = "", etag: str = "") -> Wanted:
        """What is going to be uploaded under this subject. Call it *before* the upload: what was accepted
        earlier, perhaps under the same name, does not count.

        Args:
            subject: ``bucket/key``, a dCache path, a name in a directory.
            source: The source's name in the daemon's configuration; empty: any.
            etag: Of an object in MinIO: only the upload with this content.

        Raises:
            ClientError: DaemonAway, Refused.
        """
        return self._run(self._ask.expect(Wanted(subject=subject, source=source, etag=etag)))

    def wait(self, wanted: Wanted, *, timeout: float = 600.0, route: str | None = None) -> list[Delivery]:
        """Return the event's deliveries, one for each route that took it, when all have succeeded.

        A daemon that goes away meanwhile is waited for. Interrupting it changes nothing at the daemon.

        Args:
            wanted: From :meth:`expect`, or what ``minio_object``, ``kafka_record``, ... give.
            timeout: Seconds.
            route: Wait for this route's delivery alone.

        Raises:
            DeliveryDead: One is dead; its ``outcome`` says why. Mend it, :meth:`replay` it, wait again.
            NotRun: No route takes the event, or it was dropped.
            NotYet: It has not ended in time. It is also a TimeoutError.
            DaemonAway, Refused: Neither did the daemon answer.
        """
        return self._run(self._ask.wait(wanted, timeout=timeout, route=route))

    def deliveries(
        self,
        *,
        state: State | str | None = None,
        route: str | None = None,
        source: str | None = None,
        subject: str | None = None,
        most: int = 100,
        look_through: int = LOOK_THROUGH,
    ) -> list[Delivery]:
        """The deliveries that match, newest first.

        Args:
            state: One of ``State``: ``queued``, ``running``, ``dead``, ...
            route: The route's name.
            source: The source's name.
            subject: The whole subject: ``bucket/key``, a path, a topic.
            most: Return this many at most.
            look_through: Look at this many at most. By state and route the daemon finds without looking.

        Raises:
            ClientError: DaemonAway, Refused.
        """
        query = _query(state=state, route=route, source=source, subject=subject)
        return self._run(self._ask.deliveries(query, most=most, look_through=look_through))

    def event(self, key: str) -> list[Delivery]:
        """An event's deliveries, by its key; none: it is not known, or not any more.

        Raises:
            ClientError: DaemonAway, Refused.
        """
        return self._run(self._ask.event(key))

    def replay(self, delivery: Delivery | int) -> None:
        """Queue a dead delivery again, as another attempt. It needs the admin token.

        Raises:
            ClientError: DaemonAway; Refused: no token, or it is not dead.
        """
        return self._run(self._ask.replay(_number(delivery)))

    def outputs(self, route: str) -> Mapping[str, str]:
        """Where the route's results go, by the names in its ``stage_out``: ``s3://outbox/gray/``. As the
        configuration has it, ``{{ event.… }}`` included.

        Raises:
            ClientError: There is no such route; DaemonAway, Refused.
        """
        return self._run(self._ask.outputs(route))

    def _run(self, steps: Steps[T]) -> T:
        answer: Answer | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                returned: T = end.value
                return returned
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                answer = None
            else:
                answer = self._transport.send(step)


class AsyncClient(_Face):
    """For asyncio: as :class:`Client`, with ``await``. Its requests go through threads."""

    async def expect(self, subject: str, *, source: str = "", etag: str = "") -> Wanted:
        """See :meth:`Client.expect`."""
        return await self._run(self._ask.expect(Wanted(subject=subject, source=source, etag=etag)))

    async def wait(
        self,
        wanted: Wanted,
        *,
        timeout: float = 600.0,  # noqa: ASYNC109 - the error says how the event stands
        route: str | None = None,
    ) -> list[Delivery]:
        """See :meth:`Client.wait`."""
        return await self._run(self._ask.wait(wanted, timeout=timeout, route=route))

    async def deliveries(
        self,
        *,
        state: State | str | None = None,
        route: str | None = None,
        source: str | None = None,
        subject: str | None = None,
        most: int = 100,
        look_through: int = LOOK_THROUGH,
    ) -> list[Delivery]:
        """See :meth:`Client.deliveries`."""
        query = _query(state=state, route=route, source=source, subject=subject)
        return await self._run(self._ask.deliveries(query, most=most, look_through=look_through))

    async def event(self, key: str) -> list[Delivery]:
        """See :meth:`Client.event`."""
        return await self._run(self._ask.event(key))

    async def replay(self, delivery: Delivery | int) -> None:
        """See :meth:`Client.replay`."""
        return await self._run(self._ask.replay(_number(delivery)))

    async def outputs(self, route: str) -> Mapping[str, str]:
        """See :meth:`Client.outputs`."""
        return await self._run(self._ask.outputs(route))

    async def _run(self, steps: Steps[T]) -> T:
        answer: Answer | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                returned: T = end.value
                return returned
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                answer = None
            else:
                answer = await asyncio.to_thread(self._transport.send, step)


def _query(**given: str | None) -> dict[str, str]:
    return {name: str(value) for name, value in given.items() if value is not None}


def _number(delivery: Delivery | int) -> int:
    return delivery.id if isinstance(delivery, Delivery) else delivery
