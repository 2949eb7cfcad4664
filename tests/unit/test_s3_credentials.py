"""Who we are at an S3 store: keys that are replaced while we run, and sessions that end."""

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.staging import s3_identity
from dcnios_daemon.staging.s3 import S3Client, S3Settings, S3Store
from dcnios_daemon.telemetry.events import LeaveIsShort


@pytest.fixture(autouse=True)
def _files_are_read_when_needed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a second has soon passed, and files would be looked at by themselves."""
    monkeypatch.setattr(s3_identity, "REREAD", 3600)


LISTING = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


class Store:
    """Knows one access key."""

    def __init__(self, code: str = "InvalidAccessKeyId") -> None:
        self.knows = "old"
        self.code = code
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        """A listing, or a refusal."""
        who = request.headers["Authorization"].split("Credential=")[1].split("/")[0]
        self.asked.append(who)
        if who != self.knows:
            return web.Response(
                status=403, text=f"<Error><Code>{self.code}</Code><Message>no</Message></Error>"
            )
        return web.Response(text=LISTING)


@asynccontextmanager
async def serving(handle: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """Its address."""
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", handle)
    async with TestServer(application) as server:
        yield str(server.make_url("")).rstrip("/")


@asynccontextmanager
async def client(store: Store, **settings: str) -> AsyncIterator[S3Client]:
    """Of the store."""
    async with serving(store.handle) as endpoint:
        made = S3Client(S3Settings.model_validate({"endpoint": endpoint} | settings))
        try:
            yield made
        finally:
            await made.aclose()


async def _list(made: S3Client) -> None:
    assert [page async for page in made.pages("inbox")] == []


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "ExpiredToken", "SignatureDoesNotMatch"])
async def test_keys_that_the_store_no_longer_knows_are_read_anew_and_it_is_asked_once_more(
    tmp_path: Path, code: str
) -> None:
    access, store = tmp_path / "access", Store(code)
    access.write_text("old\n")
    async with client(store, access_key_file=str(access), secret_key="s") as made:
        await _list(made)
        access.write_text("new\n")
        store.knows = "new"
        await _list(made)
    assert store.asked == ["old", "old", "new"]


async def test_of_many_calls_with_old_keys_each_is_made_once_more(tmp_path: Path) -> None:
    access, store = tmp_path / "access", Store()
    access.write_text("old")
    async with client(store, access_key_file=str(access), secret_key="s") as made:
        await _list(made)
        access.write_text("new")
        store.knows = "new"
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(_list(made))
    assert Counter(store.asked)["new"] == 5


async def test_keys_that_stay_wrong_are_told_after_one_try(tmp_path: Path) -> None:
    access, store = tmp_path / "access", Store()
    access.write_text("wrong")
    async with client(store, access_key_file=str(access), secret_key="s") as made:
        with pytest.raises(StoreError, match="InvalidAccessKeyId"):
            await _list(made)
    assert store.asked == ["wrong"]


async def test_another_refusal_is_no_reason_to_ask_again() -> None:
    store = Store("AccessDenied")
    async with client(store, access_key="who", secret_key="s") as made:
        with pytest.raises(StoreError, match="AccessDenied"):
            await _list(made)
    assert store.asked == ["who"]


async def test_the_environment_is_read_anew_when_the_store_does_not_know_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "old")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    async with client(store) as made:
        await _list(made)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "new")
        store.knows = "new"
        await _list(made)
    assert store.asked == ["old", "old", "new"]


class Sts:
    """Gives sessions for tokens, as AWS and MinIO do."""

    def __init__(self, lasts: float) -> None:
        self.lasts = lasts
        self.asked: list[dict[str, str]] = []

    async def handle(self, request: web.Request) -> web.Response:
        """AssumeRoleWithWebIdentity."""
        self.asked.append({name: str(value) for name, value in (await request.post()).items()})
        ends = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.lasts)
        number = len(self.asked)
        given = (
            f"<AccessKeyId>session{number}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            f"<SessionToken>token{number}</SessionToken><Expiration>{ends:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
        )
        name = "AssumeRoleWithWebIdentity"
        return web.Response(
            content_type="text/xml",
            text=f'<{name}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{name}Result>'
            f"<Credentials>{given}</Credentials></{name}Result></{name}Response>",
        )


@pytest.fixture
def web_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    token = tmp_path / "token"
    token.write_text("first")
    settings = {
        "ROLE_ARN": "arn:aws:iam::1:role/dcnios",
        "WEB_IDENTITY_TOKEN_FILE": str(token),
        "ROLE_SESSION_NAME": "it",
        "DEFAULT_REGION": "us-east-1",
        "EC2_METADATA_DISABLED": "true",
        "CONFIG_FILE": str(tmp_path / "none"),
        "SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return token


async def test_a_web_identity_becomes_a_session_and_a_new_one_when_it_ends(
    web_identity: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sts, store = Sts(3600), Store("ExpiredToken")
    store.knows = "session1"
    async with serving(sts.handle) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", address)
        async with client(store) as made:
            await _list(made)
            await _list(made)
            await asyncio.to_thread(web_identity.write_text, "second")
            store.knows = "session2"
            await _list(made)
    assert [call["WebIdentityToken"] for call in sts.asked] == ["first", "second"]
    assert {call["RoleArn"] for call in sts.asked} == {"arn:aws:iam::1:role/dcnios"}
    assert store.asked == ["session1", "session1", "session1", "session2"]


async def test_links_end_with_the_session_that_signed_them_and_that_is_said_once(
    web_identity: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[LeaveIsShort] = []
    monkeypatch.setattr(LeaveIsShort, "emit", lambda self: said.append(self))  # noqa: PLW0108 - binds
    sts = Sts(3600)
    async with serving(sts.handle) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", address)
        store = S3Store(S3Settings(endpoint="http://s3.test"))
        short = await store.download("b/k", valid_for=600)
        assert not said
        long = await store.download("b/k", valid_for=86400)
        again = await store.upload("s3://b/p/", valid_for=86400)
    assert "X-Amz-Expires=600&" in short.url
    query = parse_qs(urlsplit(long.url).query)
    assert 3500 < int(query["X-Amz-Expires"][0]) <= 3600
    assert query["X-Amz-Security-Token"] == ["token1"]
    assert again.fields["x-amz-security-token"] == "token1"
    (told,) = said
    assert told.asked == 86400
    assert told.left is not None
    assert told.left <= 3600


async def test_a_session_from_the_environment_ends_nobody_knows_when(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[LeaveIsShort] = []
    monkeypatch.setattr(LeaveIsShort, "emit", lambda self: said.append(self))  # noqa: PLW0108 - binds
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "SESSION_TOKEN": "c"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    store = S3Store(S3Settings(endpoint="http://s3.test"))
    assert "X-Amz-Expires=600&" in (await store.download("b/k", valid_for=600)).url
    await store.download("b/k", valid_for=600)
    assert [told.left for told in said] == [None]
