"""Web identity against the real MinIO: it checks the token in a file with whoever issued that, and gives a
session for it. Such a token is what a pod's service account is."""

import asyncio
import base64
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from dcnios_daemon.core.errors import StoreUnavailable
from dcnios_daemon.staging.s3 import S3Client, S3Settings
from tests.e2e.stores import s3_client
from tests.servers.minio import MinIO
from tests.servers.workspace import Workspace

CLIENT = "dcnios"
ROLE = re.compile(r"arn:minio:iam:::role/[\w-]+")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(value: int) -> str:
    return _text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Issuer:
    """As much of OpenID Connect as a store asks for."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._port = port
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Its two documents."""
        known = {
            "issuer": self.address,
            "jwks_uri": f"{self.address}/keys",
            "authorization_endpoint": f"{self.address}/authorize",
            "token_endpoint": f"{self.address}/token",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        public = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1"}
        keys = {"keys": [key | {"n": _number(public.n), "e": _number(public.e)}]}
        application = web.Application()
        application.router.add_get("/.well-known/openid-configuration", _says(known))
        application.router.add_get("/keys", _says(keys))
        runner = web.AppRunner(application)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
            yield
        finally:
            await runner.cleanup()

    def token(self, *, subject: str = "pod", lasts: float = 3600) -> str:
        """One that it signed."""
        claims = {"iss": self.address, "sub": subject, "aud": CLIENT, "exp": int(time.time() + lasts)}
        parts = [{"alg": "RS256", "typ": "JWT", "kid": "1"}, claims]
        head = ".".join(_text(json.dumps(part).encode()) for part in parts)
        return f"{head}.{_text(self._key.sign(head.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _says(document: Mapping[str, object]) -> Handler:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.json_response(document)

    return handle


async def test_a_token_in_a_file_becomes_a_session_of_minio(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = Issuer(workspace.port())
    openid = {
        "CONFIG_URL": f"{issuer.address}/.well-known/openid-configuration",
        "CLIENT_ID": CLIENT,
        "ROLE_POLICY": "readwrite",
    }
    env = {f"MINIO_IDENTITY_OPENID_{name}": value for name, value in openid.items()}
    store = MinIO(workspace, env=env)
    async with issuer.serving():
        await asyncio.to_thread(store.start)
        async with s3_client(store.access) as client:
            await client.create_bucket(Bucket="inbox")
            await client.put_object(Bucket="inbox", Key="a", Body=b"x")
        found = ROLE.search(await asyncio.to_thread(store.log.read_text))
        assert found, store.log.read_text()
        token = tmp_path / "token"
        token.write_text("none of its own")
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE"):
            monkeypatch.delenv(f"AWS_{name}", raising=False)
        monkeypatch.setenv("AWS_ROLE_ARN", found[0])
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", store.endpoint)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        made = S3Client(S3Settings.model_validate({"endpoint": store.endpoint}))
        try:
            with pytest.raises(StoreUnavailable, match="AWS chain"):
                await made.read("inbox")
            token.write_text(issuer.token())
            pages = [page async for page in made.pages("inbox")]
        finally:
            await made.aclose()
        assert [each.key for page in pages for each in page] == ["a"]
        await asyncio.to_thread(store.stop)
