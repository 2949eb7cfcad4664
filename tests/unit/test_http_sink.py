"""What is POSTed, what the answers mean, and receivers that do not behave.."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import test_utils, web
from pydantic import ValidationError

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkMisconfigured, SinkUnavailable
from dcnios_daemon.core.event import Event
from dcnios_daemon.core.payload import PayloadForm
from dcnios_daemon.core.ports import Order
from dcnios_daemon.sinks.http import HttpRun, HttpSink, check
from dcnios_daemon.sinks.http.answer import Answer, failure
from dcnios_daemon.sinks.http.message import Mode, message
from dcnios_daemon.sinks.spec import SinkContext
from dcnios_daemon.sources.cloudevents.reading import read_request
from tests.fakes.desk import make_order

ODD = bytes(range(256)) * 3
SUBJECT = 'in box/ü \U0001f600 100% "x"'


def received(order: Order, mode: Mode) -> list[Event]:
    """What our own CloudEvents source makes of the request."""
    made = message(order, mode)
    headers = {name.lower(): value for name, value in made.headers.items()}
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    read = read_request(headers, made.body, source="hooks", now=0)
    assert read.mistakes == []
    return read.events


@pytest.mark.parametrize("mode", ["binary", "structured"])
@pytest.mark.parametrize("payload", [ODD, b'{"a": "\xc3\xa9"}', b"", b"{"])
def test_an_event_arrives_byte_for_byte(mode: Mode, payload: bytes) -> None:
    order = make_order(payload=payload, subject=SUBJECT)
    kind = "application/json" if payload != ODD else "application/octet-stream"
    event = msgspec.structs.replace(order.events[0], content_type=kind)
    order = msgspec.structs.replace(order, events=(event,))
    (found,) = received(order, mode)
    assert found.data == payload or (json.loads(found.data) == json.loads(payload) and mode == "structured")
    assert found.subject == SUBJECT
    assert found.attributes["id"] == order.events[0].key
    assert found.attributes["source"] == "/dcnios/uploads"
    assert found.attributes["type"] == "dcnios.minio.created"


def test_several_events_are_one_batch() -> None:
    one, two = make_order("a", payload=b"1"), make_order("b", payload=ODD)
    order = msgspec.structs.replace(one, events=(*one.events, *two.events))
    assert [event.attributes["id"] for event in received(order, "binary")] == [one.key, two.key]


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_a_reference_leaves_the_data_out(mode: Mode) -> None:
    order = msgspec.structs.replace(make_order(payload=ODD), form=PayloadForm.REFERENCE)
    (found,) = received(order, mode)
    assert json.loads(found.data) == {"size": None}


def test_a_content_type_that_no_header_can_hold_is_left_out() -> None:
    order = make_order()
    event = msgspec.structs.replace(order.events[0], content_type="a/b\r\nX-Evil: 1")
    made = message(msgspec.structs.replace(order, events=(event,)), "binary")
    assert made.headers["Content-Type"] == "application/octet-stream"


NOT_OF_THE_EVENT = [401, 402, 403, 404, 405, 407, 410, 421, 426, 451]
OF_THE_EVENT = [400, 406, 409, 411, 412, 413, 414, 415, 416, 417, 418, 422, 423, 424, 428, 431, 499]
DATE = "Thu, 01 Jan 1970 00:00:30 GMT"


@pytest.mark.parametrize(
    ("answer", "kind", "pause"),
    [
        (Answer(status=200), None, None),
        (Answer(status=204), None, None),
        (Answer(status=429, retry_after="7"), SinkBusy, 7),
        (Answer(status=429), SinkBusy, None),
        (Answer(status=503, retry_after=DATE), SinkBusy, 20),
        (Answer(status=503, retry_after="soon"), SinkUnavailable, None),
        (Answer(status=503), SinkUnavailable, None),
        (Answer(status=500), SinkUnavailable, None),
        (Answer(status=599), SinkUnavailable, None),
        (Answer(status=408), SinkUnavailable, None),
        (Answer(status=425), SinkUnavailable, None),
        (Answer(status=301, location="http://b/"), SinkMisconfigured, None),
        (Answer(status=308), SinkMisconfigured, None),
        *[(Answer(status=status), SinkMisconfigured, None) for status in NOT_OF_THE_EVENT],
        *[(Answer(status=status), OrderRefused, None) for status in OF_THE_EVENT],
        (Answer(status=400, words=b"no\n\tsuch \xff"), OrderRefused, None),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else "",
)
def test_what_an_answer_means(answer: Answer, kind: type | None, pause: float | None) -> None:
    found = failure(answer, where="http://a/", now=10.0)
    assert type(found) is (kind or type(None))
    if isinstance(found, SinkBusy):
        assert found.retry_after == pause
    if found is not None:
        assert str(answer.status) in str(found)


def test_a_refusal_has_the_receivers_words_cut() -> None:
    found = failure(Answer(status=422, words=b"bad  \n field " + b"x" * 4000), where="http://a/", now=0)
    assert "answers 422: bad field xxx" in str(found)
    assert len(str(found)) < 600


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"url": "ftp://a/"}, "no address"),
        ({"url": "/a"}, "no address"),
        ({"url": "http://me:hush@a/"}, "has a login in it"),
        ({"url": "http://a/", "headers": {"Authorization": "x"}}, "token_file"),
        ({"url": "http://a/", "headers": {"ce-id": "x"}}, "the daemon's own"),
        ({"url": "http://a/", "headers": {"x": "a\nb"}}, "pattern"),
        ({"url": "http://a/", "token": "t", "username": "u", "password": "p"}, "not both"),
        ({"url": "http://a/", "username": "u"}, "go together"),
        ({"url": "http://a/", "ca_file": "x"}, "https"),
    ],
)
def test_what_cannot_work_is_said(block: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words) as raised:
        HttpRun.model_validate(block)
    assert "hush" not in str(raised.value.errors(include_input=False))


# --- receivers ------------------------------------------------------------------------------------------


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def receiver(handler: Handler) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/in", handler)
    async with test_utils.TestServer(application) as server:
        yield str(server.make_url("/in"))


@asynccontextmanager
async def sending(url: str, **more: object) -> AsyncIterator[Callable[[Order], Awaitable[None]]]:
    sink = HttpSink(SinkContext(instance="here", state=Path(), stores={}, clock=SystemClock()))
    try:
        yield sink.plan("r", HttpRun.model_validate({"url": url, "timeout": 0.5, **more})).submit
    finally:
        await sink.aclose()


async def test_connections_are_kept() -> None:
    peers = set()

    async def take(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(text="thank you" * 100)

    async with receiver(take) as url, sending(url) as submit:
        for number in range(5):
            await submit(make_order(str(number)))
    assert len(peers) == 1


async def test_one_that_hangs_or_hangs_up_leaves_a_doubt() -> None:
    async def hang(request: web.Request) -> web.Response:
        if request.headers["x-how"] == "hang":
            await asyncio.sleep(3600)
        await request.read()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with receiver(hang) as url:
        async with sending(url, headers={"x-how": "hang"}) as submit:
            with pytest.raises(SinkUnavailable, match=r"no answer within 0\.5 s"):
                await submit(make_order())
        async with sending(url, headers={"x-how": "abort"}) as submit:
            with pytest.raises(SinkUnavailable, match="disconnected"):
                await submit(make_order())
    async with sending(url) as submit:
        with pytest.raises(SinkUnavailable, match=r"127\.0\.0\.1"):
            await submit(make_order())


async def test_a_redirection_is_not_followed() -> None:
    seen = []

    async def away(request: web.Request) -> web.Response:
        seen.append(request.path_qs)
        raise web.HTTPFound("/in?elsewhere")

    async with receiver(away) as url, sending(url) as submit:
        with pytest.raises(SinkMisconfigured, match=r"302 with '/in\?elsewhere'"):
            await submit(make_order())
    assert seen == ["/in"]


async def test_a_second_answer_is_not_taken_for_that_to_the_next_request() -> None:
    """It would say yes to an event that the receiver refuses."""
    late = asyncio.Event()
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
        status = b"200 OK" if connections == 1 else b"500 No"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        if connections == 1:
            await late.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, sending(f"http://127.0.0.1:{port}/") as submit:
        await submit(make_order("a"))
        late.set()
        await asyncio.sleep(0.1)  # it comes when nobody asks
        with pytest.raises(SinkUnavailable, match="500"):
            await submit(make_order("b"))
    assert connections == 2


async def test_a_renewed_token_is_taken_after_the_old_one_was_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old\n")

    async def take(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.headers["Authorization"] == "Bearer new" else 401)

    async with receiver(take) as url, sending(url, token_file=str(file)) as submit:
        with pytest.raises(SinkMisconfigured, match="401: correct token"):
            await submit(make_order())
        file.write_text("new\n")
        await submit(make_order())


async def test_what_is_missing_is_found_without_sending_an_event() -> None:
    async def take(request: web.Request) -> web.Response:
        assert request.method == "OPTIONS"
        known = request.headers.get("Authorization") == "Basic dTpw"
        return web.Response(status=405 if known else 403)

    async def look(**block: object) -> list[str]:
        run = HttpRun.model_validate(block)
        return list(await check(kubernetes=None, any_payload=True, runs={"routes.r.run": run}))  # type: ignore[arg-type]

    async with receiver(take) as url:
        assert await look(url=url, username="u", password="p") == []
        (said,) = await look(url=url)
        assert "403: correct routes.r.run.token" in said
        (said,) = await look(url=url.replace("/in", "/out"), token="t")
        assert "404: correct routes.r.run.url" in said
    (said,) = await look(url=url)
    assert "correct routes.r.run.url, or start it" in said
