"""The layers, lowest first: defaults, the YAML file, environment variables; secrets may lie in files.

A file is not needed: a sidecar is configured by variables alone. Whatever is wrong, in whichever layer, is
reported at once.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dcnios_daemon.config.checks import Wrong, check, check_files
from dcnios_daemon.config.document import Document, Mistake, Place, read_yaml
from dcnios_daemon.config.environment import PREFIX, EnvironmentSource
from dcnios_daemon.config.model import DaemonSettings, renew
from dcnios_daemon.config.validation import Validator
from dcnios_daemon.core.errors import ConfigError

DEFAULT_FILE = Path("config/daemon.yaml")


Further = Callable[[DaemonSettings, Wrong], None]
"""A check of what is right so far, told where to report what is not."""


def load(
    file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    files: bool = True,
    further: Further | None = None,
) -> DaemonSettings:
    """Read the configuration.

    Args:
        file: The YAML file. None: ``$DCNIOS_CONFIG``, else ``config/daemon.yaml``, else the environment
            alone.
        environ: The environment variables; None: this process's.
        files: Whether files named by ``…_file`` keys must be there. Without: to check a configuration away
            from the machine that has them.
        further: What only those who wire the parts can check; its mistakes are reported with all others.

    Raises:
        ConfigError: Its message has every mistake on a line of its own, with its place.
    """
    environ = os.environ if environ is None else environ
    renew()
    document = _read_file(_chosen(file, environ))
    environment = EnvironmentSource(_Layers, environ, document)
    layers = _Layers(_build_sources=((environment, _FileSource(_Layers, document, environment)), {}))
    validator = Validator(layers.model_extra or {}, [environment.read, document])
    settings = validator.settings()
    check(settings, sources=validator.sources, routes=validator.routes, wrong=validator.wrong)
    if files:
        check_files(settings, validator.wrong)
    if further is not None:
        further(settings, validator.wrong_too)
    mistakes = [*document.mistakes, *environment.read.mistakes, *validator.mistakes]
    if mistakes:
        mistakes.sort(key=lambda mistake: (mistake.place.order, str(mistake)))
        raise ConfigError("\n".join(dict.fromkeys(str(mistake) for mistake in mistakes)))
    return settings


def _chosen(file: Path | None, environ: Mapping[str, str]) -> Path | None:
    if file is not None:
        return file
    if environ.get(f"{PREFIX}CONFIG"):
        return Path(environ[f"{PREFIX}CONFIG"])
    if DEFAULT_FILE.exists():
        return DEFAULT_FILE
    blocks = tuple(f"{PREFIX}{block.upper()}__" for block in DaemonSettings.model_fields)
    if any(f"{name}__".startswith(blocks) for name in environ):
        return None
    raise ConfigError(
        f"{DEFAULT_FILE}: there is none: name a file with --config or {PREFIX}CONFIG, or set variables"
    )


def _read_file(file: Path | None) -> Document:
    if file is None:
        return Document({}, {}, [])
    try:
        return read_yaml(file.read_text("utf-8"), str(file))
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
    except UnicodeDecodeError as error:
        what = f"is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}"
    return Document({}, {}, [Mistake(Place(str(file)), (), what)])


class _Layers(BaseSettings):
    """The layers merged, the first on top; what they mean is the validator's to say."""

    model_config = SettingsConfigDict(extra="allow")


class _FileSource(PydanticBaseSettingsSource):
    """The layer below the environment. ``token`` in one replaces ``token_file`` in the other, both ways."""

    def __init__(
        self, layers: type[BaseSettings], document: Document, environment: EnvironmentSource
    ) -> None:
        super().__init__(layers)
        self._document = document
        self._environment = environment

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Part of the base class, which asks field by field; this one gives all at once, see ``__call__``."""
        return self._document.values.get(field_name), field_name, field.annotation is not None

    def __call__(self) -> dict[str, Any]:
        """The file's values without those that a variable replaces under the other name."""
        values: dict[str, Any] = self._document.values
        for path in self._environment.read.places:
            *above, key = path
            holder: Any = values
            for step in above:
                holder = holder.get(step) if isinstance(holder, dict) else None
            name = str(key)
            other = name.removesuffix("_file") if name.endswith("_file") else f"{name}_file"
            if isinstance(holder, dict) and (*above, other) not in self._environment.read.places:
                holder.pop(other, None)
        return values
