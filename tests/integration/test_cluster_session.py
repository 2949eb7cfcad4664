"""Requests to an API server that answers slowly, wrongly, in pieces, or not at all."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkUnavailable
from dcnios_daemon.kubernetes import cluster
from dcnios_daemon.kubernetes.answers import Unrecognised
from dcnios_daemon.kubernetes.cluster import ClusterSession
from dcnios_daemon.kubernetes.login import Access, KubernetesSettings
from tests.clocks import ManualClock

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """An API server of one answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.handler: Handler = self.echo
        self.asked: list[web.Request] = []
        self.tokens = ["good"]
        self.clock = ManualClock()

    async def echo(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"body": (await request.text()), "type": request.content_type})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return web.json_response({"reason": "Unauthorized", "message": "who?"}, status=401)
        return await self.handler(request)

    def token(self, text: str) -> None:
        (self.folder / "token").write_text(text)

    def session(self, url: str) -> ClusterSession:
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"tokenFile": str(self.folder / "token")}}],
        }
        (self.folder / "kubeconfig").write_text(json.dumps(config))
        settings = KubernetesSettings(kubeconfig=self.folder / "kubeconfig", namespace="ns")
        return ClusterSession(settings, self.clock)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    made = Api(tmp_path)
    made.token("good")
    return made


@pytest_asyncio.fixture
async def server(api: Api) -> AsyncIterator[TestServer]:
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", api.handle)
    made = TestServer(application)
    async with made:
        yield made


@pytest_asyncio.fixture
async def session(api: Api, server: TestServer) -> AsyncIterator[ClusterSession]:
    made = api.session(str(server.make_url("/")))
    yield made
    await made.aclose()


async def test_bytes_go_as_they_are_to_the_namespace(api: Api, session: ClusterSession) -> None:
    answer = json.loads(await session.request("POST", "jobs", body=b'{"a":1}'))
    assert answer == {"body": '{"a":1}', "type": "application/json"}
    assert api.asked[0].path == "/apis/batch/v1/namespaces/ns/jobs"
    patched = json.loads(await session.request("PATCH", "secrets/x", body=b"{}"))
    assert patched["type"] == "application/merge-patch+json"
    assert api.asked[1].path == "/api/v1/namespaces/ns/secrets/x"


async def test_a_refused_token_is_renewed_once_for_all_who_ask(
    api: Api, session: ClusterSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session.request("GET", "jobs")
    api.tokens = ["new"]
    api.token("new")
    logins, find_out = 0, session._login.access

    async def counted(*, afresh: bool) -> Access:
        nonlocal logins
        logins += 1
        return await find_out(afresh=afresh)

    monkeypatch.setattr(session._login, "access", counted)
    await asyncio.gather(*(session.request("GET", "jobs") for _ in range(5)))
    assert len(api.asked) == 1 + 5 + 5
    assert logins == 1


async def test_a_token_that_stays_refused_is_said_to_be(api: Api, session: ClusterSession) -> None:
    api.tokens = []
    with pytest.raises(Unrecognised):
        await session.request("GET", "jobs")
    assert len(api.asked) == 2


async def test_token_files_are_read_again_in_time(api: Api, session: ClusterSession) -> None:
    await session.request("GET", "jobs")
    api.tokens.append("rotated")
    api.token("rotated")
    await session.request("GET", "jobs")
    assert api.asked[-1].headers["Authorization"] == "Bearer good"
    api.clock.pass_time(cluster.RENEW_SECONDS)
    await session.request("GET", "jobs")
    assert api.asked[-1].headers["Authorization"] == "Bearer rotated"


async def test_a_token_file_that_is_gone_for_a_while_does_no_harm(api: Api, session: ClusterSession) -> None:
    await session.request("GET", "jobs")
    (api.folder / "token").unlink()
    api.clock.pass_time(cluster.RENEW_SECONDS)
    await session.request("GET", "jobs")


async def test_refusals_carry_the_servers_words(api: Api, session: ClusterSession) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"message": "field is immutable"}, status=422)

    api.handler = refuse
    with pytest.raises(OrderRefused, match="field is immutable"):
        await session.request("POST", "jobs", body=b"{}")


async def test_the_pause_asked_for_is_kept(api: Api, session: ClusterSession) -> None:
    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "9"})

    api.handler = busy
    with pytest.raises(SinkBusy) as caught:
        await session.request("POST", "jobs", body=b"{}")
    assert caught.value.retry_after == 9


async def test_redirects_are_not_followed(api: Api, session: ClusterSession) -> None:
    """The token must not go elsewhere."""

    async def elsewhere(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "/other"})

    api.handler = elsewhere
    with pytest.raises(SinkUnavailable):
        await session.request("POST", "jobs", body=b"{}")
    assert len(api.asked) == 1


async def test_a_server_that_never_answers_is_unavailable(api: Api, session: ClusterSession) -> None:
    async def silence(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    api.handler = silence
    with pytest.raises(SinkUnavailable, match="does not answer"):
        await session.request("POST", "jobs", body=b"{}", seconds=0.1)


async def test_a_server_that_is_away_is_unavailable(api: Api) -> None:
    made = api.session("http://127.0.0.1:1")
    with pytest.raises(SinkUnavailable, match="does not answer"):
        await made.request("GET", "jobs")
    await made.aclose()


async def test_a_connection_broken_in_the_middle_is_unavailable(api: Api, session: ClusterSession) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "100"})
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return answer

    api.handler = half
    with pytest.raises(SinkUnavailable):
        await session.request("GET", "jobs")


def pieces(*parts: bytes, hold: bool = False) -> Handler:
    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for part in parts:
            await answer.write(part)
            await asyncio.sleep(0)
        if hold:
            await asyncio.sleep(60)
        return answer

    return stream


async def lines(session: ClusterSession, quiet: float = 5) -> list[bytes]:
    async with aclosing(session.lines("jobs", {"watch": "1"}, quiet=quiet)) as found:
        return [line async for line in found]


async def test_lines_come_whole_however_they_were_cut(api: Api, session: ClusterSession) -> None:
    long = b"x" * 1_500_000
    api.handler = pieces(b"on", b"e\ntwo\n\nthr", b"ee\n", long[:9], long[9:] + b"\nunfinis")
    assert await lines(session) == [b"one", b"two", b"", b"three", long]


async def test_a_line_without_an_end_is_given_up(
    api: Api, session: ClusterSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "LONGEST_LINE", 1000)
    api.handler = pieces(b"x" * 2000, hold=True)
    with pytest.raises(SinkUnavailable, match="over 1000 bytes"):
        await lines(session)


async def test_a_stream_that_falls_silent_ends(api: Api, session: ClusterSession) -> None:
    """A connection that died without a word must not look like a quiet cluster."""
    api.handler = pieces(b"one\n", hold=True)
    assert await lines(session, quiet=0.2) == [b"one"]


async def test_a_stream_is_refused_like_any_request(api: Api, session: ClusterSession) -> None:
    api.tokens = []
    with pytest.raises(Unrecognised):
        await lines(session)
