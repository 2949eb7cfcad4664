"""YAML with comments: what people read, change and keep."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

Path = tuple[str, ...]
_WIDTH = 110
_LITERAL = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]*")
"""Lines that YAML can show as they are."""
_BREAKS = re.compile("[\n\r\x85\u2028\u2029]")
_NUMBER = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?")
"""What the daemon takes for a number; YAML itself has fewer."""
_PLAIN_KEY = re.compile(r"(?!(true|false|null)$)[a-z][a-z0-9_-]*")
_SHORT = 80
"""Characters up to which a list or a block stands on one line."""


class _Dumper(yaml.SafeDumper):
    """Nothing is an alias."""

    def ignore_aliases(self, _data: Any) -> bool:  # noqa: ANN401 - the base class's signature
        """Write each value out."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = '"' if _BREAKS.search(value) else "'" if _NUMBER.fullmatch(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)


_Dumper.add_representer(str, _text)


def to_yaml(
    configuration: Mapping[str, Any], before: Mapping[Path, list[str]], after: Mapping[Path, list[str]]
) -> str:
    """The text of a configuration.

    Args:
        configuration: Plain values.
        before: By path: comments above that key. Below the empty path: at the top.
        after: By path: lines at the end of that block that are commented out.
    """
    head = [f"# {line}".rstrip() for line in before.get((), ())]
    body = list(_block(configuration, (), before, after))
    return "\n".join([*head, *[""] * bool(head), *(body or ["{}"])]) + "\n"


def _block(
    values: Mapping[str, Any], path: Path, before: Mapping[Path, list[str]], after: Mapping[Path, list[str]]
) -> Iterator[str]:
    indent = "  " * len(path)
    touched = {place[: len(path) + 1] for place in (*before, *after) if len(place) > len(path)}
    for number, (key, value) in enumerate(values.items()):
        place = (*path, key)
        if number and not path:
            yield ""
        yield from (f"{indent}# {line}".rstrip() for line in before.get(place, ()))
        short = None if place in touched and value else _on_one_line(key, value)
        if short is not None:
            yield f"{indent}{short}"
        elif isinstance(value, Mapping):
            yield f"{indent}{_key(key)}:"
            yield from _block(value, place, before, after)
        else:
            yield from (f"{indent}{line}" if line else "" for line in _lines(key, value))
    yield from (f"{indent}# {line}".rstrip() for line in after.get(path, ()))


def _on_one_line(key: str, value: object) -> str | None:
    if not isinstance(value, list | dict):
        return None
    line = f"{_key(key)}: {_dump(value, flow=True).strip()}"
    fits = len(line) <= _SHORT or not value  # a block of nothing would be null
    return line if fits and "\n" not in line else None


def _lines(key: str, value: object) -> Sequence[str]:
    if isinstance(value, str) and "\n" in value and value.strip() and _LITERAL.fullmatch(value):
        return _literal(key, value)
    return _dump({key: value}, flow=False).rstrip("\n").split("\n")


def _literal(key: str, value: str) -> Sequence[str]:
    """As it is, line by line."""
    kept = value.rstrip("\n")
    ends = len(value) - len(kept)
    chomping = "-" if not ends else "" if ends == 1 else "+"
    indentation = "2" if value[0] in " \n" else ""
    lines = [f"  {line}" if line else "" for line in kept.split("\n")]
    return [f"{_key(key)}: |{indentation}{chomping}", *lines, *[""] * (ends - 1)]


def _key(text: str) -> str:
    """As people write it: ``on`` is a text to the daemon."""
    return text if _PLAIN_KEY.fullmatch(text) else _dump(text, flow=True).removesuffix("...\n").strip("\n")


def _dump(value: object, *, flow: bool) -> str:
    dumped: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=10**6 if flow else _WIDTH,
        default_flow_style=flow,
    )
    return dumped
