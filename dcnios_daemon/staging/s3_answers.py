"""What S3 answers: pages of a listing, and refusals with their code and words. Pure."""

import datetime as dt
import xml.etree.ElementTree as ET
from urllib.parse import unquote_plus

import msgspec

from dcnios_daemon.core.errors import StoreError, StoreUnavailable

_PLEASE_WAIT = frozenset({408, 429, 500, 502, 503, 504})


class Refused(StoreError):
    """The store says no."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
        """Its word for why: ``NoSuchBucket``, ``AccessDenied``; empty if it has none."""


class S3Object(msgspec.Struct, frozen=True):
    """One object of a listing."""

    key: str
    size: int
    etag: str
    """Without its quotes."""
    modified: float
    """Seconds since the epoch."""
    version: str = ""
    """Where versions are listed. ``null``: made while the bucket kept none."""
    is_latest: bool = True
    is_marker: bool = False
    """Whether it only says that the object was deleted."""


def _parse(body: bytes) -> ET.Element:
    try:
        root = ET.fromstring(body)  # noqa: S314 - the operator's own store; expat bounds expansion
    except ET.ParseError as error:
        raise StoreUnavailable(f"the listing is no XML: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def parse_page(body: bytes) -> tuple[list[S3Object], str]:
    """The objects of a ListObjectsV2 answer, and the token of the next page (empty: there is none)."""
    root = _parse(body)
    encoded = root.findtext("EncodingType") == "url"
    objects = [_parse_object(entry, encoded=encoded) for entry in root.findall("Contents")]
    token = root.findtext("NextContinuationToken") or ""
    if root.findtext("IsTruncated") != "true":
        return objects, ""
    if not token:
        raise StoreError("the listing says that there is more, but not how to get it")
    return objects, token


def parse_versions(body: bytes) -> tuple[list[S3Object], tuple[str, str] | None]:
    """The versions and delete markers of a ListObjectVersions answer, and the key and the version that the
    next page comes after (None: there is none)."""
    root = _parse(body)
    encoded = root.findtext("EncodingType") == "url"
    entries = [entry for entry in root if entry.tag in {"Version", "DeleteMarker"}]
    objects = [_parse_object(entry, encoded=encoded) for entry in entries]
    if root.findtext("IsTruncated") != "true":
        return objects, None
    key = root.findtext("NextKeyMarker") or ""
    if not key:
        raise StoreError("the listing says that there is more, but not how to get it")
    return objects, (unquote_plus(key) if encoded else key, root.findtext("NextVersionIdMarker") or "")


def keeps_versions(body: bytes) -> bool:
    """What a GetBucketVersioning answer says. A bucket that keeps no more of them may still have some."""
    return (_parse(body).findtext("Status") or "") in {"Enabled", "Suspended"}


def _parse_object(entry: ET.Element, *, encoded: bool) -> S3Object:
    key = entry.findtext("Key") or ""
    try:
        return S3Object(
            version=entry.findtext("VersionId") or "",
            is_latest=entry.findtext("IsLatest") != "false",
            is_marker=entry.tag == "DeleteMarker",
            key=unquote_plus(key, errors="strict") if encoded else key,
            size=int(entry.findtext("Size") or 0),
            etag=(entry.findtext("ETag") or "").strip('"'),
            modified=dt.datetime.fromisoformat(entry.findtext("LastModified") or "").timestamp(),
        )
    except ValueError as error:
        raise StoreError(f"the listing's entry for {key!r} cannot be read: {error}") from error


def refusal(where: str, status: int, body: bytes) -> StoreError:
    """Our error for an answer that is none, with the store's own words."""
    try:
        root = ET.fromstring(body)  # noqa: S314 - the operator's own store; expat bounds expansion
        code = root.findtext("Code") or ""
        words = f"{code}: {root.findtext('Message')}"
    except ET.ParseError:
        code, words = "", body[:200].decode(errors="replace").strip()
    said = f"{where}: {status} {words}".rstrip()
    return StoreUnavailable(said) if status in _PLEASE_WAIT else Refused(said, code=code)
