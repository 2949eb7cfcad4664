"""The blocks that come in kinds (``sources.*``, ``routes.*.run``, ``services.*``): ``kind`` says which
settings hold.

The registries are asked when the settings are read, not when this module is imported: a new kind is its own
module and one registry line, and nothing here knows its name.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

from pydantic import GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

from dcnios_daemon.core.settings import Settings
from dcnios_daemon.exposed import registry as exposed
from dcnios_daemon.sinks import registry as sinks
from dcnios_daemon.sources import registry as sources


class Block(Settings):
    """A source, a ``run`` or a service: its kind, and beside it that kind's settings (a subclass of them)."""

    kind: str


class OneOf:
    """Marks a :class:`Block` field as a union discriminated by ``kind``."""

    def __init__(self, what: str, settings: Callable[[], Mapping[str, type[Settings]]]) -> None:
        self.what = what
        """What people call it, for messages."""
        self._settings = settings

    def kinds(self) -> dict[str, type[Block]]:
        """Kind to its settings with ``kind`` among them."""
        return {kind: _with_kind(kind, settings) for kind, settings in self._settings().items()}

    def __get_pydantic_core_schema__(self, _source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A tagged union: pydantic then reports the mistakes of the one kind that was meant."""
        choices = {kind: handler.generate_schema(block) for kind, block in self.kinds().items()}
        return core_schema.tagged_union_schema(choices, discriminator="kind")


@functools.cache
def _with_kind(kind: str, settings: type[Settings]) -> type[Block]:
    bases: Any = (settings, Block)
    fields: dict[str, Any] = {"kind": (Literal[kind], ...)}
    block: Any = create_model(settings.__name__, __base__=bases, __doc__=settings.__doc__, **fields)
    return cast("type[Block]", block)


SOURCE = OneOf("source", lambda: {kind: entry.settings for kind, entry in sources.KINDS.items()})
RUN = OneOf("run", lambda: {kind: entry.settings for kind, entry in sinks.KINDS.items()})
SERVICE = OneOf("service", lambda: exposed.KINDS)
