"""What can be said of a Kafka source in the configuration."""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    StringConstraints,
    model_validator,
)

from dcnios_daemon.core.settings import Settings
from dcnios_daemon.kafka.settings import Bootstrap, KafkaSecurity, Topic, addresses
from dcnios_daemon.sources.kafka.schema_registry import RegistrySettings


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return pattern


def _as_meant(value: object) -> object:
    """A text that says true or false is meant so: an environment variable may hold nothing else."""
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


Pattern = Annotated[str, StringConstraints(min_length=1), AfterValidator(_compiles)]
"""A regular expression, Python's."""
MemberName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
"""What Kafka allows as a static member's name."""


class KafkaSettings(Settings):
    """A ``kafka`` source's block."""

    bootstrap: Annotated[tuple[Bootstrap, ...], Field(min_length=1)]
    """Brokers to begin with, ``host:port``."""
    topics: tuple[Topic, ...] = ()
    """What to read: these, or those of ``pattern``."""
    pattern: Pattern | None = None
    r"""A regular expression that the whole name of a topic must match: ``raw\..*``. A topic that is made
    later is read from its beginning, within a minute. Kafka's own topics (``__...``) never match."""
    group: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    """The consumer group; default ``dcnios-<instance>``. Daemons that share it share the topics."""
    start: Literal["earliest", "latest"] | AwareDatetime = "earliest"
    """Where to begin, at the first start, what the group has never committed anything of: ``earliest``,
    ``latest``, or a time with its zone, ``2026-03-01T00:00:00Z``. It is committed at once."""
    on_lost_offset: Literal["earliest", "latest", "fail"] = "earliest"
    """When the brokers have deleted what was not read yet: go on with the oldest that is left, or with what
    comes from now on, or not at all. It is said and counted in any case."""
    static_member: Annotated[bool | MemberName, BeforeValidator(_as_meant)] = False
    """``true``, or a name (``group.instance.id``) that no other member has: while this daemon restarts, for
    up to a minute, its partitions wait for it and no other daemon is interrupted. Else they move."""
    security: KafkaSecurity = KafkaSecurity()
    registry: RegistrySettings | None = None
    """The schema registry that values refer to. Without one, values are passed on byte for byte."""

    def reads(self, address: str) -> bool:
        """Whether it reads the topic at ``kafka://broker:9092/topic``."""
        topic = address.rpartition("/")[2]
        is_meant = topic in self.topics if self.pattern is None else re.fullmatch(self.pattern, topic)
        return bool(is_meant) and address in addresses(self.bootstrap, topic)

    @model_validator(mode="after")
    def _topics_or_pattern(self) -> Self:
        if bool(self.topics) == (self.pattern is not None):
            raise ValueError("give topics or pattern, one of the two")
        return self
