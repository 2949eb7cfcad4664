"""Who may do what on the fake dCache: logins, macaroons, certificates."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.dcache import Directory, FakeDcache
from tests.fakes.dcache.by_hand import ALICE, BOB, Client, detail, serving
from tests.fakes.dcache.macaroon import MacaroonError, mint, verify


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving(FakeDcache()) as running:
        yield running


# Who may do what


async def test_anonymous_is_refused_with_a_challenge(client: Client) -> None:
    client.headers = {}
    for url in (client.dcache.dav + "/", client.dcache.api + "/events/channels"):
        refused = await client.call("GET", url)
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm=""')
        quiet = await client.call("GET", url, headers={"Suppress-WWW-Authenticate": "Suppress"})
        assert (quiet.status, quiet.headers.get("WWW-Authenticate")) == (401, None)


async def test_declared_users_and_tokens_only() -> None:
    directory = Directory()
    directory.add_user("alice:secret:7")
    directory.add_token("good:7")
    async with serving(FakeDcache(directory=directory)) as client:
        channel = await client.channel()
        json_type = {"Accept": "application/json"}
        same_uid = {**json_type, "Authorization": "Bearer good"}
        assert (await client.call("GET", channel, headers=same_uid)).status == 200
        for bad in ("Bearer bad", BOB["Authorization"]):
            refused = await client.call("GET", channel, headers={"Authorization": bad})
            assert (refused.status, await refused.text()) == (401, "")
        client.dcache.switches.bearer_needs_tls = True
        assert (await client.call("GET", channel, headers=same_uid)).status == 401


async def macaroon(client: Client, path: str, *caveats: str, validity: str = "PT1H") -> Any:
    body = json.dumps({"caveats": list(caveats), "validity": validity})
    headers = {"Content-Type": "application/macaroon-request"}
    response = await client.dav("POST", path, data=body, headers=headers)
    assert response.status == 200, response.reason
    return await response.json()


async def test_macaroon_restricts_path_and_activity(client: Client) -> None:
    await client.dcache.upload("/d/f", b"x")
    await client.dcache.upload("/e/f", b"x")
    reply = await macaroon(client, "/", "activity:DOWNLOAD,LIST", "path:/d")
    token = reply["macaroon"]
    assert reply["uri"]["targetWithMacaroon"] == f"{client.dcache.dav}/?authz={token}"
    assert reply["uri"]["base"] == client.dcache.url + "/"
    client.headers = {"Authorization": f"Bearer {token}"}
    allowed = [("GET", "/d/f"), ("HEAD", "/d/f"), ("GET", "/d")]
    assert [(await client.dav(method, path)).status for method, path in allowed] == [200, 200, 200]
    denied = [("GET", "/e/f"), ("PUT", "/d/g"), ("DELETE", "/d/f"), ("MKCOL", "/d/h"), ("GET", "/")]
    assert [(await client.dav(method, path)).status for method, path in denied] == [403] * 5
    assert (await client.call("GET", f"{client.dcache.api}/namespace/e")).status == 403
    client.headers = {}
    assert (await client.dav("GET", f"/d/f?authz={token}")).status == 200


async def test_macaroon_paths_add_up_and_roots_hide(client: Client) -> None:
    await client.dcache.upload("/d/sub/f", b"x")
    token = (await macaroon(client, "/d", "path:/sub"))["macaroon"]
    client.headers = {"Authorization": f"Bearer {token}"}
    assert (await client.dav("GET", "/d/sub/f")).status == 200
    assert (await client.dav("PUT", "/d/f", data=b"")).status == 403
    client.headers = ALICE
    rooted = (await macaroon(client, "/", "root:/d"))["macaroon"]
    client.headers = {"Authorization": f"Bearer {rooted}"}
    assert (await client.dav("GET", "/sub/f")).status == 200
    assert (await client.stat("/sub/f"))["size"] == 1


async def test_macaroon_cannot_be_forged_or_widened(client: Client) -> None:
    await client.dcache.upload("/d/f", b"x")
    narrow = (await macaroon(client, "/d", "activity:LIST"))["macaroon"]
    forged = mint(b"guess", "id", ["id:7;7;mallory"])
    for token in (forged, narrow[:-4] + "AAAA"):
        response = await client.dav("GET", "/d/f", headers={"Authorization": f"Bearer {token}"})
        assert response.status == 401
    client.headers = {"Authorization": f"Bearer {narrow}"}
    headers = {"Content-Type": "application/macaroon-request"}
    wider = await client.dav("POST", "/d", data=b'{"caveats": ["activity:DOWNLOAD"]}', headers=headers)
    assert wider.status == 400
    with pytest.raises(MacaroonError):
        verify(b"other", narrow)


@pytest.mark.parametrize(
    "request_body",
    [
        b'{"caveats": ["activity:FLY"]}',
        b'{"caveats": ["color:red"]}',
        b'{"validity": "soon"}',
        b'{"validity": "P8D"}',
        b'{"caveats": ["before:2020-01-01T00:00:00Z"]}',
        b"{",
    ],
)
async def test_bad_macaroon_requests(client: Client, request_body: bytes) -> None:
    headers = {"Content-Type": "application/macaroon-request"}
    assert (await client.dav("POST", "/", data=request_body, headers=headers)).status == 400


async def test_expired_and_misplaced_macaroons(client: Client) -> None:
    token = (await macaroon(client, "/", validity="PT0.001S"))["macaroon"]
    async with asyncio.timeout(5):
        while (await client.dav("GET", "/", headers={"Authorization": f"Bearer {token}"})).status != 401:
            pass
    token = (await macaroon(client, "/", "ip:192.0.2.0/24"))["macaroon"]
    assert (await client.dav("GET", "/", headers={"Authorization": f"Bearer {token}"})).status == 401


async def test_macaroon_limits_what_may_be_watched(client: Client) -> None:
    token = (await macaroon(client, "/d/open", "activity:LIST"))["macaroon"]
    await client.dcache.mkdir("/d/open")
    client.headers = {"Authorization": f"Bearer {token}"}
    channel = await client.channel()
    refused = await client.subscribe(channel, "/d")
    assert (refused.status, await detail(refused)) == (400, "Permission denied: Not allowed.")
    assert (await client.subscribe(channel, "/d/open")).status == 201


# TLS


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[Client, Callable[[str | None], ssl.SSLContext]]]:
    from tests.fakes.dcache import tls  # noqa: PLC0415 - needs the cryptography package, the rest does not

    authority = tls.make(tmp_path)
    async with serving(FakeDcache(tls=authority.server_context("127.0.0.1"))) as client:
        yield client, authority.client_context


async def test_tls_with_our_own_ca_and_client_certificates(
    secure: tuple[Client, Callable[[str | None], ssl.SSLContext]],
) -> None:
    client, context = secure
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await client.channel()
    channel = await client.call("POST", f"{client.dcache.api}/events/channels", json={}, ssl=context(None))
    assert channel.headers["Location"].startswith("https://")
    client.dcache.switches.http_locations = True
    channel = await client.call("POST", f"{client.dcache.api}/events/channels", json={}, ssl=context(None))
    assert channel.headers["Location"].startswith("http://")
    client.headers = {}
    user = await client.call("GET", f"{client.dcache.api}/user", ssl=context("carol"))
    assert (await user.json())["username"] == "carol"
