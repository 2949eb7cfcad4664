"""What a failure of the client library means, and how to say it to somebody who can mend it."""

import ssl

from dcnios_daemon.kafka.login import Unusable
from dcnios_daemon.kafka.settings import KafkaSecurity

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
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
_CLOSED = frozenset({"KafkaConnectionError", "ConnectionResetError"})
_HINTS = {
    "PLAINTEXT": "perhaps they want TLS (protocol SSL) or a login (SASL_PLAINTEXT, SASL_SSL)",
    "SSL": "perhaps they speak no TLS there, or want a login (protocol SASL_SSL)",
    "SASL_PLAINTEXT": "perhaps they want TLS (protocol SASL_SSL)",
    "SASL_SSL": "perhaps they speak no TLS there",
}


def is_refusal(error: BaseException) -> bool:
    """Whether it is a *no* of the brokers, or ours to them, and not only trouble on the way."""
    return type(error).__name__ in _REFUSALS or _of_tls(error) is not None


def reason(error: BaseException, security: KafkaSecurity) -> str:
    """The failure in words, without any credential."""
    if (tls := _of_tls(error)) is not None:
        return _tls_reason(tls, security)
    name = type(error).__name__
    if name == "IllegalSaslStateError":
        return f"they want no login there: correct the port, or protocol {security.protocol}"
    if name == "UnsupportedSaslMechanismError":
        return f"they do not take logins by {security.mechanism} there: correct mechanism"
    text = str(error) or name
    return f"{text}: {_HINTS[security.protocol]}" if name in _CLOSED else text


def _of_tls(error: BaseException | None) -> ssl.SSLError | None:
    """The TLS failure behind it: the library only says that a connection was closed."""
    while error is not None and not isinstance(error, Unusable):
        if isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__
    return None


def _tls_reason(error: ssl.SSLError, security: KafkaSecurity) -> str:
    told = error.reason or str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"their certificate is not trusted: {error.verify_message}"
    if told in _NO_TLS:
        return f"they do not speak TLS there: correct the port, or protocol {security.protocol}"
    if "ALERT" in told and security.client_cert is None:
        return f"they refuse our TLS, perhaps for want of a client certificate (client_cert): {told}"
    if "ALERT" in told:
        return f"they refuse our client certificate {security.client_cert}: {told}"
    return f"TLS fails: {told}"
