"""Settings from environment variables: ``DCNIOS_SOURCES__UPLOADS__KIND=minio``.

``__`` goes one level down. Case does not matter, and ``-`` is written ``_``: a part means the key in the
file, or the known key, that is the same but for that. A name that only the environment gives becomes small
letters with ``-``; in maps of texts (``env``, ``labels``) it stays as it is written.

A value that begins with ``[`` or ``{`` is YAML's flow form (JSON too); numbers, ``true``, ``false`` and
``null`` are what they look like; all else is a text, and so are these where a text is wanted. An empty
variable counts as not given.

Variables with the prefix that are no settings: ``DCNIOS_CONFIG``; what a run sees (``DCNIOS_EVENT_FILE``,
``DCNIOS_ROUTE``, ``DCNIOS_KEY``, ``DCNIOS_ATTEMPT``); ``DCNIOS_CLIENT…``, ``DCNIOS_STAGE…`` and
``DCNIOS_TEST…``; and those that Kubernetes puts into every pod beside a Service named ``dcnios…``. Any other
is a mistake.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from dcnios_daemon.config.document import Document, Mistake, Path, Place, read_flow, scalar
from dcnios_daemon.config.model import DaemonSettings
from dcnios_daemon.config.shape import Shape, member

PREFIX = "DCNIOS_"
NOT_SETTINGS = frozenset({"CONFIG", "EVENT_FILE", "ROUTE", "KEY", "ATTEMPT"})
NOT_SETTINGS_BEGIN = ("CLIENT", "STAGE", "TEST")

_SERVICE_LINK = re.compile(
    r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)|(\w+_)?PORT"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")


def variable(path: Path) -> str:
    """The variable that sets a key.

    >>> variable(("sources", "hall-b", "access_key"))
    'DCNIOS_SOURCES__HALL_B__ACCESS_KEY'
    """
    return PREFIX + "__".join(str(key).replace("-", "_").upper() for key in path)


class EnvironmentSource(PydanticBaseSettingsSource):
    """The layer above the file."""

    def __init__(self, layers: type[BaseSettings], environ: Mapping[str, str], file: Document) -> None:
        super().__init__(layers)
        self._environ = environ
        self._file = file.values
        self.read = Document({}, {}, [])
        """Filled by calling it."""
        self._taken: dict[Path, str] = {}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Part of the base class, which asks field by field; this one gives all at once, see ``__call__``."""
        return self.read.values.get(field_name), field_name, field.annotation is not None

    def __call__(self) -> dict[str, Any]:
        """Read all variables. Short ones first, and ``kind`` before its siblings: it says what they mean."""
        for name, parts in sorted(self._settings(), key=lambda item: (len(item[1]), item[1][-1] != "KIND")):
            self._take(name, self._path(parts), self._environ[name])
        return dict(self.read.values)

    def _settings(self) -> Iterator[tuple[str, list[str]]]:
        """Names of variables that are settings, with their parts."""
        blocks = set(DaemonSettings.model_fields)
        for name in sorted(self._environ):
            if not name.startswith(PREFIX) or not self._environ[name]:
                continue
            parts = name.removeprefix(PREFIX).upper().split("__")
            if parts[0].lower() not in blocks:
                if not self._is_something_else(name):
                    self._wrong(name, f"no such setting{_did_you_mean(parts)}")
            elif not all(parts):
                self._wrong(name, "no such setting: two underscores go between two names, nowhere else")
            else:
                yield name, name.removeprefix(PREFIX).split("__")

    def _is_something_else(self, name: str) -> bool:
        rest = name.removeprefix(PREFIX)
        if rest in NOT_SETTINGS or rest.startswith(NOT_SETTINGS_BEGIN):
            return True
        link = _SERVICE_LINK.fullmatch(rest)
        return bool(link) and (bool(link and link[2]) or bool(_SERVICE_ADDRESS.match(self._environ[name])))

    def _path(self, parts: list[str]) -> Path:
        path: Path = ()
        shape = Shape(model=DaemonSettings)
        mine, files = self.read.values, self._file
        for part in parts:
            present = {**_block(files), **_block(mine)}
            shape = shape.settled(present)
            key = _key(part, present, shape)
            path = (*path, key)
            shape, mine, files = shape.child(key), member(mine, key), member(files, key)
        return path

    def _take(self, name: str, path: Path, text: str) -> None:
        if path in self._taken:
            self._wrong(name, f"is also given by {self._taken[path]}", path)
            return
        self._taken[path] = name
        level = self.read.values
        for depth, key in enumerate(path[:-1], start=1):
            level = level.setdefault(key, {})
            place = self.read.places.setdefault(path[:depth], Place(name, (1, 0, name)))
            if not isinstance(level, dict):
                self._wrong(name, f"goes below {place.label}, which is no block", path)
                return
        if text.lstrip().startswith(("[", "{")):
            level[path[-1]], places = read_flow(text, name, path)
            self.read.places |= places
        else:
            level[path[-1]] = scalar(text)
            self.read.places[path] = Place(name, (1, 0, name), text)

    def _wrong(self, name: str, what: str, path: Path = ()) -> None:
        self.read.mistakes.append(Mistake(Place(name, (1, 0, name)), path, what))


def _block(values: object) -> Mapping[str, Any]:
    return values if isinstance(values, Mapping) else {}


def _same(key: str) -> str:
    return key.lower().replace("-", "_")


def _key(part: str, present: Mapping[str, Any], shape: Shape) -> str:
    """The key that a variable's part means."""
    if part in present:
        return part
    for key in (*present, *shape.known_keys()):
        if _same(key) == _same(part):
            return key
    if shape.has_free_names():
        return part.lower().replace("_", "-")
    return part if shape.members is not None else part.lower()


def _levels(rest: str, shape: Shape) -> Path:
    """The known keys that a text with single underscores runs through; none if they do not explain it."""
    for key in shape.known_keys():
        if rest == key:
            return (key,)
        below = _levels(rest.removeprefix(f"{key}_"), shape.child(key)) if rest.startswith(f"{key}_") else ()
        if below:
            return (key, *below)
    return (rest,) if shape.has_free_names() and "_" not in rest else ()


def _did_you_mean(parts: list[str]) -> str:
    blocks = [block.upper() for block in DaemonSettings.model_fields]
    levels = _levels("_".join(parts).lower(), Shape(model=DaemonSettings))
    if levels:
        return f": two underscores go one level down, {variable(levels)}"
    near = difflib.get_close_matches(parts[0], blocks, n=1)
    return f": did you mean {PREFIX}{'__'.join([near[0], *parts[1:]])}?" if near else ""
