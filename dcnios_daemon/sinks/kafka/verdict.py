"""What a *no* to a record means for its order. Pure, by the names that the client library gives to errors.

What Kafka calls retriable the library tries again by itself, for ever, and so it is waited for here. Of the
rest, what is wrong with the record is its end; what is wrong with rights, topic or brokers is for people to
mend, and the order waits for them.

https://kafka.apache.org/protocol.html#protocol_error_codes
"""

import enum

TOO_LARGE = frozenset({"MessageSizeTooLargeError", "RecordListTooLargeError", "RecordTooLargeError"})
REFUSALS = TOO_LARGE | {"InvalidRecordError", "InvalidTimestampError", "PolicyViolationError"}
GAPS = frozenset(
    {
        "InvalidProducerEpoch",
        "InvalidProducerIdMapping",
        "OutOfOrderSequenceNumber",
        "ProducerFenced",
        "UnknownProducerId",
    }
)


class Meaning(enum.Enum):
    """What to do about it."""

    REFUSED = enum.auto()
    """This record, or one that travelled with it, will never be taken."""
    GAP = enum.auto()
    """The producer's numbers do not fit: a record before was refused, or they are forgotten. Nothing was
    written; a new producer may write it at once."""
    WAIT = enum.auto()
    """Later, perhaps."""


def meaning(error: BaseException) -> Meaning:
    """What the library's error means."""
    kind = type(error).__name__
    if kind in REFUSALS:
        return Meaning.REFUSED
    return Meaning.GAP if kind in GAPS else Meaning.WAIT


def is_too_large(error: BaseException) -> bool:
    """Whether it is the size that they refuse: perhaps only of all that travelled together."""
    return type(error).__name__ in TOO_LARGE


def words(error: BaseException) -> str:
    """The error, and what brokers mean by it."""
    description: str = getattr(error, "description", "")
    return f"{error}: {description}" if description else str(error)
