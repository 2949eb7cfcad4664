"""What OSCAR's supervisor takes an event for, and of which it dies. Pure.

faas-supervisor asks, in this order (``faassupervisor/events/__init__.py``, 2.0.1), whether it is from an API
gateway, of dCache, of Rucio, an envelope around another event, or of a store. All else it saves as the input
file. It looks without care: a field that is not what it expects ends it, and the job with it.
"""

import base64
import binascii
import enum
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Document = Mapping[str, Any]
_DEEPEST = 5
"""Envelopes within envelopes that are opened."""
_QUERY_NAME = re.compile(r"\w+", re.ASCII)


class Shape(enum.StrEnum):
    """What it takes an event for."""

    API_GATEWAY = "API gateway"
    DCACHE = "dCache"
    RUCIO = "Rucio"
    ENVELOPE = "envelope"
    STORE = "store"
    UNKNOWN = "unknown"
    """Saved as the input file."""


def shape(document: object, *, deep: int = 0) -> Shape | None:
    """What it takes it for; None if it would, or might, die of it or make garbage of it.

    Args:
        document: Parsed JSON.
        deep: How many envelopes it is in.
    """
    if not isinstance(document, dict) or not _records_can_be_looked_at(document):
        return None
    if "httpMethod" in document:
        fits = _query_fits(document) and _inner_fits(document.get("body") or "", deep)
        return Shape.API_GATEWAY if fits else None
    if "event" in document and "subscription" in document:
        inner = document["event"]
        fits = _is_text(inner, "name") and _records_can_be_looked_at(inner)
        return Shape.DCACHE if fits else None
    if "event_type" in document:
        payload = document.get("payload")
        if not isinstance(payload, dict):
            return None
        if "scope" in payload:
            fits = _is_text(payload, "scope") and _is_text(payload, "name")
            return Shape.RUCIO if fits and not document.get("event") else None
    if "event" in document:
        return Shape.ENVELOPE if _inner_fits(document["event"], deep) else None
    return _by_record(document)


def _by_record(document: Document) -> Shape | None:
    record = (document.get("Records") or [{}])[0]
    source = record.get("eventSource")
    fits = _OF_STORES.get(source) if isinstance(source, str) else None
    if fits is None:
        return Shape.UNKNOWN
    return Shape.STORE if fits(document, record) else None


def _records_can_be_looked_at(document: Document) -> bool:
    records = document.get("Records")
    return not records or (isinstance(records, list) and isinstance(records[0], dict))


def _query_fits(document: Document) -> bool:
    """Each parameter becomes a variable of the environment."""
    query = document.get("queryStringParameters") or {}
    return isinstance(query, dict) and all(
        _QUERY_NAME.fullmatch(name) and (not value or (isinstance(value, str) and "\0" not in value))
        for name, value in query.items()
    )


def _inner_fits(inner: object, deep: int) -> bool:
    """What is in an envelope is looked at anew: text as JSON, and what is none as base64."""
    if deep >= _DEEPEST:
        return False
    if not isinstance(inner, str):
        return shape(inner, deep=deep + 1) is not None
    try:
        return shape(json.loads(inner), deep=deep + 1) is not None
    except ValueError:
        return _is_base64(inner)
    except RecursionError:
        return False


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_text(block: object, key: str) -> bool:
    """Whether there is such a text, which can be a variable of the environment or part of a path."""
    value = block.get(key) if isinstance(block, dict) else None
    return isinstance(value, str) and bool(value) and "\0" not in value


def _of_s3(_document: Document, record: Document) -> bool:
    s3 = record.get("s3")
    if not isinstance(s3, dict):
        return False
    bucket, thing = s3.get("bucket"), s3.get("object")
    return (
        _is_text(bucket, "arn")
        and _is_text(bucket, "name")
        and _is_text(thing, "key")
        and _is_text(record, "eventTime")
    )


def _of_onedata(document: Document, record: Document) -> bool:
    return _is_text(document, "Key") and _is_text(record, "objectKey") and _is_text(record, "eventTime")


def _of_rucio(document: Document, _record: Document) -> bool:
    payload = document.get("payload")
    return _is_text(payload, "name") and _is_text(payload, "scope")


_OF_STORES: Mapping[str, Callable[[Document, Document], bool]] = {
    "aws:s3": _of_s3,
    "minio:s3": _of_s3,
    "OneTrigger": _of_onedata,
    "rucio": _of_rucio,
}
"""By ``Records[0].eventSource``; other records are never looked at."""
