"""YAML with a place for every value, so that each mistake can be shown where it was made.

It is YAML as people mean it: ``on``, ``yes`` and ``00:55:00`` are texts, only ``true`` and ``false`` are
booleans, keys are always texts, and a key given twice is a mistake instead of a silent loss.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import yaml

Path = tuple[str | int, ...]
"""The keys and list positions that lead to a value."""


class Place(msgspec.Struct, frozen=True):
    """Where a value was written."""

    label: str
    """``config/daemon.yaml:12`` or the name of an environment variable."""
    order: tuple[int, int, str] = (0, 0, "")
    """Sorts mistakes as they stand: the file by lines, then the environment by names."""
    text: str | None = None
    """A plain scalar as it was written, before anyone took it for a number."""

    @property
    def is_variable(self) -> bool:
        """Whether it is an environment variable."""
        return self.order[0] == 1


class Mistake(msgspec.Struct, frozen=True):
    """One thing to be put right."""

    place: Place
    path: Path
    what: str

    def __str__(self) -> str:
        """On one line, whatever it quotes."""
        keys = ".".join(str(key) for key in self.path)
        line = ": ".join(part for part in (self.place.label, keys, self.what) if part)
        return " ".join(line.split())


class Document(msgspec.Struct):
    """What was read from one origin."""

    values: Any
    places: dict[Path, Place]
    mistakes: list[Mistake]


class _Loader(yaml.SafeLoader):
    """Finds nodes and marks only; what plain scalars mean is said by the resolvers below."""


_Loader.yaml_implicit_resolvers = {}
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_FLOAT = r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
for _type, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _type, re.compile(rf"(?:{_pattern})\Z"), _first)


def read_yaml(text: str, name: str) -> Document:
    """Parse a configuration file.

    Args:
        text: Its text.
        name: What to call it in places.
    """
    reader = _Reader(lambda line: Place(f"{name}:{line + 1}", (0, line, "")))
    document = reader.read(text)
    if document.values is None:
        document.values = {}
    if not isinstance(document.values, dict):
        document.mistakes.append(Mistake(Place(f"{name}:1"), (), "must be keys with values"))
        document.values = {}
    return document


def read_flow(text: str, name: str, path: Path) -> tuple[Any, dict[Path, Place]]:
    """The value of a variable that looks like a list or a block in YAML's flow form (or JSON).

    Text that is none, after all, is a text: a script may begin with a bracket too.
    """
    whole = Place(name, (1, 0, name), text)
    reader = _Reader(lambda _: Place(name, (1, 0, name)))
    document = reader.read(text, path)
    if document.mistakes:
        return text, {path: whole}
    return document.values, document.places | {path: whole}


def scalar(text: str) -> Any:  # noqa: ANN401 - whatever it looks like
    """What a bare text means where its type is open: null, a boolean, a number or itself.

    >>> scalar("5"), scalar("true"), scalar("on"), scalar("00:55:00")
    (5, True, 'on', '00:55:00')
    """
    resolver = _Loader("")
    try:
        tag = resolver.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return _meaning(tag, text)
    finally:
        resolver.dispose()


def _meaning(tag: str, text: str) -> Any:  # noqa: ANN401 - see scalar
    kind = tag.removeprefix(_TAG)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind in {"int", "float"}:
        return {"int": int, "float": float}[kind](text)
    return text


class _Reader:
    """Walks the nodes of one text once."""

    def __init__(self, place: Callable[[int], Place]) -> None:
        self._place = place
        self._document = Document({}, {}, [])
        self._open: set[int] = set()

    def read(self, text: str, path: Path = ()) -> Document:
        loader = None
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._wrong(self._place(mark.line if mark else 0), (), f"not YAML: {_harmless(error)}")
            return self._document
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position)
            self._wrong(self._place(line), (), "not YAML: it holds a character that no text has")
            return self._document
        finally:
            if loader is not None:
                loader.dispose()
        if node is not None:
            self._document.values = self._value(node, path)
        return self._document

    def _wrong(self, place: Place, path: Path, what: str) -> None:
        self._document.mistakes.append(Mistake(place, path, what))

    def _value(self, node: yaml.Node, path: Path, line: int | None = None) -> Any:  # noqa: ANN401 - any YAML
        line = node.start_mark.line if line is None else line
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        text = str(node.value) if plain else None
        self._document.places[path] = msgspec.structs.replace(self._place(line), text=text)
        if id(node) in self._open:
            self._wrong(self._place(line), path, "holds itself")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node, path, line)
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: yaml.Node, path: Path, line: int) -> Any:  # noqa: ANN401 - see scalar
        if not node.tag.startswith(_TAG):
            self._wrong(
                self._place(line), path, "begins with '!', which YAML takes for a tag: put it in quotes"
            )
            return None
        try:
            return _meaning(node.tag, node.value)
        except ValueError:
            self._wrong(self._place(line), path, "is not what its tag says")
            return None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in self._own(node, path):
            key, line = str(key_node.value), key_node.start_mark.line
            if key in lines:
                self._wrong(
                    self._place(line), (*path, key), f"is given twice, first in line {lines[key] + 1}"
                )
                continue
            lines[key] = line
            values[key] = self._value(value_node, (*path, key), line)
        for key_node, value_node in self._merged(node, path):
            key = str(key_node.value)
            if key not in values:
                values[key] = self._value(value_node, (*path, key), key_node.start_mark.line)
        return values

    def _own(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """Keys written here, not those of ``<<``."""
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(self._place(key.start_mark.line), path, "a key must be a text")
            elif key.tag != _MERGE:
                yield key, value

    def _merged(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """Keys that ``<<: *anchor`` brings in; what is written here, or merged earlier, wins over them."""
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(part, yaml.MappingNode) or id(part) in self._open:
                    line = key.start_mark.line
                    self._wrong(self._place(line), path, "'<<' takes another block, or a list of blocks")
                    continue
                self._open.add(id(part))
                yield from self._own(part, path)
                yield from self._merged(part, path)
                self._open.discard(id(part))


def _harmless(error: yaml.MarkedYAMLError) -> str:
    """What is wrong, without quoting the file: the quoted part may be a credential."""
    if isinstance(error, yaml.composer.ComposerError) and "alias" in (error.problem or ""):
        return "a value that begins with '*' refers to an anchor that is not there: put it in quotes"
    problem = re.sub(r"'([^']*)'", _short, error.problem or "it ends too early")
    return f"{problem}, {error.context}" if error.context else problem


def _short(quoted: re.Match[str]) -> str:
    """What is too short to be a credential, or the parser's own word for a token."""
    return quoted[0] if len(quoted[1]) <= 2 or quoted[1].startswith("<") else "something"  # noqa: PLR2004
