"""Where an S3 store is, who we are there, and our signature (Version 4) under what we ask.

Signing is done by botocore's own signer classes, without its service client: that client costs some 25 MB and
most of a millisecond per presigned URL, the signer a tenth of that. Keys are read anew while we run, so that
rotated ones are picked up: files every second, the AWS chain by its own rules, and both at once when the
store no longer knows what we have.
"""

import asyncio
import datetime as dt
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from pydantic import model_validator

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.core.settings import Secret, Settings

REREAD = 1.0
"""Seconds for which keys from files are used without a look at the files."""
RENEW = 60.0
"""Seconds between requests for a new session while the old one ends; botocore begins a quarter of an hour
before, and sessions may be no longer than that."""


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


class Keys(msgspec.Struct, frozen=True):
    """Who signs."""

    access_key: str
    secret_key: str
    token: str | None = None
    """Of temporary keys."""

    def __repr__(self) -> str:
        """Say nothing."""
        return "<Keys>"


class Unsigned(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is to be signed."""

    method: str
    url: str
    body: bytes
    headers: Mapping[str, str]


class Identity:
    """Who we are. Files and the AWS chain, which may ask a server, are read off the event loop."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._kept: Keys | None = None
        self._read_at = 0.0
        self._chain: Any = None
        self._reading = asyncio.Lock()

    async def keys(self) -> Keys:
        """What to sign with now.

        Raises:
            StoreUnavailable: It cannot be read now.
            StoreError: There is none.
        """
        if self._kept is not None and not self._is_due():
            return self._kept
        async with self._reading:
            if self._kept is None or self._is_due():
                self._kept = await asyncio.to_thread(self._read)
                self._read_at = time.monotonic()
            return self._kept

    async def renew(self, used: Keys) -> bool:
        """The store does not know the keys that were used: look for others now. Says whether there are."""
        if self._kept == used:  # else another call was quicker
            self._kept, self._chain = None, None
        return await self.keys() != used

    def lasts_until(self) -> float | None:
        """When our temporary keys, as used last, expire, in seconds since the epoch; None: never, or the
        AWS chain does not say."""
        expires: dt.datetime | None = getattr(self._chain, "_expiry_time", None)
        return expires.timestamp() if expires else None

    def _is_due(self) -> bool:
        age = time.monotonic() - self._read_at
        if self._settings.access_key is not None:
            return age >= REREAD
        is_ending = getattr(self._chain, "refresh_needed", None)
        return age >= RENEW and is_ending is not None and is_ending()

    def _read(self) -> Keys:
        access, secret = self._settings.access_key, self._settings.secret_key
        if access is None or secret is None:
            return self._read_chain()
        try:
            return Keys(access.reveal(), secret.reveal())
        except (OSError, UnicodeDecodeError) as error:
            raise StoreUnavailable(f"S3 credentials cannot be read: {error}") from error

    def _read_chain(self) -> Keys:
        from botocore import exceptions, session  # noqa: PLC0415 - for daemons that have no keys of their own

        try:
            if self._chain is None:
                self._chain = session.get_session().get_credentials()
            if self._chain is None:
                raise StoreError(
                    "no S3 credentials: give access_key and secret_key, or what the AWS chain reads"
                )
            frozen = self._chain.get_frozen_credentials()
        except (exceptions.BotoCoreError, exceptions.ClientError, OSError) as error:
            raise StoreUnavailable(f"the AWS chain gives no credentials: {error}") from error
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)


@functools.cache
def _botocore() -> tuple[Any, Any]:
    """The signer classes, imported when first needed: a daemon without S3 does not pay for them."""
    from botocore import auth, awsrequest  # noqa: PLC0415 - see above

    return auth, awsrequest


class Signer:
    """Signs for one store, its heavy import done off the event loop."""

    def __init__(self, settings: S3Settings) -> None:
        self._region = settings.region
        self.identity = Identity(settings)

    async def presign(self, url: str, *, seconds: int) -> str:
        """The URL, good for a GET by anyone for so long."""
        auth, awsrequest = await self._libraries()
        request = awsrequest.AWSRequest(method="GET", url=url)
        keys = await self.identity.keys()
        auth.S3SigV4QueryAuth(keys, "s3", self._region, expires=seconds).add_auth(request)
        return str(request.url)

    async def post_policy(self, url: str, *, bucket: str, prefix: str, seconds: int) -> dict[str, str]:
        """The form fields with which anyone may, for so long, post objects whose keys begin so."""
        auth, awsrequest = await self._libraries()
        request = awsrequest.AWSRequest(method="POST", url=url)
        keys = await self.identity.keys()
        expiration = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        fields: dict[str, str] = {}
        request.context["s3-presign-post-fields"] = fields
        request.context["s3-presign-post-policy"] = {
            "expiration": expiration.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "conditions": [{"bucket": bucket}, ["starts-with", "$key", prefix]],
        }
        auth.S3SigV4PostAuth(keys, "s3", self._region).add_auth(request)
        return fields

    async def headers(self, unsigned: Unsigned, keys: Keys) -> dict[str, str]:
        """Its headers and those that make the request the keys' owner's."""
        auth, awsrequest = await self._libraries()
        request = awsrequest.AWSRequest(
            method=unsigned.method,
            url=unsigned.url,
            data=unsigned.body,
            headers=dict(unsigned.headers),
        )
        auth.S3SigV4Auth(keys, "s3", self._region).add_auth(request)
        return dict(request.headers.items())

    @staticmethod
    async def _libraries() -> tuple[Any, Any]:
        if _botocore.cache_info().currsize == 0:
            await asyncio.to_thread(_botocore)
        return _botocore()
