"""From what was read to typed settings, finding every mistake and not only the first.

Blocks, sources and routes that hold a mistake are set aside and the rest is validated again, so that what the
right ones say about each other is checked too.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dcnios_daemon.config.document import Document, Mistake, Path, Place
from dcnios_daemon.config.environment import variable
from dcnios_daemon.config.model import DaemonSettings
from dcnios_daemon.config.shape import member, plain_path, walk
from dcnios_daemon.config.wording import BLOCK_WANTED, TEXT_WANTED, say
from dcnios_daemon.core.settings import REDACTED

_MAPS = ("sources", "routes", "services")
_ECHOES = ("default_factory_not_called",)
"""Errors that only follow from others."""
_UNTAGGED = ("union_tag_invalid", "union_tag_not_found")


def _block(values: object) -> Mapping[str, Any]:
    return values if isinstance(values, Mapping) else {}


class Validator:
    """Works on the layers merged into one, and knows where each value was written."""

    def __init__(self, values: Mapping[str, Any], layers: Sequence[Document]) -> None:
        self._values: dict[str, Any] = copy.deepcopy(dict(values))
        self._layers = layers
        self._repaired: set[Path] = set()
        self.mistakes: list[Mistake] = []
        self.sources = _block(member(values, "sources"))
        """All sources as they were given, those with mistakes too."""
        self.routes = _block(member(values, "routes"))
        """All routes likewise."""

    def wrong(self, path: Path, what: str) -> None:
        """Note a mistake."""
        self.mistakes.append(Mistake(self.place(path), path, what))

    def wrong_too(self, path: Path, what: str) -> None:
        """Note a mistake unless there is one at that place already: it would be the same in other words."""
        if all(mistake.path != path for mistake in self.mistakes):
            self.wrong(path, what)

    def place(self, path: Path) -> Place:
        """Where the value was written; of one that is not there, where it is missing."""
        for depth in range(len(path), -1, -1):
            for layer in self._layers:
                place = layer.places.get(path[:depth])
                if place is not None and depth == len(path):
                    return place
                if place is not None:
                    label = variable(path) if place.is_variable else place.label
                    return msgspec.structs.replace(place, label=label, text=None)
        return Place("")

    def settings(self) -> DaemonSettings:
        """Validate, noting the mistakes. Given back is what is right, with defaults for what is not."""
        while True:
            try:
                return DaemonSettings.model_validate(self._values)
            except ValidationError as failed:
                errors = [error for error in failed.errors(include_url=False) if error["type"] not in _ECHOES]
                if not self._repair(errors):
                    self._note(errors)
                    for path in {self._path(error) for error in errors}:
                        self._set_aside(path)

    def _path(self, error: ErrorDetails) -> Path:
        missing = error["type"] == "missing"
        path = plain_path(self._values, error["loc"], missing=missing)
        return (*path, "kind") if error["type"] in _UNTAGGED else path

    def _repair(self, errors: Sequence[ErrorDetails]) -> bool:
        """Read values again as they were meant: ``5`` is a text where a text is wanted, and a block with
        nothing in it is a block. Says whether that changed anything.
        """
        changed = False
        for error in errors:
            path = self._path(error)
            text = self.place(path).text
            if path in self._repaired or not path:
                continue
            if error["type"] in TEXT_WANTED and text is not None:
                value: Any = text
            elif error["type"] in BLOCK_WANTED and error["input"] is None:
                value = {}
            else:
                continue
            above: Any = self._values
            for key in path[:-1]:
                above = above[key]
            above[path[-1]] = value
            self._repaired.add(path)
            changed = True
        return changed

    def _note(self, errors: Sequence[ErrorDetails]) -> None:
        said: dict[Path, list[str]] = {}
        for error in errors:
            path = self._path(error)
            holder = walk(DaemonSettings, self._values, path[:-1])
            if holder.model is not None and path and path[-1] in holder.model.secret_fields():
                error["input"] = REDACTED
            sentence = say(error, holder, path[-1] if path else "")
            if sentence not in said.setdefault(path, []):
                said[path].append(sentence)
        for path, sentences in said.items():
            self.wrong(path, ", or ".join(sentences))

    def _set_aside(self, path: Path) -> None:
        """Take out the smallest part that makes sense alone."""
        block = member(self._values, path[0]) if path else None
        if not path:
            self._values.clear()
        elif path[0] in _MAPS and len(path) > 1 and isinstance(block, dict):
            block.pop(path[1], None)
        else:
            self._values.pop(str(path[0]), None)
