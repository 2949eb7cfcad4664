"""What may stand at a place in the configuration, asked of the types themselves.

Environment variables need it (``SHUTDOWN_GRACE`` is a key with ``_``, ``HALL_B`` a name with ``-``), and so
do good messages: which keys are known there, and which key pydantic means.
"""

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from dcnios_daemon.config.document import Path
from dcnios_daemon.config.kinds import OneOf
from dcnios_daemon.core.settings import Settings


class Shape(msgspec.Struct, frozen=True):
    """What a place takes. All empty: anything that has no keys of its own."""

    model: type[Settings] | None = None
    """Keys that are known beforehand."""
    union: OneOf | None = None
    """Keys that depend on ``kind``."""
    members: Any = None
    """The type of the values of a map, whose keys are free."""
    items: Any = None
    """The type of a list's items."""

    def settled(self, values: object) -> "Shape":
        """Decide a union by the ``kind`` that is there."""
        if self.union is None:
            return self
        kind = values.get("kind") if isinstance(values, Mapping) else None
        block = self.union.kinds().get(kind) if isinstance(kind, str) else None
        return Shape(model=block) if block else self

    def known_keys(self) -> list[str]:
        """The keys known beforehand, ``…_file`` of secrets among them."""
        if self.model is None:
            return ["kind"] if self.union else []
        names = [field.alias or name for name, field in self.model.model_fields.items()]
        return names + [f"{name}_file" for name in self.model.secret_fields()]

    def has_free_names(self) -> bool:
        """Whether it is a map of blocks under names of the operator's own (``sources``, ``stage_out``)."""
        return self.members is not None and shape_of(self.members) != Shape()

    def child(self, key: str | int) -> "Shape":
        """What the key's value may be."""
        inner = self.items if isinstance(key, int) else self.members
        if inner is not None:
            return shape_of(inner)
        for name, field in self.model.model_fields.items() if self.model else ():
            if key == (field.alias or name):
                return _marked(field.metadata) or shape_of(field.annotation)
        return Shape()


def shape_of(annotation: Any) -> Shape:  # noqa: ANN401 - any type
    """What a type takes; of several, the one with keys."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _marked(arguments[1:]) or shape_of(arguments[0])
    if origin in {Union, types.UnionType}:
        shapes = [shape for shape in map(shape_of, arguments) if shape != Shape()]
        return shapes[0] if shapes else Shape()
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return Shape(model=annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return Shape(members=arguments[1])
    if isinstance(origin, type) and issubclass(origin, Sequence | frozenset | set):
        return Shape(items=arguments[0])
    return Shape()


def _marked(marks: Sequence[object]) -> Shape | None:
    unions = [mark for mark in marks if isinstance(mark, OneOf)]
    return Shape(union=unions[0]) if unions else None


def walk(root: type[Settings], values: object, path: Path) -> Shape:
    """The shape at a path.

    Args:
        root: The type of the whole.
        values: What was configured, as far as it goes.
        path: Keys and positions from the root.
    """
    shape = Shape(model=root)
    for key in path:
        shape = shape.settled(values).child(key)
        values = member(values, key)
    return shape.settled(values)


def member(values: object, key: str | int) -> Any:  # noqa: ANN401 - whatever was configured
    """The value below a key or position; None when there is none."""
    if isinstance(values, Mapping):
        return values.get(key)
    if isinstance(values, list) and isinstance(key, int) and key < len(values):
        return values[key]
    return None


def plain_path(values: object, location: Sequence[str | int], *, missing: bool) -> Path:
    """Pydantic's location without what it adds to tell the branches of unions apart.

    Args:
        values: What was validated.
        location: Where pydantic says that the mistake is.
        missing: Whether the last element is a key that is not there but should be.
    """
    path: list[str | int] = []
    for index, key in enumerate(location):
        is_there = key in values if isinstance(values, Mapping) else member(values, key) is not None
        if is_there:
            values = member(values, key)
        if is_there or (missing and index == len(location) - 1):
            path.append(key)
    return tuple(path)
