"""From what a source says to what the journal can keep: nothing that an upstream writes into a name, a
header or a timestamp may make an append fail, or the source would meet the same event again for ever.
"""

import msgspec

from dcnios_daemon.core.event import Event
from dcnios_daemon.core.ports import Admission
from dcnios_daemon.core.routing import Router

_YEAR_10000 = 253_402_300_800.0
_LARGEST = 2**63


def admit(event: Event, router: Router, *, now: float) -> Admission:
    """The event, fit for the journal, with the routes that it takes.

    Args:
        event: As the source gave it.
        router: Knows the routes.
        now: Seconds since the epoch; stands in for a time that no calendar has.
    """
    fit = event if _is_fit(event) else _made_fit(event, now=now)
    return Admission(fit, router.routes(fit))


def _is_fit(event: Event) -> bool:
    texts = (event.subject, event.content_type, *event.attributes, *event.attributes.values())
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return 0 <= event.time < _YEAR_10000 and (event.size is None or 0 <= event.size < _LARGEST)


def _made_fit(event: Event, *, now: float) -> Event:
    size = event.size if event.size is not None and 0 <= event.size < _LARGEST else None
    return msgspec.structs.replace(
        event,
        subject=encodable(event.subject),
        content_type=encodable(event.content_type),
        attributes={encodable(name): encodable(value) for name, value in event.attributes.items()},
        time=event.time if 0 <= event.time < _YEAR_10000 else now,
        size=size,
    )


def encodable(text: str) -> str:
    """The text, with what cannot be UTF-8 spelled out in backslashes: file names may hold any bytes."""
    return text.encode("utf-8", "backslashreplace").decode()
