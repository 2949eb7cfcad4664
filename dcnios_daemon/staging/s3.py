"""S3 stores (MinIO, AWS, Ceph): listing, and leave for single objects and prefixes.

Signing is done by botocore's own signer classes, without its service client: that client costs some 25 MB and
most of a millisecond per presigned URL, the signer a tenth of that. Everything else that is needed of S3
is one GET. Addresses are path-style, which MinIO, Ceph and AWS all take.
"""

import asyncio
import contextlib
import datetime as dt
import functools
import importlib
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import msgspec
import yarl
from pydantic import model_validator

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.core.policy import backoff
from dcnios_daemon.core.ports import Download, Upload
from dcnios_daemon.core.settings import Secret, Settings
from dcnios_daemon.staging.s3_answers import S3Object, parse_page, refusal
from dcnios_daemon.staging.transfer import read_authorities

LONGEST = 7 * 86400
"""Seconds; AWS and MinIO refuse a presigned URL that is valid for longer."""
PAGE = 1000
_TRIES = 4
_REREAD = 10.0
_NO_ANSWER = 300
_CONNECT = 10.0
_SILENCE = 60.0
_CONNECTIONS = 100


class S3Settings(Settings):
    """Where an S3 store is, and who we are there."""

    endpoint: str | None = None
    """``http://host:port`` of the store; none: AWS."""
    region: str = "us-east-1"
    access_key: Secret | None = None
    """None: the AWS chain (environment, ``~/.aws``, web identity, instance role)."""
    secret_key: Secret | None = None
    ca_file: Path | None = None
    """The certificate authorities to trust for ``https``; none: the system's."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("give access_key and secret_key, or neither for the AWS chain")
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/"):
                raise ValueError("endpoint: write http://host:port or https://host")
        return self

    @property
    def base(self) -> str:
        """The URL in front of ``/bucket/key``."""
        return (self.endpoint or f"https://s3.{self.region}.amazonaws.com").rstrip("/")


class _Keys(msgspec.Struct, frozen=True):
    access_key: str
    secret_key: str
    token: str | None = None


class _Identity:
    """Who we are, read anew now and then so that rotated credentials are picked up."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._kept: _Keys | None = None
        self._read_at = 0.0
        self._chain: Any = None

    async def keys(self) -> _Keys:
        if self._settings.access_key is None or self._settings.secret_key is None:
            return await self._chain_keys()
        now = time.monotonic()
        if self._kept is None or now - self._read_at >= _REREAD:
            try:
                self._kept = await asyncio.to_thread(
                    lambda access, secret: _Keys(access.reveal(), secret.reveal()),
                    self._settings.access_key,
                    self._settings.secret_key,
                )
            except (OSError, UnicodeDecodeError) as error:
                raise StoreUnavailable(f"S3 credentials cannot be read: {error}") from error
            self._read_at = now
        return self._kept

    async def _chain_keys(self) -> _Keys:
        if self._chain is None:
            aiobotocore = await asyncio.to_thread(importlib.import_module, "aiobotocore.session")
            session = aiobotocore.get_session()
            await asyncio.to_thread(session.get_scoped_config)
            self._chain = await session.get_credentials()
        if self._chain is None:
            raise StoreError("no S3 credentials: give access_key and secret_key, or what the AWS chain reads")
        exceptions = importlib.import_module("botocore.exceptions")
        try:
            frozen = await self._chain.get_frozen_credentials()
        except exceptions.BotoCoreError as error:
            raise StoreUnavailable(f"the AWS chain gives no credentials: {error}") from error
        return _Keys(frozen.access_key, frozen.secret_key, frozen.token)


@functools.cache
def _botocore() -> tuple[Any, Any]:
    """The signer classes, imported when first needed: a daemon without S3 does not pay for them."""
    return importlib.import_module("botocore.auth"), importlib.import_module("botocore.awsrequest")


class _Signer:
    """SigV4 for one store, its heavy import done off the event loop."""

    def __init__(self, settings: S3Settings) -> None:
        self._region = settings.region
        self._identity = _Identity(settings)

    async def presign(self, url: str, *, seconds: int) -> str:
        auth, request = await self._request("GET", url)
        keys = await self._identity.keys()
        auth.S3SigV4QueryAuth(keys, "s3", self._region, expires=seconds).add_auth(request)
        return str(request.url)

    async def post_policy(self, url: str, *, bucket: str, prefix: str, seconds: int) -> dict[str, str]:
        auth, request = await self._request("POST", url)
        keys = await self._identity.keys()
        expiration = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        fields: dict[str, str] = {}
        request.context["s3-presign-post-fields"] = fields
        request.context["s3-presign-post-policy"] = {
            "expiration": expiration.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "conditions": [{"bucket": bucket}, ["starts-with", "$key", prefix]],
        }
        auth.S3SigV4PostAuth(keys, "s3", self._region).add_auth(request)
        return fields

    async def headers(self, url: str) -> dict[str, str]:
        auth, request = await self._request("GET", url)
        auth.S3SigV4Auth(await self._identity.keys(), "s3", self._region).add_auth(request)
        return dict(request.headers.items())

    @staticmethod
    async def _request(method: str, url: str) -> tuple[Any, Any]:
        if _botocore.cache_info().currsize == 0:
            await asyncio.to_thread(_botocore)
        auth, awsrequest = _botocore()
        return auth, awsrequest.AWSRequest(method=method, url=url)


def _tls(settings: S3Settings) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else True


class S3Client:
    """Reads from an S3 store.

    Args:
        settings: Which, and as whom.
        connections: How many at once, at most; 0: as many as are asked for.
    """

    def __init__(self, settings: S3Settings, *, connections: int = _CONNECTIONS) -> None:
        self._settings = settings
        self._connections = connections
        self._signer = _Signer(settings)
        self._session: aiohttp.ClientSession | None = None

    async def pages(
        self, bucket: str, *, prefix: str = "", after: str = ""
    ) -> AsyncGenerator[Sequence[S3Object], None]:
        """Everything under the prefix, in key order, up to 1,000 objects at a time.

        Args:
            bucket: Its name.
            prefix: What keys begin with.
            after: Only keys that sort behind this one: to go on where a listing broke off.

        Raises:
            StoreUnavailable: The store does not answer, also not after some tries.
            StoreError: It refuses: login, right, no such bucket.
        """
        query = {"list-type": "2", "max-keys": str(PAGE), "encoding-type": "url"}
        query |= {name: value for name, value in (("prefix", prefix), ("start-after", after)) if value}
        while True:
            objects, token = parse_page(await self._patiently(bucket, list(query.items())))
            if objects:
                yield objects
            if not token:
                return
            query["continuation-token"] = token

    async def _patiently(self, bucket: str, query: Sequence[tuple[str, str]]) -> bytes:
        for attempt in range(1, _TRIES):
            try:
                return await self._read(bucket, query)
            except StoreUnavailable:
                await asyncio.sleep(backoff(attempt, first=0.5, most=5, dice=0.5))
        return await self._read(bucket, query)

    async def _read(self, bucket: str, query: Sequence[tuple[str, str]]) -> bytes:
        async with self.get(bucket, query) as response:
            return await response.read()

    @contextlib.asynccontextmanager
    async def get(
        self, bucket: str, query: Sequence[tuple[str, str]], *, silence: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A signed GET of the bucket; the body is the caller's to read, as slowly as it comes.

        Args:
            bucket: Its name.
            query: Names and values, as often as needed.
            silence: For an answer without end: seconds without a byte until it is broken off. Such an answer
                is not to be compressed, since that holds small pieces back.

        Raises:
            StoreUnavailable, StoreError: As :meth:`pages`, also while the body is read.
        """
        where = f"{self._settings.base}/{quote(bucket, safe='')}"
        url = f"{where}?{urlencode(query, quote_via=quote, safe='')}"
        headers = await self._signer.headers(url)
        session = await self._open()
        limits = aiohttp.ClientTimeout(
            total=None, connect=_CONNECT, sock_connect=_CONNECT, sock_read=silence or _SILENCE
        )
        if silence is not None:
            headers["Accept-Encoding"] = "identity"
        try:
            async with session.get(yarl.URL(url, encoded=True), headers=headers, timeout=limits) as response:
                if response.status >= _NO_ANSWER:
                    raise refusal(where, response.status, await response.read())
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise StoreUnavailable(f"{where}: {type(error).__name__}: {error}") from error

    async def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            try:
                tls = await asyncio.to_thread(_tls, self._settings)
            except (OSError, ssl.SSLError) as error:
                raise StoreError(f"ca_file {self._settings.ca_file}: {error}") from error
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls, limit=self._connections), trust_env=True
            )
        return self._session

    async def aclose(self) -> None:
        """Release connections."""
        if self._session is not None:
            await self._session.close()


class S3Store:
    """Leave for the objects of one S3 store. Implements :class:`~dcnios_daemon.core.ports.KeyedStore`.

    Nothing is asked of the store: signing is local. Leave signed with temporary credentials ends with them.
    """

    def __init__(self, settings: S3Settings) -> None:
        self._base = settings.base
        self._region = settings.region
        self._ca_file = settings.ca_file
        self._signer = _Signer(settings)

    async def download(self, subject: str, *, valid_for: float) -> Download:
        """A presigned GET of ``bucket/key``. See :class:`~dcnios_daemon.core.ports.Store`."""
        bucket, _, key = subject.partition("/")
        if not bucket or not key:
            raise StoreError(f"{subject!r} names no object: it should be bucket/key")
        try:
            address = f"{self._base}/{quote(bucket, safe='')}/{quote(key, safe='/~')}"
        except UnicodeEncodeError:
            raise StoreError(f"{subject!r}: S3 keys are UTF-8") from None
        url = await self._signer.presign(address, seconds=_seconds(valid_for))
        return Download(url=url, authorities=await self._authorities())

    async def upload(self, target: str, *, valid_for: float) -> Upload:
        """A POST policy for all keys below ``s3://bucket/prefix/``."""
        bucket, prefix, url = self._place(target)
        fields = await self._signer.post_policy(
            url, bucket=bucket, prefix=prefix, seconds=_seconds(valid_for)
        )
        authorities = await self._authorities()
        return Upload(method="POST", url=url, prefix=prefix, fields=fields, authorities=authorities)

    async def keyed_upload(self, target: str, *, keys: str) -> Upload:
        """See :class:`~dcnios_daemon.core.ports.KeyedStore`."""
        _, prefix, url = self._place(target)
        authorities = await self._authorities()
        return Upload(
            method="S3", url=url, prefix=prefix, region=self._region, keys=keys, authorities=authorities
        )

    def _place(self, target: str) -> tuple[str, str, str]:
        """Bucket, key prefix, and the bucket's URL."""
        scheme, _, place = target.partition("://")
        bucket, _, prefix = place.partition("/")
        if scheme != "s3" or not bucket:
            raise StoreError(f"{target!r}: an S3 store takes s3://bucket/prefix/")
        prefix = prefix if not prefix or prefix.endswith("/") else prefix + "/"
        try:
            url = f"{self._base}/{quote(bucket, safe='')}"
            prefix.encode()
        except UnicodeEncodeError:
            raise StoreError(f"{target!r}: S3 keys are UTF-8") from None
        return bucket, prefix, url

    async def _authorities(self) -> str:
        return await asyncio.to_thread(read_authorities, self._ca_file) if self._ca_file else ""

    async def aclose(self) -> None:
        """Nothing is held."""


def _seconds(valid_for: float) -> int:
    return max(1, min(int(valid_for), LONGEST))
