"""What the journal writes down, as bytes and small numbers. Shared by both journals; knows no database."""

import enum
import json
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.ports import Outcome, State

OVERHEAD = 256
"""Bytes counted per event on top of its own: rows, keys and index entries."""
_NOTE_LENGTH = 1000
_LOG_LENGTH = 4096
_ENCODER = msgspec.json.Encoder()


class Code(enum.IntEnum):
    """States as stored. A queued delivery that must wait for its time has a code of its own, so that
    the queue itself never has to step over it."""

    QUEUED = 0
    WAITING = 1
    SUBMITTING = 2
    RUNNING = 3
    DEAD = 4
    SUCCEEDED = 5
    DROPPED = 6
    UNROUTED = 7


IN_FLIGHT = frozenset({Code.SUBMITTING, Code.RUNNING})
QUEUED = frozenset({Code.QUEUED, Code.WAITING})
SETTLED = frozenset({Code.SUCCEEDED, Code.DROPPED, Code.UNROUTED})

STATES: Mapping[int, State] = {
    code: State.QUEUED if code is Code.WAITING else State[code.name] for code in Code
}
CODES: Mapping[State, tuple[Code, ...]] = {
    state: tuple(code for code in Code if STATES[code] is state) for state in State
}


class Head(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An event without key, source and data."""

    kind: str
    subject: str
    action: Action
    time: float
    size: int | None
    content_type: str
    attributes: Mapping[str, str]


def head_of(event: Event) -> Head:
    """What of an event goes into its head."""
    return Head(
        event.kind, event.subject, event.action, event.time, event.size, event.content_type, event.attributes
    )


def event_of(head: Head, *, key: str, source: str, data: bytes) -> Event:
    """The event again."""
    return Event(
        key=key,
        source=source,
        kind=head.kind,
        subject=head.subject,
        action=head.action,
        time=head.time,
        size=head.size,
        data=data,
        content_type=head.content_type,
        attributes=head.attributes,
    )


def weight(head: bytes, data: bytes) -> int:
    """Bytes that an event counts against the journal's bound."""
    return OVERHEAD + len(head) + len(data)


T = TypeVar("T")


def pack(record: msgspec.Struct) -> bytes:
    """JSON. Text that is no valid Unicode (file names may be anything) is kept, as escapes."""
    try:
        return _ENCODER.encode(record)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(record)).encode()


def unpack(kind: type[T], raw: bytes | str) -> T:
    """The record again.

    Raises:
        ValueError: It is none (also msgspec's errors, which are ValueErrors).
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError:
        return msgspec.convert(json.loads(raw), type=kind)


def clean(text: str) -> str:
    """Text of a neighbour, cut and made valid."""
    return text[:_NOTE_LENGTH].encode("utf-8", "replace").decode()


def shortened(outcome: Outcome) -> Outcome:
    """An outcome as it is kept: neighbours may say anything at any length, long words are cut."""
    words = (outcome.reason, outcome.message, outcome.pod, outcome.node)
    if max(map(len, words)) <= _NOTE_LENGTH and len(outcome.log_tail) <= _LOG_LENGTH:
        return outcome
    return msgspec.structs.replace(
        outcome,
        reason=outcome.reason[:_NOTE_LENGTH],
        message=outcome.message[:_LOG_LENGTH],
        pod=outcome.pod[:_NOTE_LENGTH],
        node=outcome.node[:_NOTE_LENGTH],
        log_tail=outcome.log_tail[-_LOG_LENGTH:],
    )


def why(outcome: Outcome) -> str:
    """One line on why an attempt did not succeed."""
    words = (outcome.failure, outcome.reason, outcome.message)
    return clean(": ".join(str(word) for word in words if word))
