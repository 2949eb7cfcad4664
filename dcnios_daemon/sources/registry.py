"""Which kinds of source there are. A new one is a module beside this and one line here."""

from collections.abc import Callable
from typing import Any

import msgspec

from dcnios_daemon.core.ports import Source, Store
from dcnios_daemon.core.settings import Settings


class SourceKind(msgspec.Struct, frozen=True, kw_only=True):
    """All that the daemon knows of a kind of source."""

    settings: type[Settings]
    """Its block in the configuration, without ``kind``."""
    build: Callable[..., Source]
    """``build(name=…, settings=…, instance=…)`` makes one; called again for each connection."""
    store: Callable[[Any], Store] | None = None
    """From its settings: the store behind it, where staging can read and write."""


KINDS: dict[str, SourceKind] = {}
