"""Which routes an event takes: globs over its fields, and over fields inside its data."""

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from dcnios_daemon.core.event import Action, Event

_TOKENS = re.compile(r"\*\*/|\*\*|\*|\?|\[[!^]?\]?[^\]]*\]|.", re.DOTALL)


@functools.lru_cache(maxsize=4096)
def glob(pattern: str) -> Callable[[str], bool]:
    """A test for the pattern: ``*`` and ``?`` stop at ``/``, ``**`` does not, ``**/`` may be nothing.

    >>> glob("inbox/**/*.png")("inbox/a.png"), glob("inbox/*.png")("inbox/a/b.png")
    (True, False)
    """
    special = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def translate(token: str) -> str:
        if token in special:
            return special[token]
        if len(token) > 1:
            inner = token[1:-1].replace("\\", "\\\\")
            return f"[^/{inner[1:]}]" if inner[:1] in {"!", "^"} else f"[{inner}]"
        return re.escape(token)

    matcher = re.compile("".join(translate(token) for token in _TOKENS.findall(pattern)), re.DOTALL)
    return lambda text: matcher.fullmatch(text) is not None


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What a route asks of an event. An empty field asks nothing."""

    sources: frozenset[str]
    subject: str | None = None
    """Glob over the subject."""
    actions: frozenset[Action] = frozenset()
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Attribute name to glob."""
    where: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Dotted path into the JSON data (``Records.0.s3.object.size``) to glob over the value's text."""

    @property
    def is_open(self) -> bool:
        """Whether it takes all events of its sources."""
        return not (self.subject is not None or self.actions or self.attributes or self.where)

    def takes(self, event: Event) -> bool:
        """Whether the event takes this route. Data that is not JSON never satisfies ``where``."""
        return (
            event.source in self.sources
            and (not self.actions or event.action in self.actions)
            and (self.subject is None or glob(self.subject)(event.subject))
            and all(
                glob(pattern)(event.attributes.get(name, "")) for name, pattern in self.attributes.items()
            )
            and (not self.where or _data_satisfies(self.where, event.data))
        )


def _data_satisfies(where: Mapping[str, str], data: bytes) -> bool:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return all(_satisfies(document, path.split("."), pattern) for path, pattern in where.items())


def _satisfies(value: object, path: Sequence[str], pattern: str) -> bool:
    for step in path:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return False
    return glob(pattern)(value if isinstance(value, str) else json.dumps(value))


class Router:
    """All routes together."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        sources = {source for rule in rules.values() for source in rule.sources}
        self._rules = {
            source: [(name, rule) for name, rule in rules.items() if source in rule.sources]
            for source in sources
        }
        self._all = {
            source: tuple([name for name, _ in those])
            for source, those in self._rules.items()
            if all(rule.is_open for _, rule in those)
        }
        """The routes of sources whose events all go the same way."""

    def routes(self, event: Event) -> tuple[str, ...]:
        """The names of the routes that the event takes, in the configuration's order; perhaps none."""
        routes = self._all.get(event.source)
        if routes is None:
            those = self._rules.get(event.source, ())
            routes = tuple([name for name, rule in those if rule.takes(event)])
        return routes
