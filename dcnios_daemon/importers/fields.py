"""Reads YAML and JSON that others wrote, as texts and with patience: what is wrong is reported, not raised.

Everything is a text until somebody asks what it means, so that ``1.0``, ``0755`` and ``00:55:00`` stay what
they are. Keys are found whatever their case, as OSCAR's own reader does. A field that nobody asked for is
reported when its block is closed: nothing is passed over in silence.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.importers.report import Notes

LIMIT = 16 * 1024 * 1024
"""Characters in a file; a service with all in it has a thousandth of that."""
_KEYS = 100_000
"""In one mapping, those that ``<<`` brings in included."""
_LONGEST_NAME = 400
"""Characters: more than a variable, a label or an annotation may have."""
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_UNFIT = re.compile("[\0\ud800-\udfff]")
_TABS_AT_END = re.compile(r"[ ]*\t[ \t]*(?=\r?$)", re.MULTILINE)
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0", ""})


class _Texts(yaml.SafeLoader):
    """Scalars are texts, whatever their tags say; only ``<<`` means something."""


def _construct(loader: _Texts, node: yaml.Node) -> Any:  # noqa: ANN401 - any YAML
    if isinstance(node, yaml.MappingNode):
        own = [str(key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        loader.flatten_mapping(node)
        if len(node.value) > _KEYS:
            raise yaml.MarkedYAMLError(problem="too many keys", problem_mark=node.start_mark)
        if len(own) != len(set(own)):
            raise yaml.MarkedYAMLError(problem="a key is given twice", problem_mark=node.start_mark)
        return {str(key.value): loader.construct_object(value, deep=True) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [loader.construct_object(item, deep=True) for item in node.value]
    is_null = isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULLS
    return None if is_null else node.value


_Texts.yaml_implicit_resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile(r"<<\Z"))]}
_Texts.yaml_constructors = {None: _construct}


def read_documents(text: str, name: str) -> Sequence[Any]:
    """The documents in a file of YAML or JSON; empty ones are left out.

    Args:
        text: What is in the file.
        name: What to call it in messages.

    Raises:
        ConfigError: It is neither. The message quotes nothing of it, for that may be a credential.
    """
    if len(text) > LIMIT:
        raise ConfigError(f"{name}: has {len(text):,} characters; no more than {LIMIT:,} are read")
    if text.lstrip()[:1] in {"{", "["}:
        try:
            return [json.loads(text, parse_int=str, parse_float=str, parse_constant=str)]
        except (ValueError, RecursionError):
            pass  # perhaps YAML in its flow form, which begins so too
    try:
        return _load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = re.sub(r"'[^']*'", "something", error.problem or "it ends too early")
        raise ConfigError(f"{name}{line}: not YAML: {problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{name}: not YAML: it holds a character that no text has") from None
    except RecursionError:
        raise ConfigError(f"{name}: is nested too deeply") from None


def _load(text: str) -> Sequence[Any]:
    try:
        return [document for document in yaml.load_all(text, _Texts) if document]
    except yaml.scanner.ScannerError:
        trimmed = _TABS_AT_END.sub("", text)  # others read them as what they are: nothing
        if trimmed == text:
            raise
        return [document for document in yaml.load_all(trimmed, _Texts) if document]


class Block:
    """A mapping from a file. Each accessor takes a field away; :meth:`close` reports the rest."""

    def __init__(self, values: Mapping[str, Any], path: str, notes: Notes) -> None:
        self.path = path
        self.notes = notes
        self._values = {key.lower(): (key, value) for key, value in values.items()}
        self._taken: set[str] = set()
        self._entered: set[str] = set()

    def where(self, key: str) -> str:
        """A field's place in the file, spelled as it is there."""
        spelled = self._values.get(key.lower(), (key, None))[0]
        return f"{self.path}.{spelled}" if self.path else spelled

    def names(self) -> Sequence[str]:
        """The fields that are given and not null."""
        return [key for key, value in self._values.values() if value is not None]

    def given(self, key: str) -> bool:
        """Whether the field is there, and not null, empty, false or zero."""
        value = self._values.get(key.lower(), (key, None))[1]
        return bool(value) and not (isinstance(value, str) and value.lower() in {"false", "0"})

    def forget(self, key: str) -> None:
        """Take it away unread: the caller has said what becomes of it."""
        self._entered.add(key.lower())

    def forget_all(self) -> None:
        """The same with all that is left."""
        self._entered.update(self._values)

    def moved(self, notes: Notes) -> "Block":
        """What is left of it, as a whole of its own with its own findings."""
        left = {spelled: value for key, (spelled, value) in self._values.items() if key not in self._taken}
        return Block(left, "", notes)

    def peek(self, key: str) -> Mapping[str, Any]:
        """A mapping, without taking it away; an empty one if it is none."""
        value = self._values.get(key.lower(), (key, None))[1]
        return value if isinstance(value, dict) else {}

    def whole(self, key: str) -> Any:  # noqa: ANN401 - whatever is there
        """Whatever it is, for somebody else to read."""
        self._entered.add(key.lower())
        return self._take(key)

    def _take(self, key: str) -> Any:  # noqa: ANN401 - whatever is there
        self._taken.add(key.lower())
        return self._values.get(key.lower(), (key, None))[1]

    def text(self, key: str) -> str | None:
        """A text, without spaces around it; None when there is none."""
        raw = self.raw(key)
        return (raw.strip() or None) if raw is not None else None

    def raw(self, key: str) -> str | None:
        """A text exactly as it is."""
        return self._text(self._take(key), self.where(key))

    def flag(self, key: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self.text(key)
        if value is None:
            return default
        if value.lower() not in _TRUE | _FALSE:
            self.notes.cannot(self.where(key), "is neither true nor false: taken as it is by default")
            return default
        return value.lower() in _TRUE

    def number(self, key: str) -> float | None:
        """A number, not below zero."""
        value = self.text(key)
        if value is not None and not re.fullmatch(r"\d{1,12}(\.\d{1,12})?", value):
            self.notes.cannot(self.where(key), "is no number: left out")
            return None
        return float(value) if value is not None else None

    def texts(self, key: str) -> list[str]:
        """A list of texts; a single one is a list too."""
        value, where = self._take(key), self.where(key)
        items = value if isinstance(value, list) else [] if value is None else [value]
        found = [self._text(item, f"{where}[{index}]") for index, item in enumerate(items)]
        return [item for item in found if item]

    def pairs(self, key: str) -> dict[str, str]:
        """Texts by name. A null is an empty text."""
        value, where = self._take(key), self.where(key)
        if not self._is(dict, value, where):
            return {}
        named: dict[str, str] = {}
        for name, inner in value.items():
            text = self._text(inner, f"{where}.{name}", null="")
            if len(name) > _LONGEST_NAME or _UNFIT.search(name):
                self.notes.cannot(where, "has a name that is none: left out")
            elif text is not None:
                named[name] = text
        return named

    def block(self, key: str) -> "Block":
        """A mapping; an empty one when there is none. Close it."""
        value, where = self._take(key), self.where(key)
        self._entered.add(key.lower())
        return Block(value if self._is(dict, value, where) else {}, where, self.notes)

    def blocks(self, key: str) -> "list[Block]":
        """A list of mappings; a single one is a list too. Close each."""
        value, where = self._take(key), self.where(key)
        self._entered.add(key.lower())
        items = [value] if isinstance(value, dict) else value
        if not self._is(list, items, where):
            return []
        places = [(item, f"{where}[{index}]") for index, item in enumerate(items)]
        return [Block(item, place, self.notes) for item, place in places if self._is(dict, item, place)]

    def blocks_by_name(self, key: str) -> "dict[str, Block]":
        """Mappings by name. Close each."""
        outer = self.block(key)
        found = {name: outer.block(name) for name in outer.names()}
        outer.close()
        return found

    def close(self) -> None:
        """Report each field that nobody asked for, and as carried over each of which nothing was said."""
        for key in self._values:
            where = self.where(key)
            if not self.given(key) or key in self._entered or self.notes.tells_of(where):
                continue
            if key in self._taken:
                self.notes.carried(where)
            else:
                self.notes.cannot(where, "no such field is known")

    def _text(self, value: object, where: str, *, null: str | None = None) -> str | None:
        if isinstance(value, bool):
            return "true" if value else "false"
        if value is None:
            return null
        if not isinstance(value, str):
            self.notes.cannot(where, f"must be a text, is a {_kind(value)}: left out")
            return None
        if _UNFIT.search(value):
            self.notes.cannot(where, "holds a character that no text has: left out")
            return None
        return value

    def _is(self, wanted: type, value: object, where: str) -> bool:
        if value is not None and not isinstance(value, wanted):
            self.notes.cannot(where, f"must be a {_kind(wanted())}, is a {_kind(value)}: left out")
        return isinstance(value, wanted)


def _kind(value: object) -> str:
    return "block" if isinstance(value, dict) else "list" if isinstance(value, list) else "text"
