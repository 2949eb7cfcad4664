"""What ``/events/eventTypes`` tells of the two event types (section 1; the schemas of dCache, shortened)."""

from __future__ import annotations

from .selector import EVENT_FLAGS

_DRAFT = "http://json-schema.org/draft-06/schema#"
_MORE = ("IN_ALL_EVENTS", "IN_CLOSE", "IN_MOVE", "IN_DONT_FOLLOW", "IN_EXCL_UNLINK", "IN_MASK_ADD")

DESCRIPTIONS = {
    "inotify": "notification of namespace activity, modelled after inotify(7)",
    "metronome": "a configurable stream of messages",
}

SELECTORS: dict[str, dict[str, object]] = {
    "inotify": {
        "$id": "http://dcache.org/frontend/events/namespaceSelectors#",
        "$schema": _DRAFT,
        "description": "path of a directory to watch",
        "type": "object",
        "required": ["path"],
        "properties": {
            "path": {"pattern": "^/(.*[^/])?$", "type": "string"},
            "flags": {
                "type": "array",
                "items": {"type": "string", "enum": [*EVENT_FLAGS, *_MORE, "IN_ONESHOT", "IN_ONLYDIR"]},
            },
        },
        "additionalProperties": False,
    },
    "metronome": {
        "$id": "http://dcache.org/frontend/events/metronomeSelectors#",
        "$schema": _DRAFT,
        "type": "object",
        "properties": {
            "frequency": {"type": "number"},
            "delay": {"type": "number"},
            "message": {"minLength": 1, "type": "string", "default": "tick"},
            "count": {"type": "number"},
        },
        "oneOf": [{"required": ["frequency"]}, {"required": ["delay"]}],
        "additionalProperties": False,
    },
}

EVENTS: dict[str, dict[str, object]] = {
    "inotify": {
        "$id": "http://dcache.org/frontend/events/namespaceEvents#",
        "$schema": _DRAFT,
        "type": "object",
        "required": ["mask"],
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "cookie": {"type": "string", "minLength": 1},
            "mask": {"type": "array", "items": {"type": "string"}},
        },
    },
    "metronome": {
        "$id": "http://dcache.org/frontend/events/metronomeEvents#",
        "$schema": _DRAFT,
        "type": "string",
    },
}
