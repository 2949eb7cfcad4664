"""S3 stores (MinIO, AWS, Ceph): listing, and leave for single objects and prefixes.

What is asked of a store is one call each, without botocore's service client: see ``s3_identity``. Addresses
are path-style, which MinIO, Ceph and AWS all take.
"""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from urllib.parse import quote, urlencode

import aiohttp

from dcnios_daemon.core.clock import Clock, SystemClock
from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.core.patience import pause_after
from dcnios_daemon.core.ports import Download, Upload
from dcnios_daemon.staging.s3_answers import S3Object, keeps_versions, parse_page, parse_versions
from dcnios_daemon.staging.s3_calls import Call, SignedCalls
from dcnios_daemon.staging.s3_identity import S3Settings, Signer
from dcnios_daemon.staging.transfer import read_authorities
from dcnios_daemon.telemetry.events import LeaveIsShort

__all__ = ["S3Client", "S3Settings", "S3Store"]

LONGEST = 7 * 86400
"""Seconds; AWS and MinIO refuse a presigned URL that is valid for longer."""
PAGE = 1000
_TRIES = 4
_CONNECTIONS = 100


class S3Client:
    """Reads from an S3 store.

    Args:
        settings: Which, and as whom.
        connections: How many at once, at most; 0: as many as are asked for.
    """

    def __init__(self, settings: S3Settings, *, connections: int = _CONNECTIONS) -> None:
        self._base = settings.base
        self._calls = SignedCalls(settings, connections=connections)

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

    async def versions(
        self, bucket: str, *, prefix: str = "", after: str = ""
    ) -> AsyncGenerator[Sequence[S3Object], None]:
        """Every version and delete marker under the prefix, in key order, up to 1,000 at a time. The versions
        of a key may be spread over pages.

        Args and errors as :meth:`pages`.
        """
        query = {"versions": "", "max-keys": str(PAGE), "encoding-type": "url"}
        query |= {name: value for name, value in (("prefix", prefix), ("key-marker", after)) if value}
        while True:
            objects, onward = parse_versions(await self._patiently(bucket, list(query.items())))
            if objects:
                yield objects
            if onward is None:
                return
            query["key-marker"], query["version-id-marker"] = onward

    async def keeps_versions(self, bucket: str) -> bool:
        """Whether there may be more of an object than its latest version.

        Raises:
            StoreUnavailable, StoreError: As :meth:`pages`.
        """
        return keeps_versions(await self._patiently(bucket, [("versioning", "")]))

    async def _patiently(self, bucket: str, query: Sequence[tuple[str, str]]) -> bytes:
        for attempt in range(1, _TRIES):
            try:
                return await self.read(bucket, query)
            except StoreUnavailable:
                await asyncio.sleep(pause_after(attempt, first=0.5, most=5))
        return await self.read(bucket, query)

    @contextlib.asynccontextmanager
    async def get(
        self, bucket: str, query: Sequence[tuple[str, str]], *, silence: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A signed GET of the bucket; the body is the caller's to read, as slowly as it comes.

        Args:
            bucket: Its name; empty: of the store itself.
            query: Names and values, as often as needed.
            silence: See :class:`~dcnios_daemon.staging.s3_calls.Call`.

        Raises:
            StoreUnavailable, StoreError: As :meth:`pages`, also while the body is read.
        """
        where, url = self._address(bucket, query)
        async with self._calls.open(Call(url=url, where=where, silence=silence)) as answer:
            yield answer

    async def read(self, path: str, query: Sequence[tuple[str, str]] = ()) -> bytes:
        """The whole answer to a GET of the bucket, or of what else the store has at a path.

        Raises:
            StoreUnavailable, StoreError: As :meth:`pages`.
        """
        async with self.get(path, query) as answer:
            return await answer.read()

    async def put(self, bucket: str, query: Sequence[tuple[str, str]], body: bytes) -> None:
        """Set something about the bucket.

        Raises:
            StoreUnavailable, StoreError: As :meth:`pages`.
        """
        where, url = self._address(bucket, query)
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        headers = {"Content-MD5": digest, "Content-Type": "application/xml"}
        call = Call(method="PUT", url=url, where=where, body=body, headers=headers)
        async with self._calls.open(call) as answer:
            await answer.read()

    def _address(self, path: str, query: Sequence[tuple[str, str]]) -> tuple[str, str]:
        where = f"{self._base}/{quote(path, safe='/')}"
        return where, f"{where}?{urlencode(query, quote_via=quote, safe='')}" if query else where

    async def aclose(self) -> None:
        """Release connections."""
        await self._calls.aclose()


class S3Store:
    """Leave for the objects of one S3 store. Implements :class:`~dcnios_daemon.core.ports.KeyedStore`.

    Nothing is asked of the store: signing is local. Leave signed with temporary credentials ends with them.

    Args:
        settings: Which store, and as whom.
        clock: Tells the time.
    """

    def __init__(self, settings: S3Settings, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._told = False
        self._base = settings.base
        self._region = settings.region
        self._ca_file = settings.ca_file
        self._signer = Signer(settings)

    async def download(self, subject: str, *, valid_for: float) -> Download:
        """A presigned GET of ``bucket/key``. See :class:`~dcnios_daemon.core.ports.Store`."""
        bucket, _, key = subject.partition("/")
        if not bucket or not key:
            raise StoreError(f"{subject!r} names no object: it should be bucket/key")
        try:
            address = f"{self._base}/{quote(bucket, safe='')}/{quote(key, safe='/~')}"
        except UnicodeEncodeError:
            raise StoreError(f"{subject!r}: S3 keys are UTF-8") from None
        url = await self._signer.presign(address, seconds=await self._seconds(valid_for))
        return Download(url=url, authorities=await self._authorities())

    async def upload(self, target: str, *, valid_for: float) -> Upload:
        """A POST policy for all keys below ``s3://bucket/prefix/``."""
        bucket, prefix, url = self._place(target)
        fields = await self._signer.post_policy(
            url, bucket=bucket, prefix=prefix, seconds=await self._seconds(valid_for)
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

    async def _seconds(self, valid_for: float) -> int:
        """How long leave is to last: no longer than what it is signed with. That it is shorter than asked for
        is said once."""
        seconds = max(1, min(int(valid_for), LONGEST))
        keys = await self._signer.identity.keys()
        if keys.token is None:
            return seconds
        ends = self._signer.identity.lasts_until()
        left = seconds if ends is None else max(1, int(ends - self._clock.now()))
        if not self._told and (ends is None or left < seconds):
            self._told = True
            LeaveIsShort(store=self._base, asked=seconds, left=None if ends is None else left).emit()
        return min(seconds, left)

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
