r"""An order as the body of ``POST /job``: what comes out at the supervisor is what went in. Pure.

On the way lies a shell. OSCAR runs ``echo $EVENT | supervisor`` (``pkg/handlers/job.go``), without quotes:
spaces are joined, ``*`` may become the names of files, and dash makes a line's end of ``\n``, which is no
JSON any more. So a JSON object is written in an equal form in which a shell finds nothing to do, and whatever
else there is goes as base64, which the supervisor turns back into the input file, byte for byte.
"""

import base64
import json
import re
from typing import Any

from dcnios_daemon.core.errors import OrderRefused
from dcnios_daemon.core.ports import Order
from dcnios_daemon.sinks.oscar.recognition import shape

LARGEST = 131_065
"""Bytes: Linux takes 128 KiB for a variable with its name (``MAX_ARG_STRLEN``); beyond that the job's pod
cannot start."""
_OSCARS_OWN = "minio"
"""The Secret for whoever owns a service; that it lacks is no event's doing."""
_FOR_A_SHELL = re.compile(r"\\(?:u[0-9a-f]{4}|.)|[ *?]")
_ESCAPES = {"\\\\": "\\", "\\b": "\b", "\\f": "\f", "\\n": "\n", "\\r": "\r", "\\t": "\t"}


def body_of(order: Order) -> bytes:
    """What is POSTed for an order.

    Raises:
        OrderRefused: It is more than a job of OSCAR can be handed.
    """
    document = _parsed(order.payload)
    made = _in_base64(order.payload) if shape(document) is None else _for_a_shell(document)
    if len(made) > LARGEST:
        raise OrderRefused(
            f"the event has {len(made):,} bytes as OSCAR takes it, and {LARGEST:,} are the most: "
            "send payload: reference, or run it here"
        )
    return made.encode()


def user_of(order: Order) -> str:
    """The user of MinIO who made the event, as OSCAR reads it; empty if it says none, or OSCAR's own."""
    document = _parsed(order.payload)
    records = document.get("Records") if isinstance(document, dict) else None
    record = records[0] if isinstance(records, list) and records else None
    asked = record.get("requestParameters") if isinstance(record, dict) else None
    user = asked.get("principalId") if isinstance(asked, dict) else None
    return user if isinstance(user, str) and user != _OSCARS_OWN else ""


def _parsed(payload: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


def _for_a_shell(document: object) -> str:
    r"""The same JSON, of printable ASCII without spaces and without escapes but ``\u`` and ``\"``."""
    return _FOR_A_SHELL.sub(_spelled, json.dumps(document, separators=(",", ":")))


def _spelled(found: re.Match[str]) -> str:
    text = found.group()
    if len(text) > 2 or text == '\\"':  # noqa: PLR2004 - an escape by number
        return text
    return f"\\u{ord(_ESCAPES.get(text, text)):04x}"


def _in_base64(payload: bytes) -> str:
    """Some of it could be JSON, such as ``1234`` or ``true``: a dot, which is skipped, makes it none."""
    text = base64.b64encode(payload).decode()
    try:
        json.loads(text)
    except ValueError:
        return text
    return f"{text}."
