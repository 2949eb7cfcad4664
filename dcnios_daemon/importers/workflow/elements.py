"""What all elements of a workflow have in common."""

from typing import Any

from dcnios_daemon.importers.fields import Block
from dcnios_daemon.importers.report import Notes


class Element:
    """A source, a destination or a process group, which connections name."""

    def __init__(self, *, kind: str, name: str, block: Block, notes: Notes) -> None:
        self.kind = kind
        """As ``SOURCES`` and ``DESTINATIONS`` have it."""
        self.name = name
        self.block = block
        self.notes = notes
        self.made: Any = None
        """What has become of it; None: nobody asked yet, False: it cannot be."""

    def components(self, meant: dict[str, str]) -> dict[str, float]:
        """The seconds between two runs of those processors that mean something here.

        Args:
            meant: Name of a processor to what its seconds become.
        """
        found = {}
        for block in self.block.blocks("components"):
            name, seconds = block.text("name") or "", block.number("seconds")
            block.forget("node")
            if name in meant and seconds:
                found[name] = seconds
                self.notes.differently(block.path, meant[name])
            else:
                self.notes.differently(block.path, "when and where processors run was NiFi's: not needed")
            block.close()
        return found
