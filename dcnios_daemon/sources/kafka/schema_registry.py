"""A schema registry: what the number in front of a value stands for.

It speaks Confluent's REST API (docs.confluent.io, "Schema Registry API Reference"), as Karapace and Apicurio
do as well. What it answers for a number never changes, so each is asked for once.
"""

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import quote

import aiohttp
import msgspec
from pydantic import StringConstraints, model_validator

from dcnios_daemon.core.errors import Disconnected, Rejected
from dcnios_daemon.core.settings import Secret, Settings
from dcnios_daemon.kafka import login

_TIMEOUT = aiohttp.ClientTimeout(total=20, connect=10)
_MOST_BYTES = 8 << 20
_MOST_REFERENCES = 200
_NO_SUCH = frozenset({40401, 40402, 40403})
"""The registry's own words for *no such subject, version, schema*: a proxy's 404 says something else."""
_LOGIN = frozenset({401, 403})
_PLEASE_WAIT = frozenset({408, 425, 429})


class RegistrySettings(Settings):
    """A schema registry that speaks Confluent's API. Values that begin with the number of one of its schemas
    become JSON: Avro is decoded, JSON is freed of the number. Others stay as they are."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")]
    """``https://registry.example.org:8081``."""
    username: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    """A bearer token, instead of username and password."""
    ca_file: Path | None = None
    """Certificates (PEM) that vouch for the registry; default: the system's."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("give username and password, or neither")
        if self.token is not None and self.username is not None:
            raise ValueError("give token, or username and password, not both")
        if self.ca_file is not None and not self.url.startswith("https:"):
            raise ValueError("ca_file needs an https url")
        return self


class UnknownSchema(Exception):
    """The registry answers that there is no such schema."""


class Reference(msgspec.Struct, frozen=True):
    """A schema that another one uses, as the registry writes it."""

    subject: str
    version: int


class Schema(msgspec.Struct, frozen=True, rename="camel"):
    """A schema, as the registry writes it."""

    schema: str
    schema_type: str = "AVRO"
    references: tuple[Reference, ...] | None = None


class _Refusal(msgspec.Struct, frozen=True):
    error_code: int = 0
    message: str = ""


class SchemaRegistry:
    """Asks the registry. All methods raise Disconnected (ask again later) or Rejected."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def schema(self, number: int) -> Schema:
        """The schema of that number.

        Raises:
            UnknownSchema: There is none.
        """
        return self._read(await self._get(f"schemas/ids/{number}"))

    async def references(self, schema: Schema) -> list[str]:
        """The texts of all schemas that it refers to, each after those that it refers to itself.

        Raises:
            UnknownSchema: One of them does not exist, or there are too many.
        """
        texts: dict[Reference, str] = {}
        open_: set[Reference] = set()

        async def follow(one: Schema) -> None:
            for reference in one.references or ():
                if reference in texts or reference in open_:
                    continue
                if len(texts) + len(open_) >= _MOST_REFERENCES:
                    raise UnknownSchema(f"it has more than {_MOST_REFERENCES} references")
                open_.add(reference)
                subject = quote(reference.subject, safe="")
                found = self._read(await self._get(f"subjects/{subject}/versions/{reference.version}"))
                await follow(found)
                texts[reference] = found.schema

        await follow(schema)
        return list(texts.values())

    async def check(self) -> None:
        """Make sure that it is there and lets us in."""
        try:
            await self._get("schemas/types")
        except UnknownSchema as error:
            raise Rejected(f"{self._where} does not answer as a schema registry does") from error

    async def aclose(self) -> None:
        """Release connections."""
        if self._session is not None:
            await self._session.close()

    @property
    def _where(self) -> str:
        return f"the schema registry at {self._settings.url}"

    async def _get(self, path: str) -> bytes:
        try:
            if self._session is None:
                self._session = await self._open()
            url = f"{self._settings.url.rstrip('/')}/{path}"
            async with self._session.get(url, allow_redirects=False) as response:
                body = await response.content.read(_MOST_BYTES)
                while not response.content.at_eof() and len(body) < _MOST_BYTES:
                    body += await response.content.read(_MOST_BYTES - len(body))
        except aiohttp.ClientConnectorCertificateError as error:
            raise Rejected(f"the certificate of {self._where} is not trusted: {error}") from error
        except (
            aiohttp.ClientError,
            OSError,
            ValueError,
        ) as error:  # what goes into a header may not fit there
            raise Disconnected(f"{self._where}: {str(error) or type(error).__name__}") from error
        self._judge(response.status, body)
        return body

    def _judge(self, status: int, body: bytes) -> None:
        if status == 200:  # noqa: PLR2004 - OK
            return
        refusal = _refusal(body)
        words = f"{self._where} answers {status}: {refusal.message or 'without a word'}"
        if refusal.error_code in _NO_SUCH:
            raise UnknownSchema(refusal.message)
        if status in _LOGIN:
            raise Rejected(f"{words}: correct the registry's login, or grant it the right to read")
        if status >= 500 or status in _PLEASE_WAIT:  # noqa: PLR2004 - the server's own failures
            raise Disconnected(words)
        raise Rejected(f"{words}: it does not answer as a schema registry does; correct the registry's url")

    def _read(self, body: bytes) -> Schema:
        try:
            return msgspec.json.decode(body, type=Schema)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Rejected(f"{self._where} does not answer as a schema registry does: {error}") from error

    async def _open(self) -> aiohttp.ClientSession:
        headers, context = await asyncio.to_thread(_login, self._settings)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=4),
            headers=headers,
            timeout=_TIMEOUT,
            trust_env=True,
        )


def _login(settings: RegistrySettings) -> tuple[dict[str, str], ssl.SSLContext]:
    """The headers that log us in, and whom we trust. Reads files."""
    headers = {
        "Accept": "application/vnd.schemaregistry.v1+json, application/json",
        "User-Agent": "dcnios-daemon",
    }
    if settings.token is not None:
        headers["Authorization"] = f"Bearer {login.revealed('token', settings.token)}"
    if settings.username is not None and settings.password is not None:
        pair = f"{settings.username}:{login.revealed('password', settings.password)}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    with login.naming("ca_file", settings.ca_file):
        return headers, ssl.create_default_context(cafile=settings.ca_file)


def _refusal(body: bytes) -> _Refusal:
    try:
        return msgspec.json.decode(body, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Refusal()
