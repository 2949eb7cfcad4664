"""The client library, loaded at its first use, its log shut and faults mended; and what it cannot ask."""

import asyncio
import functools
import logging
from typing import Any


@functools.cache
def library() -> Any:  # noqa: ANN401 - untyped
    """The client library with the parts that we use: a daemon without Kafka does not carry it.

    Its log is shut, since it writes errors for every step of a reconnect, which we report once. The first
    call takes a good part of a second: see :func:`load`.
    """
    import aiokafka.abc  # noqa: PLC0415
    import aiokafka.conn  # noqa: PLC0415
    import aiokafka.errors  # noqa: PLC0415
    import aiokafka.protocol.group  # noqa: PLC0415
    import aiokafka.protocol.metadata  # noqa: PLC0415

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)
    aiokafka.conn.OAuthAuthenticator = _strict(aiokafka)
    _teach(aiokafka.errors)
    return aiokafka


async def load() -> Any:  # noqa: ANN401 - untyped
    """:func:`library`, without holding up the loop."""
    return await asyncio.to_thread(library)


def _strict(aiokafka: Any) -> Any:  # noqa: ANN401 - untyped
    """A login by token that hears a broker's *no*.

    A broker says it in an answer that is no error yet (RFC 7628, 3.2.2). The library takes it for a yes, and
    the error that then comes for an answer to its next question: a cluster without brokers or topics.
    """

    class StrictAuthenticator(aiokafka.conn.OAuthAuthenticator):  # type: ignore[misc]
        async def step(self, answer: bytes | None) -> Any:  # noqa: ANN401 - untyped
            if answer:
                text = f"the token is refused: {answer.decode(errors='replace')}"
                raise aiokafka.errors.AuthenticationFailedError(text)
            return await super().step(answer)

    return StrictAuthenticator


def _teach(errors: Any) -> None:  # noqa: ANN401 - untyped
    """Answers to a record that it has no name for, and would call *unknown*, which says nothing.

    https://kafka.apache.org/protocol.html#protocol_error_codes
    """

    class InvalidRecordError(errors.BrokerResponseError):  # type: ignore[misc]
        errno = 87
        message = "INVALID_RECORD"
        description = "The broker does not take the record as it is."

    class UnsupportedCompressionTypeError(errors.BrokerResponseError):  # type: ignore[misc]
        errno = 76
        message = "UNSUPPORTED_COMPRESSION_TYPE"
        description = "The broker does not take this compression."

    for error in (InvalidRecordError, UnsupportedCompressionTypeError):
        errors.kafka_errors.setdefault(error.errno, error)


LIES = (ValueError, LookupError, AssertionError)
"""What the library raises where a broker does not follow the protocol: it does not expect an impostor."""


async def knock(address: str, options: dict[str, Any]) -> None:
    """Log in to the broker at ``host:port`` and ask it for nothing, to hear what it has against us.

    Raises the library's errors, OSError among them.
    """
    host, _, port = address.rpartition(":")
    aiokafka = library()
    errors = aiokafka.errors
    try:
        connection = await aiokafka.conn.create_conn(host.strip("[]"), int(port), **options)
    except LIES as error:
        text = f"the broker does not log us in as it should: {error}"
        raise errors.AuthenticationFailedError(text) from error
    try:
        await connection.send(aiokafka.protocol.metadata.MetadataRequest([]))
    except errors.KafkaConnectionError as error:
        if "sasl_oauth_token_provider" not in options:
            raise
        # Within the clocks' tolerance a broker still takes it, for a session that has ended already.
        raise errors.AuthenticationFailedError("the token is taken, but has expired") from error
    finally:
        connection.close()
