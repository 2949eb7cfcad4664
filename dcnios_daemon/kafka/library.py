"""The client library: loaded at its first use, with its log shut, and what its failures mean."""

import asyncio
import logging
from typing import Any

_REFUSALS = frozenset(
    {
        "AuthenticationFailedError",
        "AuthenticationMethodNotSupported",
        "ClusterAuthorizationFailedError",
        "GroupAuthorizationFailedError",
        "IllegalSaslStateError",
        "InconsistentGroupProtocolError",
        "InvalidGroupIdError",
        "InvalidTopicError",
        "SaslAuthenticationFailed",
        "TopicAuthorizationFailedError",
        "TransactionalIdAuthorizationFailed",
        "UnsupportedCodecError",
        "UnsupportedSaslMechanismError",
    }
)
"""The library's names for *no*: trying again soon does not help."""


def library() -> Any:  # noqa: ANN401 - untyped
    """The client library with the parts that we use: a daemon without Kafka does not carry it.

    Its log is shut, since it writes errors for every step of a reconnect, which we report once. The first
    call takes a good part of a second: see :func:`load`.
    """
    import aiokafka.conn  # noqa: PLC0415
    import aiokafka.errors  # noqa: PLC0415
    import aiokafka.protocol.group  # noqa: PLC0415

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    return aiokafka


async def load() -> Any:  # noqa: ANN401 - untyped
    """:func:`library`, without holding up the loop."""
    return await asyncio.to_thread(library)


def is_refusal(error: BaseException) -> bool:
    """Whether an error of the library is a *no* of the brokers, and not only trouble on the way."""
    return type(error).__name__ in _REFUSALS
