"""Listening to a server that speaks MinIO's words, but as badly as servers and proxies can."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import Rejected
from dcnios_daemon.sources.minio import listen
from dcnios_daemon.sources.minio.listen import Listener
from dcnios_daemon.sources.minio.records import Happening
from dcnios_daemon.sources.minio.settings import MinioSettings
from dcnios_daemon.staging.s3 import S3Client
from dcnios_daemon.telemetry.metrics import REGISTRY
from tests.unit.s3_samples import minio_body

PING = b'{"Records":null}\n'


def line(key: str) -> bytes:
    return minio_body(key) + b"\n"


class Stream:
    """One connection to the fake."""

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self._response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        self.ended = asyncio.Event()

    async def send(self, piece: bytes) -> None:
        """As it is."""
        if not self._response.prepared:
            await self._response.prepare(self.request)
        await self._response.write(piece)

    async def hold(self) -> None:
        """Ping, until the client goes."""
        with contextlib.suppress(ConnectionError):
            while True:
                await self.send(PING)
                await asyncio.sleep(0.05)

    @property
    def response(self) -> web.StreamResponse:
        """What a handler returns."""
        return self._response


Handler = Callable[[Stream], Awaitable[web.StreamResponse | None]]


class Site:
    """A listener, and the server's answers in turn; the last is given again and again."""

    def __init__(self) -> None:
        self.answers: list[Handler] = []
        self.streams: list[Stream] = []
        self.taken: list[str] = []
        self.gaps = 0
        self.takes = asyncio.Event()
        self.takes.set()
        self.listener: Listener
        self._changed = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        assert "AWS4-HMAC-SHA256" in request.headers["authorization"]
        assert request.headers["accept-encoding"] == "identity"
        stream = Stream(request)
        self.streams.append(stream)
        await self._tell()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        try:
            return await answer(stream) or stream.response
        finally:
            stream.ended.set()

    async def take(self, happenings: Sequence[Happening]) -> None:
        """The journal."""
        await self.takes.wait()
        self.taken += [happening.key for happening in happenings]
        await self._tell()

    def gap(self) -> None:
        """Something may have been missed."""
        self.gaps += 1

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, happy: Callable[[], bool]) -> None:
        """Wait for requests and events until it is so."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(happy)

    @contextlib.asynccontextmanager
    async def listening(self, *answers: Handler) -> AsyncIterator["Site"]:
        """With a server that answers so."""
        self.answers += answers
        application = web.Application()
        application.router.add_get("/inbox", self.handle)
        async with TestServer(application) as server:
            given = {"endpoint": str(server.make_url("")).rstrip("/"), "access_key": "a", "secret_key": "b"}
            settings = MinioSettings.model_validate(given | {"buckets": ["inbox"], "receive": ["listen"]})
            client = S3Client(settings, connections=0)
            self.listener = Listener(
                "inbox",
                source="uploads",
                settings=settings,
                hearer=client,
                take=self.take,
                gap=self.gap,
                clock=SystemClock(),
            )
            try:
                async with asyncio.TaskGroup() as group:
                    running = group.create_task(self.listener.run())
                    yield self
                    running.cancel()
            finally:
                await client.aclose()


@pytest.fixture
def site() -> Site:
    return Site()


@pytest_asyncio.fixture(autouse=True)
async def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(listen, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(listen, "SILENCE", 0.5)


async def hold(stream: Stream) -> None:
    await stream.hold()


def telling(*pieces: bytes) -> Handler:
    """Sends them, a turn of the loop in between, and then holds the stream."""

    async def answer(stream: Stream) -> None:
        for piece in pieces:
            await stream.send(piece)
            await asyncio.sleep(0.01)
        await stream.hold()

    return answer


async def test_lines_come_in_any_pieces_with_pings_and_blanks_between(site: Site) -> None:
    stream = b" \n " + line("a") + PING + b"   " + line("b") + b"\r\n" + PING + line("c")
    async with site.listening(telling(*(stream[at : at + 7] for at in range(0, len(stream), 7)))):
        await site.until(lambda: site.taken == ["a", "b", "c"])
    assert site.gaps == 1
    assert site.streams[0].request.query.getall("events") == ["s3:ObjectCreated:*"]
    assert site.streams[0].request.query["ping"] == "1"


async def test_a_stream_that_ends_is_opened_again_and_is_a_gap(site: Site) -> None:
    async def end(stream: Stream) -> None:
        await stream.send(line("a") + line("cut")[:-20])

    async with site.listening(end, telling(line("b"))):
        await site.until(lambda: site.taken == ["a", "b"])
        assert site.listener.opened.is_set()
    assert site.gaps == 2
    assert not site.listener.opened.is_set()


async def test_a_stream_without_a_sign_of_life_is_dead(site: Site) -> None:
    async def fall_silent(stream: Stream) -> None:
        await stream.send(PING)
        await asyncio.sleep(5)

    async with site.listening(fall_silent, telling(line("b"))):
        await site.until(lambda: site.taken == ["b"])
        assert site.streams[0].request.transport is None


async def test_blanks_alone_keep_it_alive_as_old_servers_send_them(site: Site) -> None:
    async def old(stream: Stream) -> None:
        for _ in range(8):
            await stream.send(b" ")
            await asyncio.sleep(0.1)
        await stream.send(line("a"))
        await stream.hold()

    async with site.listening(old):
        await site.until(lambda: site.taken == ["a"])
    assert len(site.streams) == 1


async def test_what_cannot_be_read_is_left_to_the_listing_and_the_rest_is_taken(site: Site) -> None:
    broken = line("x").replace(b"eventTime", b"time") + b"<html>\n"
    async with site.listening(telling(line("a") + broken, line("b"))):
        await site.until(lambda: site.taken == ["a", "b"])
    assert len(site.streams) == 1
    assert site.gaps >= 2


async def test_an_endless_line_is_not_kept(site: Site) -> None:
    async def flood(stream: Stream) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await stream.send(b"x" * 65536)

    async with site.listening(flood, telling(line("b"))):
        await site.until(lambda: site.taken == ["b"])


async def test_a_store_that_is_away_for_long_is_tried_again_and_again(site: Site) -> None:
    async def busy(_: Stream) -> web.Response:
        return web.Response(status=503)

    lost = REGISTRY.get_sample_value("dcnios_source_streams_lost_total", {"source": "uploads"}) or 0
    async with site.listening(*[busy] * 12, telling(line("a"))):
        await site.until(lambda: site.taken == ["a"])
    assert REGISTRY.get_sample_value("dcnios_source_streams_lost_total", {"source": "uploads"}) == lost + 12
    assert site.gaps == 1


def _error(code: str) -> str:
    return f"<Error><Code>{code}</Code><Message>no</Message></Error>"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (web.Response(status=403, text=_error("AccessDenied")), "403 AccessDenied: no"),
        (web.Response(status=404, text=_error("NoSuchBucket")), "404 NoSuchBucket"),
        (web.Response(text="<ListBucketResult/>", content_type="application/xml"), "does not know how"),
    ],
)
async def test_a_refusal_is_told(site: Site, answer: web.Response, said: str) -> None:
    async def refuse(_: Stream) -> web.Response:
        return answer

    with pytest.raises(ExceptionGroup) as raised:
        async with site.listening(refuse):
            await asyncio.sleep(5)
    (error,) = raised.value.exceptions
    assert isinstance(error, Rejected)
    assert said in str(error)


async def test_a_pause_closes_the_stream_and_what_comes_after_is_a_gap(site: Site) -> None:
    async with site.listening(telling(line("a")), telling(line("b"))):
        await site.until(lambda: site.taken == ["a"])
        site.listener.pause()
        await site.streams[0].ended.wait()
        assert not site.listener.opened.is_set()
        await asyncio.sleep(0.1)
        assert len(site.streams) == 1
        site.listener.resume()
        await site.until(lambda: site.taken == ["a", "b"])
    assert site.gaps == 2


async def test_a_pause_too_short_to_notice_is_a_gap_all_the_same(site: Site) -> None:
    async with site.listening(telling(line("a")), telling(line("b"))):
        await site.until(lambda: site.taken == ["a"])
        site.listener.pause()
        site.listener.resume()
        await site.until(lambda: site.taken == ["a", "b"])
    assert site.gaps == 2


async def test_a_journal_that_takes_long_is_a_gap(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """MinIO leaves out those who do not read, without a word."""
    monkeypatch.setattr(listen, "SLUGGISH", 0.1)
    site.takes.clear()
    async with site.listening(telling(line("a")), telling(line("b"))):
        await site.until(lambda: bool(site.streams))
        await asyncio.sleep(0.3)
        site.takes.set()
        await site.until(lambda: site.taken == ["a", "b"])
    assert site.gaps == 2
