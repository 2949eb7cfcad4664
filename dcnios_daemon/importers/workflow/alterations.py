"""What DCNiOS did to events on their way: Merge, Encode, Decode."""

from dcnios_daemon.importers.workflow.elements import Element

_MERGE = (
    "each event goes by itself: OSCAR takes one JSON object at a time, and its supervisor cannot read the "
    "lines that Merge made of several; set the route's rate if that is too fast"
)
_CODED = "data goes byte for byte: what receives it must encode or decode by itself"


def tell_alterations(source: Element) -> None:
    """Report what becomes of a source's alterations."""
    steps: list[tuple[str, str, str]] = []
    for block in source.block.blocks("alterations"):
        action, encoding = block.text("action") or "", (block.text("Encoding") or "base64").lower()
        if action.lower() == "merge":
            source.notes.differently(block.path, _MERGE)
            block.forget_all()
        elif action.lower() in {"encode", "decode"}:
            steps.append((action.lower(), encoding, block.path))
        else:
            source.notes.cannot(block.path, "no such alteration is known")
        block.close()
    _tell_codings(source, steps)


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
