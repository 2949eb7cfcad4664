"""Names that must come out the same in every life of the daemon: event keys and order names.

Everything that keeps an event from running twice rests on these functions, so they may never
change for a given input. The parts are hashed with their lengths: ("a", "bc") and ("ab", "c") differ.
"""

import hashlib

KEY_HEX = 40
ORDER_HEX = 20
_ROUTE_CUT = 31


def _framed(*parts: str | bytes) -> bytes:
    framed = bytearray()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        framed += len(raw).to_bytes(8, "big")
        framed += raw
    return bytes(framed)


def _digest(*parts: str | bytes) -> str:
    return hashlib.sha256(_framed(*parts)).hexdigest()


def event_key(source: str, *identity: str | bytes | int) -> str:
    """The identity of a happening: 40 hex digits over the source's name and the source's own identity.

    Args:
        source: The source's name in the configuration.
        identity: What makes the happening itself at its origin (topic, partition, offset, ...).
    """
    return _digest(source, *[str(part) if isinstance(part, int) else part for part in identity])[:KEY_HEX]


class KeyMaker:
    """Gives :func:`event_key` for many happenings whose identities begin alike, at half the cost."""

    def __init__(self, source: str, *beginning: str | bytes | int) -> None:
        parts = [str(part) if isinstance(part, int) else part for part in beginning]
        self._begun = hashlib.sha256(_framed(source, *parts))

    def key(self, *rest: int) -> str:
        """The key of the happening whose identity ends so."""
        digest = self._begun.copy()
        for number in rest:
            text = b"%d" % number
            digest.update(len(text).to_bytes(8, "big") + text)
        return digest.hexdigest()[:KEY_HEX]


def order_name(route: str, key: str, attempt: int) -> str:
    """The name of the object that an attempt makes, a DNS label of at most 52 characters.

    The same (route, key, attempt) always gives the same name, so that creating twice is creating once.
    """
    return f"{route[:_ROUTE_CUT].rstrip('-')}-{_digest(route, key, str(attempt))[:ORDER_HEX]}"


def batch_key(keys: tuple[str, ...]) -> str:
    """The key of an order for several events. Of a single event it is that event's own key."""
    return keys[0] if len(keys) == 1 else _digest(*keys)[:KEY_HEX]
