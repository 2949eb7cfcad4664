"""pydantic's errors in our words: what is wrong, and what would be right, without ever showing a secret."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from dcnios_daemon.config.shape import Shape

_NUMBERS = {"int_type": "a whole number", "int_parsing": "a whole number", "int_from_float": "a whole number"}
_NUMBERS |= {"float_type": "a number", "float_parsing": "a number", "finite_number": "a number"}
TEXT_WANTED = frozenset({"string_type", "path_type"})
BLOCK_WANTED = frozenset({"dict_type", "mapping_type", "model_type", "model_attributes_type"})
_LISTS = frozenset({"tuple_type", "list_type", "set_type", "frozen_set_type"})
_BOUNDS = {"greater_than": "above", "greater_than_equal": "at least", "less_than": "below"}
_BOUNDS |= {"less_than_equal": "at most"}


def say(error: ErrorDetails, shape: Shape, key: str | int) -> str:
    """One sentence for an error.

    Args:
        error: From pydantic.
        shape: What the block that holds the key takes.
        key: The key or list position.
    """
    kind, given = error["type"], error["input"]
    context: Mapping[str, Any] = error.get("ctx", {})
    if kind == "extra_forbidden":
        return f"no such key: {suggest(str(key), shape.known_keys())}"
    if kind in _BOUNDS:
        limit = context[{"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt"}.get(kind, "le")]
        return f"must be {_BOUNDS[kind]} {limit:g}, not {brief(given)}"
    if kind in {"enum", "literal_error"}:
        choices = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        return f"{brief(given)} is not known here: {suggest(str(given), choices)}"
    if kind == "union_tag_not_found":
        return f"is missing: known are {', '.join(shape.union.kinds()) if shape.union else ''}"
    if kind == "union_tag_invalid" and shape.union:
        tag = str(context["tag"])
        return f"{tag!r} is no kind of {shape.union.what}: {suggest(tag, shape.union.kinds())}"
    wording = _SENTENCES.get(kind)
    if wording is not None:
        return wording(given)
    if kind == "value_error":
        return str(context["error"])
    return error["msg"].replace("Input should", "must").replace("String should", "must")


def _must_be(what: str) -> Callable[[object], str]:
    return lambda given: f"must be {what}, not {brief(given)}"


def _list_wanted(given: object) -> str:
    example = f": write [{given}]" if isinstance(given, str | int) else ""
    return f"must be a list{example}"


_SENTENCES: dict[str, Callable[[object], str]] = {
    **{kind: _must_be(what) for kind, what in _NUMBERS.items()},
    **dict.fromkeys(_LISTS, _list_wanted),
    **dict.fromkeys(BLOCK_WANTED, _must_be("a block of keys")),
    **dict.fromkeys(("bool_type", "bool_parsing"), _must_be("true or false")),
    "missing": lambda _: "is missing",
    "string_type": _must_be("a text"),
    "path_type": _must_be("a path"),
    "too_short": lambda _: "must not be empty",
}


def brief(value: object) -> str:
    """A value as people would name it; blocks and lists only by their nature."""
    if isinstance(value, Mapping):
        return "a block"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - fits on a line


def suggest(given: str, known: Iterable[str]) -> str:
    """The nearest of what is known, else all of it.

    >>> suggest("imge", ["image", "kind"]), suggest("zzz", ["image", "kind"])
    ("did you mean 'image'?", 'known are image, kind')
    """
    choices = list(known)
    near = difflib.get_close_matches(given, choices, n=1, cutoff=0.7)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are {', '.join(choices)}" if choices else "none are known"
