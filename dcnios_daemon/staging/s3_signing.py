"""Signature Version 4 for single S3 requests, for a pod that has keys of its own. Pure.

By "Authenticating Requests: Using the Authorization Header" of the S3 API reference. It is here beside
botocore's signer, which the daemon uses, because that one insists on hashing a body itself, all at once, and
costs a pod some 30 MB.
"""

import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

_ALGORITHM = "AWS4-HMAC-SHA256"


class Keys(msgspec.Struct, frozen=True):
    """Who signs."""

    access_key: str
    secret_key: str
    token: str = ""
    """Of temporary keys."""

    def __repr__(self) -> str:
        """Say nothing."""
        return "<Keys>"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed."""

    method: str
    url: str
    """Percent-encoded; its query sorted, each name with a ``=``."""
    digest: str
    """SHA-256 of the body, in hexadecimal digits."""


def signed_headers(request: Request, keys: Keys, *, region: str, now: dt.datetime) -> dict[str, str]:
    """The headers with which the store takes the request as the keys' owner's, for some minutes.

    Args:
        request: What is to be sent.
        keys: Whose it is.
        region: The store's.
        now: In UTC; stores refuse what is a quarter of an hour off.
    """
    parts = urlsplit(request.url)
    time = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": parts.netloc, "x-amz-content-sha256": request.digest, "x-amz-date": time}
    if keys.token:
        headers["x-amz-security-token"] = keys.token
    names = ";".join(headers)
    canonical = "\n".join(
        [
            request.method,
            parts.path or "/",
            parts.query,
            *(f"{name}:{value}" for name, value in headers.items()),
            "",
            names,
            request.digest,
        ]
    )
    scope = f"{time[:8]}/{region}/s3/aws4_request"
    text = "\n".join([_ALGORITHM, time, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = _sign(text, keys, scope).hex()
    credential = f"Credential={keys.access_key}/{scope}"
    return {
        **_titled(headers),
        "Authorization": f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}",
    }


def _sign(text: str, keys: Keys, scope: str) -> bytes:
    key = f"AWS4{keys.secret_key}".encode()
    for word in (*scope.split("/"), text):
        key = hmac.digest(key, word.encode(), "sha256")
    return key


def _titled(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.title(): value for name, value in headers.items()}
