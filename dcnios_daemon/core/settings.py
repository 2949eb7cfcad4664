"""What every block of the configuration shares: strictness, and secrets given in place or as a file.

A field declared as :class:`Secret` named ``token`` is also reachable as ``token_file``; the file is read
anew at each use, so that a rotated credential is picked up by the next connection.
"""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

REDACTED = "**********"


class Secret:
    """A credential, given as a value or as a file. Its representation never shows it."""

    __slots__ = ("_value", "path")

    def __init__(self, value: str | None = None, *, path: Path | None = None) -> None:
        self._value = value
        self.path = path
        """The file that holds it, if it was given as one."""

    def reveal(self) -> str:
        """The credential itself, without the newline that editors leave at a file's end.

        A file is read at each call: call it off the event loop, or at start.

        Raises:
            OSError: The file cannot be read.
        """
        if self.path is not None:
            return self.path.read_text(encoding="utf-8").rstrip("\r\n")
        return self._value or ""

    def __repr__(self) -> str:
        """Show where it comes from, never what it is."""
        return f"Secret(file {self.path})" if self.path else f"Secret({REDACTED})"

    def __eq__(self, other: object) -> bool:
        """Compare by origin, so that a reload can tell whether settings changed."""
        return isinstance(other, Secret) and (self._value, self.path) == (other._value, other.path)

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash((self._value, self.path))

    @classmethod
    def _validate(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise PydanticKnownError("string_type")
        if not value:
            raise ValueError("a secret is a non-empty text")
        return cls(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept text or a Secret; never print the value again."""
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(_redacted)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """For JSON Schema it is a text that is written but never read back."""
        return {"type": "string", "writeOnly": True}


def _redacted(secret: Secret) -> str:
    return f"file:{secret.path}" if secret.path else REDACTED


def _is_secret(annotation: object) -> bool:
    return annotation is Secret or Secret in getattr(annotation, "__args__", ())


class Settings(BaseModel):
    """A block of the configuration: unknown keys are errors, values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True
    )

    @classmethod
    def secret_fields(cls) -> tuple[str, ...]:
        """The fields that hold a secret, and may therefore also be given as ``<name>_file``."""
        return tuple(name for name, field in cls.model_fields.items() if _is_secret(field.annotation))

    @model_validator(mode="before")
    @classmethod
    def _secret_files(cls, given: object) -> object:
        if not isinstance(given, dict):
            return given
        values: dict[str, Any] = dict(given)
        for name in cls.secret_fields():
            path = values.pop(f"{name}_file", None)
            if path is None:
                continue
            if not isinstance(path, str | Path) or not str(path):
                raise ValueError(f"{name}_file is the path of a file")
            if values.get(name) is not None:
                raise ValueError(f"give {name} or {name}_file, not both")
            values[name] = Secret(path=Path(path))
        return values

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        """Show ``<name>_file`` beside each secret."""
        shown = handler.resolve_ref_schema(handler(schema))
        for name in cls.secret_fields():
            shown.setdefault("properties", {})[f"{name}_file"] = {
                "type": "string",
                "description": f"A file that holds {name}.",
            }
            if name in shown.get("required", ()):
                shown["required"].remove(name)
        return shown
