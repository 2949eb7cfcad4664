"""What a container sees of its order: environment variables and file names. Pure.

The names that OSCAR scripts expect (``INPUT_FILE_PATH``, ``TMP_OUTPUT_DIR``, ``STORAGE_OBJECT_KEY``,
``EVENT_TIME``, ``EVENT``) mean what they mean there, so that such scripts run unchanged. Every sink that runs
containers takes them from here, so that a laptop and a cluster cannot differ.
"""

import hashlib

from dcnios_daemon.core.clock import iso
from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.ports import Order

EVENT_LIMIT = 64 * 1024
"""Bytes up to which a payload is also the variable ``EVENT``. Linux takes 128 KiB for one variable."""
INPUT = "input"
"""The folder in the work directory that holds the event's object."""
CREDENTIALS = "/dcnios-credentials"
"""The folder in a pod that holds one folder for each Secret with a store's keys, for ``stage-out`` only."""
OUTPUT = "output"
"""The folder in the work directory whose files are staged out."""
NAME_LIMIT = 200
"""Bytes of an input file's name; file systems take 255, scripts add to it."""

_EXTENSION_LIMIT = 32
_NOT_IN_A_NAME = {ord("\0"): "_", ord("/"): "_"} | dict.fromkeys(range(0xD800, 0xE000), "_")


def container_environment(order: Order, *, event_file: str, work_dir: str, stage_in: bool) -> dict[str, str]:
    """The variables that a run gets beside its route's own ``env``.

    A value that no environment can hold (a NUL, no UTF-8, over 64 KiB) is left out rather than changed: the
    payload is always whole in the event file. Of several events (a batch) there is no one object, so that
    ``STORAGE_OBJECT_KEY`` is left out.

    Args:
        order: What is to be run.
        event_file: Where the run finds the payload.
        work_dir: The folder, as the run sees it, that holds ``input`` and ``output``.
        stage_in: Whether the event's object is fetched first.
    """
    first = order.events[0]
    folder = work_dir.rstrip("/")
    may_not_fit = {
        "EVENT": _payload_text(order.payload),
        "INPUT_FILE_PATH": f"{folder}/{INPUT}/{local_name(first.subject)}" if stage_in else None,
        "STORAGE_OBJECT_KEY": _object_key(first) if len(order.events) == 1 else None,
    }
    fitting = {name: value for name, value in may_not_fit.items() if value is not None and _fits(value)}
    return fitting | {
        "DCNIOS_EVENT_FILE": event_file,
        "TMP_OUTPUT_DIR": f"{folder}/{OUTPUT}",
        "EVENT_TIME": iso(first.time),
        "DCNIOS_ROUTE": order.route,
        "DCNIOS_KEY": order.key,
        "DCNIOS_ATTEMPT": str(order.attempt),
    }


def local_name(subject: str) -> str:
    """The file name under which the subject's object is staged in.

    It is the subject's last segment wherever a file system can have that. One that is too long keeps its
    beginning and its extension and gets a hash between them, so that two of them stay two.

    >>> local_name("inbox/2026/a b+c.png"), local_name("inbox/.."), local_name("")
    ('a b+c.png', 'input', 'input')
    """
    name = subject.rstrip("/").rpartition("/")[2].translate(_NOT_IN_A_NAME)
    if name in {"", ".", ".."}:
        return INPUT
    raw = name.encode()
    if len(raw) <= NAME_LIMIT:
        return name
    extension = _extension(name)
    middle = "~" + hashlib.sha256(raw).hexdigest()[:12]
    room = NAME_LIMIT - len(middle) - len(extension.encode())
    return raw[:room].decode(errors="ignore") + middle + extension


def _extension(name: str) -> str:
    """The last suffix, or the last two (``.tar.gz``), as long as that looks like an extension."""
    suffixes = name.split(".")[-2:]
    for count in (2, 1):
        extension = "." + ".".join(suffixes[-count:])
        if name.count(".") >= count and len(extension.encode()) <= _EXTENSION_LIMIT:
            return extension
    return ""


def _object_key(event: Event) -> str | None:
    if event.action is Action.MESSAGE:
        return None
    return event.subject.partition("/")[2] if event.kind == "minio" else event.subject


def _payload_text(payload: bytes) -> str | None:
    if len(payload) > EVENT_LIMIT:
        return None
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def _fits(value: str) -> bool:
    try:
        return "\0" not in value and len(value.encode()) <= EVENT_LIMIT
    except UnicodeEncodeError:
        return False
