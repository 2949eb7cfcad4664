"""Credentials of a dCache source that are refused, expire or are replaced while it runs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from dcnios_daemon.core.errors import Rejected
from dcnios_daemon.sources import runner
from dcnios_daemon.sources.dcache.client import login
from dcnios_daemon.sources.dcache.client.login import Login
from dcnios_daemon.sources.status import SourceState
from tests.clocks import ManualClock
from tests.contract.dcache_rig import settings
from tests.integration.dcache_site import Site, until


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(runner, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(login, "LOOK_EVERY", 0.02)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("one\n")
    return file


@pytest_asyncio.fixture
async def site(token: Path) -> AsyncIterator[Site]:
    """Whose frontend counts three 401s and then refuses the address."""
    made = Site(username=None, password=None, token_file=str(token))
    made.dcache.switches.limit_errors = 3
    made.dcache.switches.limit_block = 60.0
    made.dcache.directory.add_token("one:1000")
    await made.open()
    yield made
    await made.close()


def expire(site: Site, token: str) -> None:
    """From now on only this one will do."""
    site.dcache.directory.tokens = {token: 1000}


def put(file: Path, text: str | None) -> None:
    """Replace it as a person would; None: remove it."""
    if text is None:
        file.unlink()
    else:
        file.write_text(text)


async def test_a_refused_login_is_shown_once_and_a_new_one_is_taken_within_seconds(
    site: Site, token: Path
) -> None:
    expire(site, "two")
    async with site.bench.running() as running:
        await until(lambda: running.status.state is SourceState.FAILED)
        assert "401, the login is refused" in running.status.error
        assert running.status.again_at == pytest.approx(running.status.since + login.REFUSED_FOR)
        put(token, "three\n")
        await until(lambda: len(site.dcache.requests.log) == 2)
        await until(lambda: running.status.again_at is not None)
        put(token, None)  # replaced by hand, not in one step
        put(token, "")
        put(token, "two\n")
        await site.listed()
        await site.dcache.upload("/data/f")
        await site.expect("/data/f")
    assert site.count("429") == 0


async def test_a_token_that_expires_is_replaced_and_the_stream_goes_on(site: Site, token: Path) -> None:
    """It was refused before our next look at the file; an open stream outlives its token."""
    async with site.bench.running() as running:
        await site.listed()
        put(token, "two\n")
        expire(site, "two")
        await site.dcache.upload("/data/f")
        await site.expect("/data/f")
        await site.dcache.upload("/data/new/deep/g")  # listed and subscribed to
        await site.expect("/data/f", "/data/new/deep/g")
        assert running.status.state is SourceState.CONNECTED
    assert site.count("stream") == 1
    assert site.count("429") == 0


async def test_a_token_that_expires_before_there_is_another_is_waited_for(site: Site, token: Path) -> None:
    async with site.bench.running() as running:
        await site.listed()
        expire(site, "two")
        await site.dcache.upload("/data/f")
        await until(lambda: running.status.state is SourceState.FAILED)
        asked = len(site.dcache.requests.log)
        await site.dcache.upload("/data/g")
        put(token, "two\n")
        await site.expect("/data/f", "/data/g")
    assert asked < len(site.dcache.requests.log)
    assert site.count("429") == 0
    assert site.count("POST channels") == 1


async def test_many_looks_at_once_show_a_refused_token_no_more_than_once_each(site: Site) -> None:
    """Those under way can not be called back; all others are not asked."""
    site.dcache.switches.limit_errors = 0
    async with site.bench.running() as running:
        await site.listed()
        before = len(site.dcache.requests.log)
        expire(site, "two")
        for number in range(100):
            site.dcache.storage.put(f"/data/f{number}", b"")
        await until(lambda: running.status.state is SourceState.FAILED)
        assert len(site.dcache.requests.log) - before <= 8


# --- files ----------------------------------------------------------------------------------------------


CLOCK = ManualClock()


def given(site: Site, **more: Any) -> Login:
    return Login(settings(site.dcache, **site.more | more), clock=CLOCK)


async def test_a_file_is_read_again_before_its_token_is_refused(site: Site, token: Path) -> None:
    credentials = given(site)
    await credentials.open()
    put(token, "two\n")
    assert await credentials.headers() == {"Authorization": "Bearer one"}
    CLOCK.pass_time(login.FRESH_FOR)
    assert await credentials.headers() == {"Authorization": "Bearer two"}


async def test_a_file_that_cannot_be_read_now_changes_nothing(site: Site, token: Path) -> None:
    credentials = given(site)
    await credentials.open()
    put(token, None)
    CLOCK.pass_time(login.FRESH_FOR)
    assert await credentials.headers() == {"Authorization": "Bearer one"}
    with pytest.raises(Rejected, match="token"):
        await given(site).open()
    put(token, "\n")
    with pytest.raises(Rejected, match="empty"):
        await given(site).open()


async def test_refused_credentials_are_not_shown_again(site: Site, token: Path) -> None:
    credentials = given(site)
    await credentials.open()
    shown = await credentials.headers()
    assert not await credentials.renewed(shown)
    with pytest.raises(Rejected, match="401"):
        await credentials.headers()
    put(token, "two\n")
    CLOCK.pass_time(login.FRESH_FOR)
    assert await credentials.headers() == {"Authorization": "Bearer two"}
    assert await credentials.renewed(shown)


async def test_a_password_in_the_configuration_is_waited_for_in_full(site: Site) -> None:
    refusal = given(site, token_file=None, username="u", password="p").refusal("GET x")
    assert refusal.sooner is None
    assert (refusal.wait, refusal.longest) == (login.REFUSED_FOR, login.LONGEST_REFUSED)


async def test_a_renewed_certificate_ends_the_wait(site: Site, tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    put(chain, "one")
    more = {"token_file": None, "client_cert": str(chain), "url": "https://x"}
    credentials = given(site, **more)
    credentials._used = await asyncio.to_thread(login._credentials, credentials._settings)
    refusal = credentials.refusal("GET x")
    assert refusal.sooner is not None
    put(chain, "two")
    await refusal.sooner()
