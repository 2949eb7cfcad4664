"""Selectors: what a client may ask of the two event streams, and the words of refusal (section 1)."""

from __future__ import annotations

from dataclasses import dataclass

from .replies import ApiError

EVENT_FLAGS = (
    "IN_ACCESS",
    "IN_ATTRIB",
    "IN_CLOSE_WRITE",
    "IN_CLOSE_NOWRITE",
    "IN_CREATE",
    "IN_DELETE",
    "IN_DELETE_SELF",
    "IN_MODIFY",
    "IN_MOVE_SELF",
    "IN_MOVED_FROM",
    "IN_MOVED_TO",
    "IN_OPEN",
)
_MACROS = {
    "IN_ALL_EVENTS": EVENT_FLAGS,
    "IN_CLOSE": ("IN_CLOSE_WRITE", "IN_CLOSE_NOWRITE"),
    "IN_MOVE": ("IN_MOVED_FROM", "IN_MOVED_TO"),
}
_UNSUPPORTED = ("IN_DONT_FOLLOW", "IN_EXCL_UNLINK")
_FLAGS = (*EVENT_FLAGS, *_MACROS, *_UNSUPPORTED, "IN_MASK_ADD", "IN_ONESHOT", "IN_ONLYDIR")

MINIMUM_DELAY, MAXIMUM_DELAY = 1e-6, 300.0
MINIMUM_HZ, MAXIMUM_HZ = 1 / MAXIMUM_DELAY, 1e6


class SelectorError(ApiError):
    """A 400 whose detail starts with one of the prefixes of section 1."""

    def __init__(self, prefix: str, message: str) -> None:
        super().__init__(400, f"{prefix}: {message}")


def _bad_value(message: str) -> SelectorError:
    return SelectorError("Bad selector", f"Bad selector value: {message}")


@dataclass(frozen=True, slots=True)
class Selector:
    """An inotify selector; ``supplied`` is None if the client sent no flags."""

    path: str
    supplied: tuple[str, ...] | None

    @classmethod
    def parse(cls, body: object) -> Selector:
        """Read a selector from JSON; a missing path is a 500 as in dCache (section 1)."""
        if not isinstance(body, dict):
            raise _bad_value(f"Cannot deserialize value of type InotifySelector from {type(body).__name__}")
        for key in body:
            if key not in {"path", "flags"}:
                raise _bad_value(
                    f'Unrecognized field "{key}" (class InotifySelector), not marked as ignorable'
                )
        supplied = _parse_flags(body["flags"]) if "flags" in body else None
        path = body.get("path")
        if "path" in body and not isinstance(path, str):
            raise _bad_value("Cannot deserialize value of type java.lang.String")
        if not isinstance(path, str):
            raise ApiError(500, "Internal error: java.lang.IllegalStateException: path was not specified")
        return cls(path, supplied)

    @property
    def flags(self) -> frozenset[str]:
        """The flags with macros expanded; without any, all 12 events."""
        if self.supplied is None:
            return frozenset(EVENT_FLAGS)
        return frozenset(flag for name in self.supplied for flag in _MACROS.get(name, (name,)))

    def events(self) -> frozenset[str]:
        """Return the events that are selected."""
        return self.flags & frozenset(EVENT_FLAGS)

    def check(self) -> None:
        """Refuse flags that dCache does not support."""
        unsupported = [flag for flag in _UNSUPPORTED if flag in self.flags]
        if unsupported:
            raise SelectorError("Bad selector", f"Unsupported flags: [{', '.join(unsupported)}]")

    def united_with(self, newer: Selector) -> Selector:
        """Return the selector that IN_MASK_ADD stores."""
        union = (self.flags | newer.flags) - {"IN_MASK_ADD"}
        return Selector(newer.path, tuple(flag for flag in _FLAGS if flag in union))

    def described(self) -> dict[str, object]:
        """Return the JSON of the subscription."""
        if self.supplied is None:
            return {"path": self.path}
        return {"path": self.path, "flags": list(self.supplied)}


def _parse_flags(flags: object) -> tuple[str, ...]:
    if not isinstance(flags, list):
        raise _bad_value("Cannot deserialize value of type java.util.EnumSet")
    for flag in flags:
        if flag not in _FLAGS:
            raise _bad_value(
                f'Cannot deserialize value of type AddWatchFlag from String "{flag}": '
                f"not one of the values accepted for Enum class: [{', '.join(sorted(_FLAGS))}]"
            )
    return tuple(flag for flag in _FLAGS if flag in flags)


@dataclass(frozen=True, slots=True)
class Beat:
    """A metronome selector: exactly one of delay and frequency (section 1)."""

    delay: float | None
    frequency: float | None
    message: str | None
    count: int

    @classmethod
    def parse(cls, body: object) -> Beat:
        """Read a selector from JSON and check its limits."""
        if not isinstance(body, dict):
            raise ApiError(400, "Bad selector value: Cannot construct instance of Selector")
        for key in body:
            if key not in {"delay", "frequency", "message", "count"}:
                raise ApiError(400, f'Bad selector value: Unrecognized field "{key}" (class Selector)')
        message = body.get("message")
        if message is not None and not isinstance(message, str):
            raise ApiError(400, "Bad selector value: Cannot deserialize value of type java.lang.String")
        beat = cls(
            _number(body, "delay"), _number(body, "frequency"), message, int(_number(body, "count") or 0)
        )
        beat.check()
        return beat

    def check(self) -> None:
        """Refuse what ``Selector.validationError`` refuses."""
        if self.frequency is None and self.delay is None:
            raise SelectorError("Bad selector", 'either "frequency" or "delay" must be specified')
        if self.frequency is not None and self.delay is not None:
            raise SelectorError("Bad selector", '"frequency" and "delay" cannot both be specified')
        _check_range("frequency", self.frequency, MINIMUM_HZ, MAXIMUM_HZ)
        _check_range("delay", self.delay, MINIMUM_DELAY, MAXIMUM_DELAY)
        if self.message == "":
            raise SelectorError("Bad selector", '"message" cannot be empty')
        if self.count < 0:
            raise SelectorError("Bad selector", '"count" must be non-negative')

    def interval(self) -> float:
        """Return the seconds between two ticks."""
        return self.delay if self.delay is not None else 1 / (self.frequency or 1)

    def described(self) -> dict[str, object]:
        """Return the JSON of the subscription."""
        named = {
            "frequency": self.frequency,
            "delay": self.delay,
            "message": self.message,
            "count": self.count or None,
        }
        return {name: value for name, value in named.items() if value is not None}


def _number(body: dict[str, object], key: str) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ApiError(400, f"Bad selector value: Cannot deserialize value of {key} from {value!r}")
    return float(value)


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is None:
        return
    if value < low:
        raise SelectorError("Bad selector", f'"{name}" is too small (less than {low:g})')
    if value > high:
        raise SelectorError("Bad selector", f'"{name}" is too big (more than {high:g})')
