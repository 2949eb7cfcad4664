"""The HTTP port as a browser, a program, a stranger and an attacker see it."""

import asyncio
import base64
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from dcnios_daemon.core.errors import DcniosError, JournalUnavailable
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Admission
from dcnios_daemon.core.settings import Secret
from dcnios_daemon.web import access, server
from tests.unit.web_rig import Port, port


def _basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


async def test_from_this_machine_reading_is_free_and_changing_is_not() -> None:
    async with port() as web:
        assert await web.status("/") == 200
        assert await web.status("/", method="HEAD") == 200
        assert await web.status("/api/v1/status", method="HEAD") == 200
        assert await web.status("/api/v1/dead/1/replay", method="POST") == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Forwarded_For": "192.0.2.1"},
        {"X_Forwarded_For": "127.0.0.1"},
        {"Forwarded": "for=192.0.2.1"},
        {"Host": "evil.example"},
        {"Host": "evil.example:8080"},
        {"Host": "localhost.evil.example"},
        {"Host": "[::1"},
    ],
    ids=str,
)
async def test_who_speaks_for_another_is_not_on_this_machine(headers: dict[str, str]) -> None:
    """A proxy here asks for somebody elsewhere; a page from elsewhere has a browser here ask for it."""
    async with port(admin=Secret("right")) as web:
        for path in ("/", "/api/v1/status", "/api/v1/events", f"/api/v1/events/{web.key}"):
            assert await web.status(path, **headers) == 401
            assert await web.status(path, Authorization="Bearer right", **headers) == 200
            assert await web.status(path, Authorization=_basic("right"), **headers) == 200
            assert await web.status(path, Authorization=_basic("wrong"), **headers) == 401
        assert await web.status("/livez", **headers) == 200
        assert await web.status("/not/there", **headers) == 401  # what nobody has opened is shut


@pytest.mark.parametrize("host", ["localhost:1", "LOCALHOST", "127.0.0.1", "[::1]:9", "me.localhost"])
async def test_names_of_this_machine(host: str) -> None:
    async with port() as web:
        assert await web.status("/api/v1/status", Host=host) == 200


@pytest.mark.parametrize(
    ("remote", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("192.0.2.1", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_addresses_of_this_machine(remote: str, *, local: bool) -> None:
    request = make_mocked_request("GET", "/", headers={"Host": "localhost"}).clone(remote=remote)
    assert access.is_local(request, "127.0.0.1") is local


@pytest.mark.parametrize("given", ["", "Bearer wrong", "Bearer rig", "Bearer rights", "right", "Bearer \xff"])
async def test_only_the_token_itself_opens(given: str) -> None:
    async with port(admin=Secret("right"), hooks=Secret("right")) as web:
        assert await web.status("/api/v1/dead/1/replay", method="POST", Authorization=given) == 401
        assert await web.status("/sources/hooks", method="POST", Authorization=given) == 401
        assert not web.taker.got


async def test_a_browser_s_password_changes_nothing() -> None:
    async with port(admin=Secret("right")) as web:
        login = _basic("right")
        assert await web.status("/api/v1/dead/1/replay", method="POST", Authorization=login) == 401
        bearer = "Bearer right"
        assert await web.status("/api/v1/dead/1/replay", method="POST", Authorization=bearer) == 200


async def test_an_empty_token_file_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "admin").write_text("\n")
    with pytest.raises(DcniosError, match="admin is empty"):
        async with port(admin=Secret(path=tmp_path / "admin")):
            pass


async def test_web_pages_cannot_feed_a_source_that_has_no_token() -> None:
    async with port(hooks=None, guarded=Secret("right")) as web:
        page = "https://evil.example"
        assert await web.status("/sources/hooks", method="POST", Origin=page) == 403
        assert await web.status("/sources/hooks", method="POST") == 200
        right = {"Origin": page, "Authorization": "Bearer right"}
        assert await web.status("/sources/guarded", method="POST", **right) == 200


async def test_a_sender_asks_whether_it_is_welcome_before_it_shows_a_token() -> None:
    async with port(guarded=Secret("right")) as web:
        named = {"WebHook_Request_Origin": "emitter.example.com"}
        assert await web.status("/sources/guarded", method="OPTIONS", **named) == 200
        (asked,) = web.taker.got
        assert (asked.method, asked.body) == ("OPTIONS", b"")
        assert asked.headers["webhook-request-origin"] == "emitter.example.com"
        assert await web.status("/sources/guarded", method="POST", **named) == 401


async def test_a_token_may_come_in_the_query() -> None:
    async with port(admin=Secret("right"), guarded=Secret("right+1")) as web:
        assert await web.status("/sources/guarded?access_token=right%2B1", method="POST") == 200
        assert await web.status("/sources/guarded?access_token=wrong", method="POST") == 401
        assert await web.status("/sources/guarded?access_token=", method="POST") == 401
        assert await web.status("/api/v1/dead/1/replay?access_token=right", method="POST") == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/deliveries?limit=0", 200),
        ("/api/v1/deliveries?limit=999999", 200),
        (f"/api/v1/deliveries?after={10**17}", 200),
        (f"/api/v1/deliveries?after={10**30}", 400),
        ("/api/v1/deliveries?after=" + "9" * 5000, 400),
        ("/api/v1/deliveries?after=-1", 400),
        ("/api/v1/deliveries?after=%D9%A3", 400),
        ("/api/v1/deliveries?limit=many", 400),
        ("/api/v1/deliveries?above=-1", 400),
        ("/api/v1/deliveries?state=happy", 400),
        ("/api/v1/dead?route=none", 200),
        ("/api/v1/events/zz", 404),
        ("/api/v1/events/" + "0" * 300, 404),
        ("/api/v1/nothing", 404),
        ("/sources/nobody", 404),
        ("/page/../server.py", 404),
        ("/page/%2e%2e%2fserver.py", 404),
    ],
)
async def test_odd_questions_get_plain_answers(path: str, status: int) -> None:
    async with port() as web:
        given, body, _ = await web.ask(path)
        assert given == status
        assert status == 200 or set(body) == {"error"}


async def _three_more(web: Port) -> None:
    """Beside the dead one (id 1): two of ``in/a`` and one of ``in/b``, from two sources."""
    for number, (source, subject) in enumerate([("s", "in/a"), ("t", "in/a"), ("s", "in/b")], start=2):
        event = Event(
            key=event_key(source, number),
            source=source,
            kind="toy",
            subject=subject,
            action=Action.CREATED,
            time=1.0,
        )
        await web.journal.append(source, [Admission(event, ("r",))], None)


@pytest.mark.parametrize(
    ("query", "ids", "page"),
    [
        ("", [4, 3, 2, 1], {"newest": 4}),
        ("subject=in%2Fa", [3, 2], {"newest": 4}),
        ("subject=in/a&source=s", [2], {"newest": 4}),
        ("source=t", [3], {"newest": 4}),
        ("subject=in", [], {"newest": 4}),
        ("above=2", [4, 3], {"newest": 4}),
        ("above=2&subject=in/b", [4], {"newest": 4}),
        ("above=4", [], {}),
        ("above=9", [], {}),
        ("limit=2", [4, 3], {"newest": 4, "next": 3}),
        ("limit=2&after=3&above=1", [2], {"newest": 2}),
        ("limit=2&subject=in/a", [3], {"newest": 4, "next": 3}),
        ("limit=0", [], {}),
    ],
)
async def test_a_list_is_narrowed_and_says_where_it_goes_on(
    query: str, ids: list[int], page: dict[str, int]
) -> None:
    """``limit`` counts what is looked at, so that no question costs more for what it leaves out."""
    async with port() as web:
        await _three_more(web)
        status, body, _ = await web.ask(f"/api/v1/deliveries?{query}")
        assert status == 200
        assert [shown["id"] for shown in body.pop("deliveries")] == ids
        assert body == page


async def test_events_and_the_dead_are_narrowed_alike() -> None:
    async with port() as web:
        await _three_more(web)
        events = (await web.ask("/api/v1/events?source=t"))[1]
        assert [event["subject"] for event in events["events"]] == ["in/a"]
        assert (await web.ask("/api/v1/dead?source=s"))[1]["dead"][0]["id"] == 1
        assert (await web.ask("/api/v1/dead?source=t"))[1] == {"dead": [], "newest": 1}


@pytest.mark.parametrize("number", [str(10**30), "9" * 5000, "%D9%A3", "-1", "2"])
async def test_replaying_what_is_not_there(number: str) -> None:
    async with port(admin=Secret("right")) as web:
        path = f"/api/v1/dead/{number}/replay"
        assert await web.status(path, method="POST", Authorization="Bearer right") == 404


async def test_a_wrong_method_says_which_are_right() -> None:
    async with port(admin=Secret("right")) as web:
        status, body, headers = await web.ask("/api/v1/status", method="DELETE", Authorization="Bearer right")
        assert (status, set(body)) == (405, {"error"})
        assert "GET" in headers["Allow"]


async def test_a_beginning_that_two_keys_share_is_the_caller_s_affair() -> None:
    async with port() as web:
        events = [
            Event(
                key=web.key[:2] + f"{number:038x}",
                source="s",
                kind="toy",
                subject="x",
                action=Action.CREATED,
                time=1.0,
                data=b"",
            )
            for number in range(2)
        ]
        await web.journal.append("s", [Admission(event, ("r",)) for event in events], None)
        status, body, _ = await web.ask(f"/api/v1/events/{web.key[:2]}")
        assert status == 409
        assert "begin with" in body["error"]


async def test_before_the_journal_is_open_and_after_it_is_closed() -> None:
    async with port() as web:
        await web.journal.aclose()
        for path in ("/api/v1/status", "/api/v1/deliveries", f"/api/v1/events/{web.key}"):
            status, body, _ = await web.ask(path)
            assert (status, set(body)) == (503, {"error"})
        assert await web.status("/livez") == 200


async def test_a_source_whose_journal_fails_is_told_to_come_again() -> None:
    async with port(hooks=None) as web:
        web.taker.breaks = JournalUnavailable("no space left on device")
        status, body, _ = await web.ask("/sources/hooks", method="POST")
        assert (status, body) == (503, {"error": "no space left on device"})


async def test_not_ready_says_why() -> None:
    async with port() as web:
        assert (await web.ask("/readyz"))[:2] == (200, {"ready": True, "reasons": {}})
        web.health.watch("journal", lambda: "full")
        assert (await web.ask("/readyz"))[:2] == (503, {"ready": False, "reasons": {"journal": "full"}})


async def test_metrics_are_openmetrics() -> None:
    async with port() as web:
        status, body, headers = await web.ask("/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("application/openmetrics-text")
        assert body.endswith("# EOF\n")


async def test_a_route_is_paused_and_resumed_by_who_may_change_things() -> None:
    async with port(admin=Secret("right")) as web:
        path, bearer = "/api/v1/routes/r", "Bearer right"
        for verb in ("pause", "resume"):
            assert await web.status(f"{path}/{verb}", method="POST") == 401
            assert await web.status(f"{path}/{verb}", Authorization=bearer) == 405
        for _ in range(2):
            status, body, _ = await web.ask(f"{path}/pause", method="POST", Authorization=bearer)
            assert (status, body) == (200, {"route": "r", "paused": True})
        shown = (await web.ask("/api/v1/status"))[1]["journal"]["paused"]
        assert shown == (await web.journal.stats()).paused != {}
        assert 'dcnios_route_paused{route="r"} 1.0' in (await web.ask("/metrics"))[1]
        assert await web.status("/readyz") == 200
        for _ in range(2):
            status, body, _ = await web.ask(f"{path}/resume", method="POST", Authorization=bearer)
            assert (status, body) == (200, {"route": "r", "paused": False})
        assert (await web.ask("/api/v1/status"))[1]["journal"]["paused"] == {}
        assert 'dcnios_route_paused{route="r"} 0.0' in (await web.ask("/metrics"))[1]


async def test_pausing_a_route_needs_an_admin_token_and_a_route() -> None:
    async with port() as web:
        assert await web.status("/api/v1/routes/r/pause", method="POST") == 403
    async with port(admin=Secret("right")) as web:
        for verb in ("pause", "resume"):
            status, body, _ = await web.ask(
                f"/api/v1/routes/nosuch/{verb}", method="POST", Authorization="Bearer right"
            )
            assert (status, body) == (404, {"error": "no route is called 'nosuch'"})
        assert (await web.journal.stats()).paused == {}


async def test_a_route_that_is_gone_can_still_be_resumed() -> None:
    async with port(admin=Secret("right")) as web:
        await web.journal.pause("gone")
        login = {"method": "POST", "Authorization": "Bearer right"}
        assert await web.status("/api/v1/routes/gone/resume", **login) == 200
        assert await web.status("/api/v1/routes/gone/resume", **login) == 404


async def test_nobody_may_frame_the_page_or_guess_types() -> None:
    async with port() as web:
        headers = (await web.ask("/"))[2]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "'unsafe" not in headers["Content-Security-Policy"]
        api = (await web.ask("/api/v1/status"))[2]
        assert (api["X-Content-Type-Options"], api["Cache-Control"]) == ("nosniff", "no-store")


async def _raw(web: Port, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.number)
    try:
        writer.write(text)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_body_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_WITHIN", 0.05)
    async with port(hooks=None) as web:
        answer = await _raw(web, b"POST /sources/hooks HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert not web.taker.got


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"Content-Length: 99999999\r\n\r\n", b"413"),
        (b"X: " + b"x" * 100_000 + b"\r\n\r\n", b"400"),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
    ids=["body", "headers", "chunks"],
)
async def test_too_much_and_nonsense_are_refused(sent: bytes, status: bytes) -> None:
    async with port(hooks=None) as web:
        start = b"POST /sources/hooks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        assert (await _raw(web, start + sent)).split(b" ")[1] == status
        assert not web.taker.got


async def test_an_address_that_is_taken_is_named() -> None:
    async with port() as web:
        with pytest.raises(DcniosError, match=f"127.0.0.1:{web.number}"):
            async with web.server.listen("127.0.0.1", web.number):
                pass
