"""The client as a notebook and as an asyncio program use it, at a real port."""

import asyncio
import contextlib
import inspect
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web as aioweb

from dcnios_daemon.client import (
    AsyncClient,
    Client,
    ClientError,
    DaemonAway,
    DeliveryDead,
    NotRun,
    NotYet,
    Refused,
    Wanted,
    questions,
)
from dcnios_daemon.client.questions import Answer, Pause, Questions, Steps, T
from dcnios_daemon.client.transport import Login
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Admission, Claim, Dead, Failure, Outcome, Succeed
from dcnios_daemon.core.settings import Secret
from tests.clocks import ManualClock
from tests.unit.web_rig import Port, port

FACES: list[type[Client | AsyncClient]] = [Client, AsyncClient]
STATUS = {"routes": {"r": {"outputs": {"gray": "s3://outbox/gray/"}}, "quiet": {"outputs": {}}}}


class Twin:
    """A client of either kind beside the daemon's journal. Calls of the sync one go through a thread."""

    def __init__(self, web: Port, face: type[Client | AsyncClient], **more: Any) -> None:
        self.web = web
        self.client = face(f"http://127.0.0.1:{web.number}", **more)
        self._uploads = 0

    async def __call__(self, name: str, *given: Any, **named: Any) -> Any:
        method: Callable[..., Any] = getattr(self.client, name)
        if inspect.iscoroutinefunction(method):
            return await method(*given, **named)
        return await asyncio.to_thread(method, *given, **named)

    async def upload(
        self, subject: str, *, routes: tuple[str, ...] = ("r",), action: Action = Action.CREATED
    ) -> str:
        """What the daemon sees of an upload. Returns its key."""
        self._uploads += 1
        event = Event(
            key=event_key("uploads", subject, self._uploads),
            source="uploads",
            kind="toy",
            subject=subject,
            action=action,
            time=1.0,
        )
        await self.web.journal.append("uploads", [Admission(event, routes)], None)
        return event.key

    async def end(self, *, well: bool = True, route: str = "r") -> None:
        """Everything queued on the route ends."""
        for claim in await self.web.journal.claim(route, 100):
            await self.web.journal.finish(
                [claim.delivery], _outcome(claim, well=well), Succeed() if well else Dead()
            )


def _outcome(claim: Claim, *, well: bool) -> Outcome:
    if well:
        return Outcome(order=claim.order, exit_code=0)
    return Outcome(
        order=claim.order, failure=Failure.SCRIPT, exit_code=3, reason="Error", log_tail="no such column\n"
    )


@contextlib.asynccontextmanager
async def twin(face: type[Client | AsyncClient], **more: Any) -> AsyncIterator[Twin]:
    async with port(admin=Secret("right"), status=lambda: STATUS) as web:
        yield Twin(web, face, **{"token": "right", **more})


both = pytest.mark.parametrize("face", FACES)


@both
async def test_the_result_of_my_upload_is_not_that_of_an_earlier_one(
    face: type[Client | AsyncClient],
) -> None:
    async with twin(face) as my:
        await my.upload("in/a")
        await my.end()
        upload = await my("expect", "in/a")
        with pytest.raises(NotYet, match="the daemon has seen no in/a within 0 s"):
            await my("wait", upload, timeout=0)
        await my.upload("in/b")
        key = await my.upload("in/a")
        with pytest.raises(NotYet, match=r"in/a has not ended .*<Delivery 4 r queued 'in/a'>") as late:
            await my("wait", upload, timeout=0)
        assert isinstance(late.value, TimeoutError)
        await my.end()
        (delivery,) = await my("wait", upload)
        assert (delivery.id, delivery.key, delivery.state) == (4, key, "succeeded")
        assert delivery.settled >= delivery.accepted
        assert delivery.outcome.exit_code == 0


@both
async def test_waiting_goes_on_until_it_has_ended(face: type[Client | AsyncClient]) -> None:
    async with twin(face) as my:
        upload = await my("expect", "in/a")
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(my("wait", upload, timeout=60))
            await my.upload("in/a")
            await my.end()
        assert [delivery.state for delivery in waiting.result()] == ["succeeded"]


@both
async def test_a_dead_delivery_says_why_and_can_be_replayed(face: type[Client | AsyncClient]) -> None:
    async with twin(face) as my:
        upload = await my("expect", "in/a")
        await my.upload("in/a")
        await my.end(well=False)
        with pytest.raises(DeliveryDead, match="no such column") as died:
            await my("wait", upload)
        dead = died.value.delivery
        assert dead.outcome is not None
        assert (dead.outcome.failure, dead.outcome.exit_code, dead.outcome.reason) == ("script", 3, "Error")
        assert [one.id for one in await my("deliveries", state="dead", subject="in/a")] == [dead.id]
        await my("replay", dead)
        with pytest.raises(NotYet):
            await my("wait", upload, timeout=0)
        await my.end()
        (delivery,) = await my("wait", upload)
        assert (delivery.id, delivery.attempt) == (dead.id, 2)
        with pytest.raises(Refused, match="no dead delivery has the id"):
            await my("replay", dead)


@both
async def test_every_route_that_took_it_is_waited_for_or_the_one_that_is_named(
    face: type[Client | AsyncClient],
) -> None:
    async with twin(face) as my:
        upload = await my("expect", "in/a")
        await my.upload("in/a", routes=("r", "slow"))
        await my.end()
        with pytest.raises(NotYet):
            await my("wait", upload, timeout=0)
        assert [one.route for one in await my("wait", upload, route="r")] == ["r"]
        with pytest.raises(NotRun, match="route 'other' does not take it"):
            await my("wait", upload, route="other")
        await my.end(route="slow")
        assert {one.route for one in await my("wait", upload)} == {"r", "slow"}


@both
async def test_what_nobody_will_run_is_not_waited_for(face: type[Client | AsyncClient]) -> None:
    async with twin(face) as my:
        upload = await my("expect", "in/a")
        key = await my.upload("in/a", routes=())
        with pytest.raises(NotRun, match="in/a is not taken by any route"):
            await my("wait", upload)
        assert [one.route for one in await my("event", key)] == [""]
        await my.upload("in/b")
        (queued,) = await my("deliveries", subject="in/b")
        await my.web.journal.drop([queued.id], "test data")
        with pytest.raises(NotRun, match="in/b was dropped: test data"):
            await my("wait", Wanted(key=queued.key, subject="in/b"))


async def test_that_it_was_removed_is_no_upload() -> None:
    async with twin(AsyncClient) as my:
        upload = await my("expect", "in/a", source="uploads")
        await my.upload("in/a", action=Action.REMOVED)
        with pytest.raises(NotYet, match="has seen no in/a"):
            await my("wait", upload, timeout=0)
        await my.upload("in/a")
        await my.end()
        assert [one.action for one in await my("wait", upload)] == ["created"]


async def test_an_upload_is_found_among_hundreds_that_came_since() -> None:
    async with twin(AsyncClient) as my:
        upload = await my("expect", "in/a")
        await my.upload("in/a")
        for number in range(250):
            await my.upload(f"in/other-{number}")
        await my.end()
        (delivery,) = await my("wait", upload, timeout=0)
        assert delivery.id == 2


@both
async def test_lists_are_narrowed(face: type[Client | AsyncClient]) -> None:
    async with twin(face) as my:
        for number in range(5):
            await my.upload(f"in/{number % 2}")
        assert [one.id for one in await my("deliveries")] == [6, 5, 4, 3, 2, 1]
        assert [one.id for one in await my("deliveries", subject="in/0", source="uploads")] == [6, 4, 2]
        assert [one.id for one in await my("deliveries", subject="in/0", most=2)] == [6, 4]
        assert [one.id for one in await my("deliveries", subject="in/0", look_through=3)] == [6, 4]
        assert [one.id for one in await my("deliveries", state="dead", route="r")] == [1]
        assert await my("deliveries", state="running") == []
        assert await my("event", "0" * 40) == []
        with pytest.raises(Refused, match="state is one of queued, "):
            await my("deliveries", state="happy")


async def test_a_long_list_comes_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "_PAGE", 2)
    async with twin(AsyncClient) as my:
        for number in range(6):
            await my.upload(f"in/{number % 2}")
        assert [one.id for one in await my("deliveries", subject="in/0")] == [6, 4, 2]
        assert [one.id for one in await my("deliveries", subject="in/0", look_through=5)] == [6, 4]
        assert [one.id for one in await my("deliveries", subject="in/0", most=1)] == [6]


@both
async def test_where_results_go(face: type[Client | AsyncClient]) -> None:
    async with twin(face) as my:
        assert await my("outputs", "r") == {"gray": "s3://outbox/gray/"}
        assert await my("outputs", "quiet") == {}
        with pytest.raises(ClientError, match="no route is called 'x': there are quiet, r"):
            await my("outputs", "x")


# --- the token ----------------------------------------------------------------------------------------


async def test_a_token_comes_from_an_argument_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    async with twin(AsyncClient, token="wrong") as my:
        with pytest.raises(Refused, match="the admin token is missing or wrong") as refused:
            await my("replay", 1)
        assert refused.value.status == 401
        file.write_text("wrong\n")
        by_file = Twin(my.web, AsyncClient, token_file=file)
        with pytest.raises(Refused):
            await by_file("replay", 1)
        file.write_text("right\n")  # a rotated token is taken at once
        await by_file("replay", 1)
        await my.end(well=False)
        for name, value in {"TOKEN": "right", "TOKEN_FILE": str(file)}.items():
            with monkeypatch.context() as environment:
                environment.setenv(f"DCNIOS_CLIENT_{name}", value)
                await Twin(my.web, AsyncClient)("replay", 1)
            await my.end(well=False)
        with pytest.raises(Refused):
            await Twin(my.web, AsyncClient)("replay", 1)


async def test_the_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with twin(AsyncClient) as my:
        monkeypatch.setenv("DCNIOS_CLIENT_URL", f"http://127.0.0.1:{my.web.number}/")
        assert [one.id for one in await AsyncClient().deliveries()] == [1]


def test_a_token_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "token"
    client = Client("http://site.example", token="hush-hush")
    shown = [
        repr(client),
        str(client),
        repr(vars(client)),
        repr(vars(client._transport)),
        repr(Login("hush-hush", None)),
    ]
    assert not [text for text in shown if "hush" in text]
    assert "site.example" in shown[0]
    for content in (b"hush\x00hush\nX-Other: 1", b"hush\xff"):
        file.write_bytes(content)
        with pytest.raises(ClientError) as wrong:
            Login(None, file).headers()
        assert "hush" not in str(wrong.value)
        assert wrong.value.__suppress_context__ or wrong.value.__context__ is None
    with pytest.raises(ClientError, match=r"cannot read the token file .*none: No such file"):
        Login(None, tmp_path / "none").headers()
    with pytest.raises(ValueError, match="not both"):
        Login("hush", file)


@pytest.mark.parametrize("url", ["site.example", "ftp://x", "http://", "http://x?y=1", "file:///etc/passwd"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no URL of a daemon"):
        Client(url)


def test_a_login_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="no login") as wrong:
        Client("http://me:hush@site.example")
    assert "hush" not in str(wrong.value)


@contextlib.asynccontextmanager
async def _other(answers: Callable[[aioweb.Request], aioweb.Response]) -> AsyncIterator[str]:
    """Something that is not the daemon."""

    async def handle(request: aioweb.Request) -> aioweb.Response:
        return answers(request)

    app = aioweb.Application()
    app.add_routes([aioweb.route("*", "/{path:.*}", handle)])
    runner = aioweb.AppRunner(app)
    await runner.setup()
    try:
        await aioweb.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_token_does_not_follow_a_redirection() -> None:
    seen: list[str] = []

    def answers(request: aioweb.Request) -> aioweb.Response:
        seen.append(request.path)
        return aioweb.Response(status=307, headers={"Location": "/elsewhere"})

    async with _other(answers) as url:
        with pytest.raises(Refused, match="it answers 307"):
            await AsyncClient(url, token="right").deliveries()
    assert seen == ["/api/v1/deliveries"]


async def test_a_page_that_is_not_the_daemon_s() -> None:
    async with _other(lambda _: aioweb.Response(text="<h1>Welcome</h1>")) as url:
        with pytest.raises(ClientError, match="this is not the daemon's API"):
            await AsyncClient(url).deliveries()


# --- the daemon goes away -----------------------------------------------------------------------------


async def test_a_daemon_that_is_away_for_too_long() -> None:
    async with port() as web:
        number = web.number
    with pytest.raises(DaemonAway, match=f"the daemon is away: http://127.0.0.1:{number}: .*refused") as away:
        await AsyncClient(f"http://127.0.0.1:{number}", patience=0).deliveries()
    assert away.value.retryable


@pytest.mark.parametrize("status", [HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.BAD_GATEWAY])
async def test_a_daemon_that_fails_is_asked_again(status: HTTPStatus) -> None:
    tries = 0

    def answers(_: aioweb.Request) -> aioweb.Response:
        nonlocal tries
        tries += 1
        if tries == 1:
            return aioweb.json_response({"error": "restarting"}, status=status)
        return aioweb.json_response({"deliveries": []})

    async with _other(answers) as url:
        assert await AsyncClient(url).deliveries() == []
    assert tries == 2


async def test_a_replay_whose_answer_was_lost_has_been_done() -> None:
    tries = 0

    def answers(_: aioweb.Request) -> aioweb.Response:
        nonlocal tries
        tries += 1
        return aioweb.Response(status=502 if tries == 1 else 404)

    async with _other(answers) as url:
        await AsyncClient(url).replay(1)
        with pytest.raises(Refused):
            await AsyncClient(url).replay(1)


def _drive(steps: Steps[T], clock: ManualClock, answers: Iterable[Answer]) -> tuple[T, list[float]]:
    """The result, and the pauses, which take no time here."""
    pauses: list[float] = []
    left = iter(answers)
    answer: Answer | None = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value, pauses
        if isinstance(step, Pause):
            pauses.append(step.seconds)
            clock.pass_time(step.seconds)
        answer = None if isinstance(step, Pause) else next(left)


AWAY = Answer(0, trouble="Connection refused")


def _shown(state: str) -> Answer:
    delivery = {
        "id": 7,
        "route": "r",
        "state": state,
        "attempt": 1,
        "key": "0" * 40,
        "source": "uploads",
        "kind": "minio",
        "subject": "in/a",
        "action": "created",
        "time": "2026-03-01T12:00:00.511Z",
        "accepted": "2026-03-01T12:00:00.702Z",
    }
    return Answer(200, msgspec.json.encode({"deliveries": [delivery], "newest": 7}))


def test_waiting_outlasts_a_daemon_that_restarts() -> None:
    clock = ManualClock()
    asked = Questions(patience=0, clock=clock).wait(Wanted(subject="in/a"), timeout=60, route=None)
    answers = [AWAY, AWAY, _shown("queued"), _shown("queued"), AWAY, Answer(503), _shown("succeeded")]
    (delivery,), pauses = _drive(asked, clock, answers)
    assert delivery.state == "succeeded"
    assert pauses == sorted(pauses)
    assert max(pauses) <= 2


def test_waiting_for_a_daemon_that_never_comes_ends_when_it_should() -> None:
    clock = ManualClock()
    begun = clock.monotonic()
    asked = Questions(patience=0, clock=clock).wait(Wanted(key="0" * 40), timeout=60, route=None)
    with pytest.raises(DaemonAway, match="Connection refused"):
        _drive(asked, clock, itertools.repeat(AWAY))
    assert clock.monotonic() - begun == pytest.approx(60)


def test_waiting_asks_once_in_two_seconds_at_most() -> None:
    clock = ManualClock()
    asked = Questions(patience=0, clock=clock).wait(Wanted(key="0" * 40), timeout=600, route=None)
    answers = itertools.chain(itertools.repeat(_shown("running"), 250), itertools.repeat(_shown("succeeded")))
    _, pauses = _drive(asked, clock, answers)
    assert len(pauses) == 250
    assert sum(pauses) > 480


# --- what it is made of -------------------------------------------------------------------------------


def test_a_notebook_imports_nothing_heavy() -> None:
    program = (
        "import sys, dcnios_daemon.client\n"
        "heavy = {'aiohttp', 'aiobotocore', 'aiokafka', 'botocore', 'kubernetes_asyncio', 'pydantic',\n"
        "         'prometheus_client', 'sqlite3', 'structlog', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_both_faces_have_the_same_calls() -> None:
    def calls(face: type) -> dict[str, dict[str, Any]]:
        return {
            name: {key: one.default for key, one in inspect.signature(method).parameters.items()}
            for name, method in vars(face).items()
            if not name.startswith("_")
        }

    assert calls(Client) == calls(AsyncClient)
