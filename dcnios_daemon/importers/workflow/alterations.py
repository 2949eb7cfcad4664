"""What DCNiOS did to events on their way: Merge, Encode, Decode."""

from collections.abc import Mapping
from typing import Any

from dcnios_daemon.importers.fields import Block
from dcnios_daemon.importers.workflow.destinations import Destination
from dcnios_daemon.importers.workflow.elements import Element

_MOST = 1000
"""Events in a batch, at most."""
_LONGEST = 86400.0
_APART = (
    "each event goes to {end} by itself: OSCAR's supervisor cannot read the lines that Merge made. "
    "A batch of ours it can read; it is in the route, commented out, for then no file is fetched, and the "
    "script's input is a JSON object with an events array"
)
_TOGETHER = (
    "a batch, of which {end} gets one JSON object with an events array, where Merge made a line of each event"
)
_CODED = "data goes byte for byte: what receives it must encode or decode by itself"


def take_alterations(source: Element, end: Element, destination: Destination) -> Mapping[str, Any] | None:
    """Report what becomes of a source's alterations on the way to that end. Returns the batch that Merge is,
    if there is one."""
    steps: list[tuple[str, str, str]] = []
    batch: Mapping[str, Any] | None = None
    for block in source.block.blocks("alterations"):
        action, encoding = block.text("action") or "", (block.text("Encoding") or "base64").lower()
        if action.lower() == "merge":
            batch = _batch(block)
            words = _TOGETHER if destination.takes_batches else _APART
            source.notes.differently(block.path, words.format(end=end.name))
        elif action.lower() in {"encode", "decode"}:
            steps.append((action.lower(), encoding, block.path))
        else:
            source.notes.cannot(block.path, "no such alteration is known")
        block.close()
    _tell_codings(source, steps)
    return batch


def _batch(block: Block) -> Mapping[str, Any]:
    """DCNiOS looks once in a window, and takes what there is."""
    most, window = block.number("maxMessages"), block.number("windowSeconds")
    if most is not None and not 1 <= most <= _MOST:
        block.notes.differently(block.where("maxMessages"), f"between 1 and {_MOST:,}")
    size = min(max(1, int(most or 1)), _MOST)
    wait = min(window or 0.0, _LONGEST)
    return {"size": size, "wait": f"{wait:g}s"}


def _tell_codings(source: Element, steps: list[tuple[str, str, str]]) -> None:
    """Those that undo each other are none."""
    left: list[tuple[str, str, str]] = []
    for action, encoding, path in steps:
        if left and left[-1][:2] == ("encode", encoding) and action == "decode":
            source.notes.differently(path, "undoes the encoding before it: both are left out")
            source.notes.differently(left.pop()[2], "is undone by the decoding after it: both are left out")
        else:
            left.append((action, encoding, path))
    for action, encoding, path in left:
        source.notes.cannot(path, f"{action} {encoding}: {_CODED}")
